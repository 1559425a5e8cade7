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

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from uml_cache import InputError, Output
from uml_train.data.given_splits import read_splits
from uml_train.data.selection import Role, Selection, select_stores, select_unrelated
from uml_train.folder import begin, extend_splits, run_lock
from uml_train.pretrain.arms import Arms, sequence_cells
from uml_train.pretrain.searches import Pretraining, load_pretraining
from uml_train.pretrain.sequence_problem import open_sequences
from uml_train.pretrain.work import Work
from uml_train.problem import LeftOut, Problem
from uml_train.run import Cell, Run, missing_cells
from uml_train.runs.cells import draw_rows
from uml_train.runs.ranks import Ranks
from uml_train.settings import UNRELATED, Shots, TrainSettings
from uml_train.training import splits_of, with_defaults


@dataclass(frozen=True, eq=False)
class Prepared:
    """A run before it is begun: its stores, and its arms with every default of the settings resolved."""

    selection: Selection
    unrelated: list[Role]
    arms: Arms

    @property
    def cells(self) -> list[Cell]:
        """Every cell of the settings."""
        settings = self.arms.settings
        return sequence_cells(settings, self.arms.grid, settings.shots or ())


def prepare_sequences(settings: TrainSettings, output: Output) -> Prepared:
    """Open the stores of settings with the objective `ssl` or `joint`; nothing is written."""
    grid = load_pretraining(settings.grid, alpha=settings.alpha)
    selection = select_stores(
        settings.cache, settings.dataset, settings.target, settings.auxiliaries, only_tokens=True
    )
    names = [c.removeprefix(UNRELATED) for c in settings.controls if c.startswith(UNRELATED)]
    unrelated = [r for n in names for r in select_unrelated(settings.cache, n, selection, only_tokens=True)]
    standardise = settings.normalize == "standard"
    splits = read_splits(settings.splits) if settings.splits else None
    problem = open_sequences(selection, unrelated, standardise=standardise, splits=splits, ids=settings.ids)
    for remark in problem.problem.remarks:
        output.say(remark)
    resolved = _resolve(settings, selection, problem.problem, output)
    return Prepared(selection, unrelated, Arms(problem, grid, resolved))


def train_sequences(settings: TrainSettings, output: Output, left_out: list[LeftOut] | None = None) -> Run:
    """Train and probe every cell of settings with the objective `ssl` or `joint`; the finished run."""
    ranks = Ranks.of_environment()
    output = output if ranks.first else replace(output, quiet=True)
    prepared = prepare_sequences(settings, output)
    arms, problem = prepared.arms, prepared.arms.problem.problem
    if left_out is not None:
        left_out += problem.left_out()
    started = (arms.settings, prepared.selection, prepared.unrelated, problem, arms.grid)
    ranks.in_turn(lambda: begin(*started))
    run = begin(*started)
    with run_lock(run.path, output, ranks):
        todo = missing_cells(prepared.cells, run)
        ranks.wait()  # every process has listed what is missing before one of them adds to it
        Work(run, arms, ranks, output).train(todo)
        ranks.in_turn(run.write_tables)
    return run


def complete_sequences(
    run: Run, shots: Sequence[Shots], roles: dict[str, Role], settings: TrainSettings, output: Output
) -> list[Cell]:
    """Probe (and under `joint` train) those cells of a run at `shots` that it lacks; returns them.

    Args:
        roles: the run's stores by label, where they are now.
    """
    grid = load_pretraining_of(run)
    wanted = sequence_cells(settings, grid, shots)
    todo = missing_cells(wanted, run)
    if not todo:
        return []
    left = dict(roles)
    target = left.pop(run.config["target"])
    configurations = tuple(tuple(roles[a] for a in labels) for labels in run.config["configurations"])
    selection = Selection(run.config["dataset"], target, configurations)
    for role in selection.auxiliaries:
        del left[role.label]
    standardise = settings.normalize == "standard"
    problem = open_sequences(
        selection, list(left.values()), standardise=standardise, splits=splits_of(run), ids=settings.ids
    )
    for cell in todo:
        draw_rows(problem.problem, cell.shots, cell.seed)
    with run_lock(run.path, output):
        todo = missing_cells(wanted, run)
        Work(run, Arms(problem, grid, settings), Ranks(), output).train(todo)
        run.write_tables()
        extend_splits(run, problem.problem, {(c.shots, c.seed) for c in todo if c.shots != "all"})
    return todo


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
    settings = replace(settings, methods=methods, controls=controls)
    return with_defaults(settings, selection, problem, shots)
