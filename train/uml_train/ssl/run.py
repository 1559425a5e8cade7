"""Runs of the objectives `ssl` and `joint`: networks trained without labels or beside few, and probed.

An arm is what networks are trained for: (auxiliaries, method, control, seed), and under `joint` the labelled
draw too. Every candidate of the search is one network of it, kept in `RUN/models`. A cell is a probe of an
arm's networks at some number of labelled samples: fitted on the draw, chosen on its validation rows, and the
chosen network alone is scored on the test rows.

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
from dataclasses import replace
from pathlib import Path
from typing import Any

from uml_cache.command import Output
from uml_cache.errors import InputError
from uml_train.cells import draw_rows
from uml_train.folder import begin, extend_splits, run_lock
from uml_train.given_splits import read_splits, recorded_splits
from uml_train.ranks import Ranks
from uml_train.run import Cell, Run, missing_cells
from uml_train.selection import Role, Selection, select_stores, select_unrelated
from uml_train.settings import UNRELATED, Shots, TrainSettings
from uml_train.ssl.grid import Pretraining, load_pretraining
from uml_train.ssl.problem import SequenceProblem, open_sequences
from uml_train.ssl.work import Work


def train_sequences(settings: TrainSettings, output: Output) -> Run:
    """Train and probe every cell of settings with the objective `ssl` or `joint`; the finished run."""
    ranks = Ranks.of_environment()
    output = output if ranks.first else replace(output, quiet=True)
    grid = load_pretraining(settings.grid, alpha=settings.alpha)
    selection = select_stores(
        settings.cache, settings.dataset, settings.target, settings.auxiliaries, only_tokens=True
    )
    names = [c.removeprefix(UNRELATED) for c in settings.controls if c.startswith(UNRELATED)]
    unrelated = [r for n in names for r in select_unrelated(settings.cache, n, selection, only_tokens=True)]
    standardise = settings.normalize == "standard"
    splits = read_splits(settings.splits) if settings.splits else None
    problem = open_sequences(selection, unrelated, standardise=standardise, splits=splits)
    resolved = _resolve(settings, selection, problem, output)
    ranks.in_turn(lambda: begin(resolved, selection, unrelated, problem.problem, grid))
    run = begin(resolved, selection, unrelated, problem.problem, grid)
    for remark in problem.problem.remarks:
        output.say(remark)
    with run_lock(run.path, output, ranks):
        todo = missing_cells(_cells(run, resolved, grid, resolved.shots or ()), run)
        ranks.wait()  # every process has listed what is missing before one of them adds to it
        Work(run, problem, grid, ranks, output).train(todo)
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
    wanted = _cells(run, settings, grid, shots)
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
    splits = recorded_splits(run.path) if settings.splits else None
    problem = open_sequences(selection, list(left.values()), standardise=standardise, splits=splits)
    for cell in todo:
        draw_rows(problem.problem, cell.shots, cell.seed)
    with run_lock(run.path, output):
        todo = missing_cells(wanted, run)
        Work(run, problem, grid, Ranks(), output).train(todo)
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
    settings: TrainSettings, selection: Selection, problem: SequenceProblem, output: Output
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
    for wanted in shots:
        draw_rows(problem.problem, wanted, settings.seeds[0])
    return replace(
        settings,
        dataset=selection.dataset,
        target=selection.target.label,
        auxiliaries=tuple(tuple(role.label for role in roles) for roles in selection.configurations),
        methods=methods,
        controls=controls,
        shots=shots,
        cache=Path(settings.cache).absolute(),
        out=Path(settings.out).absolute(),
    )


def _cells(run: Run, settings: TrainSettings, grid: Pretraining, shots: Sequence[Shots]) -> list[Cell]:
    """Every cell once, those of one arm together. Tables show a width where a single one is searched."""
    width = grid.width[0] if len(grid.width) == 1 else 0
    configurations = [tuple(labels) for labels in run.config["configurations"]]
    arms: list[tuple[tuple[str, ...], str, str | None]] = []
    for method in settings.methods:
        if method == "unimodal":
            arms.append(((), method, None))
            continue
        controls = (None, *settings.controls) if method == "uml" else (None,)
        arms += [(labels, method, control) for labels in configurations for control in controls]
    return [
        Cell(auxiliaries=a, method=m, control=c, shots=k, seed=seed, shared_width=width)
        for seed in settings.seeds
        for a, m, c in arms
        for k in shots
    ]
