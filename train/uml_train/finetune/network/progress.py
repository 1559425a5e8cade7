"""How far a model's training is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from uml_train.finetune.network.backbones import State
from uml_train.protocols.grid import Schedule


@dataclass(eq=False, kw_only=True)
class Progress:
    """How far a training is, and its best evaluation."""

    best_state: State
    best: float = -1.0
    best_step: int = 0
    waited: int = 0
    steps: int = 0
    ended: bool = False
    history: list[dict[str, float]] = field(default_factory=list)

    def add(
        self, steps: int, point: dict[str, float], state: Callable[[], State], schedule: Schedule
    ) -> None:
        """Note an evaluation after so many steps; `state` is asked for where it is the best so far."""
        self.steps = steps
        self.history.append(point)
        if point["val_acc"] > self.best:
            self.best, self.best_step, self.waited = point["val_acc"], steps, 0
            self.best_state = state()
        else:
            self.waited += 1
        self.ended = self.waited >= schedule.patience or steps >= schedule.steps
