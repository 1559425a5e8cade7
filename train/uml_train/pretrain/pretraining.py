"""Runs of the objectives `ssl` and `joint`: networks trained without labels or beside few, and probed.

A cell is a probe of an arm's networks (`uml_train.pretrain.arms`) at some number of labelled samples: fitted
on the draw, chosen on its validation rows, and the chosen network alone is scored on the test rows.

| objective | method | losses |
|---|---|---|
| ssl | `unimodal` | next token of the target |
| ssl | `uml` | next token of the target + λ · next token of every auxiliary |
| joint | `unimodal` | classes of the labelled target samples |
| joint | `self-supervised` | next token of the same samples + next token of every auxiliary |
| joint | `uml` | classes + λ · (next token of the same samples + next token of every auxiliary) |

The network and the number of target batches are the same for all methods of an objective.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from uml_cache import InputError, Output, Progress
from uml_train.data.given_splits import read_splits
from uml_train.data.selection import Selection, select_stores
from uml_train.pretrain.arms import Arms, sequence_cells
from uml_train.pretrain.searches import Pretraining, load_pretraining
from uml_train.pretrain.sequence_problem import open_sequences
from uml_train.pretrain.work import Work
from uml_train.problem import Problem
from uml_train.record.identity import require_content
from uml_train.record.keeping import Finished
from uml_train.run import Cell, Run
from uml_train.runs.ranks import Ranks
from uml_train.runs.session import Session
from uml_train.runs.settled.reopening import recorded_selection, splits_of
from uml_train.runs.settled.resolving import unrelated_roles, with_defaults
from uml_train.settings import Shots, TrainSettings


@dataclass(eq=False, kw_only=True)
class NetworkSession(Session):
    """Networks of arms, each trained by all processes together, and the probes that are its cells."""

    grid: Pretraining
    arms: Arms

    unit = "step"

    def cells(self) -> list[Cell]:
        """Every cell of the settings."""
        return sequence_cells(self.settings, self.grid, self.settings.shots or ())

    def amount(self, cells: Sequence[Cell]) -> int:
        """The steps of all networks that the cells need."""
        return self.arms.steps(cells)

    def results(self, run: Run, cells: Sequence[Cell], bar: Progress) -> Generator[Finished, None, None]:
        """Train the networks of the cells, probe them, and give each cell as it is done."""
        yield from Work(run, self.arms, self.ranks, self.output).results(cells, bar)


def open_networks(settings: TrainSettings, ranks: Ranks, output: Output) -> NetworkSession:
    """Open the stores of settings with the objective `ssl` or `joint`; nothing is written."""
    grid = load_pretraining(settings.grid, alpha=settings.alpha)
    selection = select_stores(
        settings.cache, settings.dataset, settings.target, settings.auxiliaries, only_tokens=True
    )
    unrelated = unrelated_roles(settings, selection, only_tokens=True)
    standardise = settings.normalize == "standard"
    splits = read_splits(settings.splits) if settings.splits else None
    sequences = open_sequences(
        selection, unrelated, standardise=standardise, splits=splits, ids=settings.ids,
        short_classes=settings.short_classes,
    )  # fmt: skip
    for remark in sequences.problem.remarks:
        output.say(remark)
    resolved = _resolve(settings, selection, sequences.problem, output)
    return NetworkSession(
        settings=resolved,
        selection=selection,
        unrelated=unrelated,
        problem=sequences.problem,
        grid=grid,
        arms=Arms(sequences, grid, resolved),
        ranks=ranks,
        output=output,
    )


def reopen_networks(run: Run, cache: Path | None, output: Output) -> NetworkSession:
    """What a run without heads was trained on. Raises `InputError` where a store is gone or has changed."""
    require_content(run)
    settings = run.settings if cache is None else replace(run.settings, cache=cache)
    selection, unrelated = recorded_selection(run, cache)
    grid = load_pretraining_of(run)
    standardise = settings.normalize == "standard"
    sequences = open_sequences(
        selection, unrelated, standardise=standardise, splits=splits_of(run), ids=settings.ids,
        short_classes=settings.short_classes,
    )  # fmt: skip
    return NetworkSession(
        settings=settings,
        selection=selection,
        unrelated=unrelated,
        problem=sequences.problem,
        grid=grid,
        arms=Arms(sequences, grid, settings),
        ranks=Ranks(),
        output=output,
    )


def network_cells(run: Run, shots: Sequence[Shots]) -> list[Cell]:
    """The cells at `shots` of a run whose stores need not be there."""
    return sequence_cells(run.settings, load_pretraining_of(run), shots)


def load_pretraining_of(run: Run) -> Pretraining:
    """The search that a run's configuration records."""
    recorded: dict[str, Any] = run.config["grid"]
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in recorded.items()}
    del values["candidates"]
    return Pretraining(**values)


def _resolve(
    settings: TrainSettings, selection: Selection, problem: Problem, output: Output
) -> TrainSettings:
    methods, controls = settings.methods, settings.controls
    if not selection.configurations:
        methods, controls = tuple(m for m in methods if m == "unimodal"), ()
        if not methods:
            raise InputError(
                f"{', '.join(settings.methods)} need another modality with tokens beside "
                f"{selection.target.label}; add one with `uml extract --tokens`"
            )
        output.say(
            f"only {selection.target.label} of {selection.dataset} has tokens: training unimodal alone"
        )
    shots: tuple[Shots, ...] = settings.shots or (("all",) if settings.objective == "ssl" else (4,))
    return with_defaults(replace(settings, methods=methods, controls=controls), selection, problem, shots)
