"""The cells of a run: every combination that its settings ask for, each once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from uml_train.run import Cell, Run
from uml_train.settings import (
    AUTO,
    CONTROLS,
    LINEAR,
    TRANSFORMER,
    WITH_AUXILIARIES,
    Shots,
    TrainSettings,
)

if TYPE_CHECKING:
    from uml_train.problem import Problem


@dataclass(frozen=True)
class _Configuration:
    labels: tuple[str, ...]
    width: int
    aligned: bool


def cells_of(settings: TrainSettings, problem: Problem, shots: Sequence[Shots]) -> list[Cell]:
    """The cells at `shots`, for a problem whose stores are open."""
    sources = {problem.target.label: problem.target, **problem.auxiliaries}
    known = {label: _space(settings, s.dim, s.token_dim, s.joint_space) for label, s in sources.items()}
    return _table(settings, known, problem.target.label, shots)


def named_cells(run: Run, settings: TrainSettings, shots: Sequence[Shots]) -> list[Cell]:
    """The cells at `shots`, from what a run's configuration says about its stores."""
    known = {
        label: _space(settings, s["dim"], s.get("token_dim"), s.get("joint_space"))
        for label, s in run.config["stores"].items()
    }
    return _table(settings, known, run.config["target"], shots)


def _space(
    settings: TrainSettings, dim: int, token_dim: int | None, joint_space: str | None
) -> tuple[int, int, str | None]:
    """Widths of a store's pooled features and of what a deep trunk sees, and the latter's joint space."""
    if settings.trunk == TRANSFORMER:
        return dim, dim if token_dim is None else token_dim, None
    return dim, dim, joint_space


def _table(
    settings: TrainSettings,
    known: dict[str, tuple[int, int, str | None]],
    target: str,
    shots: Sequence[Shots],
) -> list[Cell]:
    """Every cell once. The unimodal methods do not depend on the auxiliaries, but for the shared space."""
    target_dim, target_width, space = known[target]
    configurations = []
    for labels in settings.auxiliaries or ():
        _, dim, theirs = known[labels[0]]
        aligned = settings.aligned != "off" and space is not None and theirs == space
        configurations.append(_Configuration(labels, dim, aligned))
    spaces = list(dict.fromkeys((c.width, c.aligned) for c in configurations)) or [(target_width, False)]
    cells: list[Cell] = []
    for k in shots:
        for seed in settings.seeds:

            def cell(
                labels: tuple[str, ...],
                method: str,
                control: str | None,
                width: int,
                aligned: bool,
                k: Shots = k,
                seed: int = seed,
            ) -> Cell:
                return Cell(
                    auxiliaries=labels,
                    method=method,
                    control=control,
                    shots=k,
                    seed=seed,
                    shared_width=width,
                    aligned=aligned,
                )

            for method in settings.methods:
                if method in LINEAR and method not in WITH_AUXILIARIES:
                    # The same kind of network as the others: of unit vectors, where theirs is.
                    aligned = any(c.aligned for c in configurations)
                    own = tuple(c for c in settings.controls if c in CONTROLS)  # the others need an auxiliary
                    controls = (None, *own) if method in settings.controlled else (None,)
                    cells += [cell((), method, x, target_dim, aligned) for x in controls]
                elif method not in (*WITH_AUXILIARIES, AUTO):
                    cells += [cell((), method, None, *space_) for space_ in spaces]
                else:
                    controls = (None, *settings.controls) if method in settings.controlled else (None,)
                    cells += [
                        cell(c.labels, method, x, c.width, c.aligned)
                        for c in configurations
                        for x in controls
                    ]
    return cells
