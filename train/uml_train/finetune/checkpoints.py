"""How far a model's training is, and its state on disk: a killed run goes on and ends where it would have."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from uml_cache import InputError
from uml_train.finetune.backbones import State
from uml_train.heads.grid import Schedule
from uml_train.run import write_atomic


@dataclass(frozen=True)
class Checkpoint:
    """One file: tensors and plain values, read without running code."""

    path: Path

    def write(self, content: dict[str, Any]) -> None:
        """Replace the file; it is whole or as it was."""
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_atomic(self.path, buffer.getvalue())

    def read(self) -> dict[str, Any] | None:
        """What was written last, None where nothing was. Raises `InputError` for a damaged file."""
        if not self.path.exists():
            return None
        try:
            content: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch's reader raises nearly anything on broken bytes
            first = " ".join(str(error).split())[:120]
            raise InputError(
                f"{self.path} is damaged ({first}); delete it, and its model is trained again"
            ) from None
        return content


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
        self.steps = steps
        self.history.append(point)
        if point["val_acc"] > self.best:
            self.best, self.best_step, self.waited = point["val_acc"], steps, 0
            self.best_state = state()
        else:
            self.waited += 1
        self.ended = self.waited >= schedule.patience or steps >= schedule.steps
