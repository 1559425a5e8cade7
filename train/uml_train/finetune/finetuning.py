"""`fine_tune`: from settings to a finished run folder; `complete`: more cells for a run that exists.

Shapes: n rows of a draw. The folder is that of any run (`uml_train.run`), with `checkpoints/` while it is at
work and `backbones/<cell>/`, the selected networks as folders that `uml extract --encoder` takes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache import QUIET, InputError, Output
from uml_train.finetune.backbones import State
from uml_train.finetune.checkpoints import Checkpoint
from uml_train.finetune.finetune_settings import FinetuneSettings
from uml_train.finetune.session import Part, Session, described, open_session, reopened
from uml_train.finetune.steps import Tuner
from uml_train.finetune.whole_network import Stream, Task
from uml_train.folder import begin, extend_splits, run_lock
from uml_train.heads.bank import Fitted
from uml_train.heads.grid import Grid, load_grid
from uml_train.problem import LeftOut, Source
from uml_train.run import Cell, Run, missing_cells
from uml_train.runs.auto import choose
from uml_train.runs.cells import Prepared, Trained, auxiliary_positions, draw_rows, prepare
from uml_train.runs.combinations import cells_of, named_cells
from uml_train.runs.ranks import Ranks
from uml_train.runs.workers import keep_cell, run_grid
from uml_train.settings import AUTO, Shots, TrainSettings
from uml_train.training import remark_classes

_FAMILY = "finetune-"


def fine_tune(
    settings: TrainSettings,
    tuning: FinetuneSettings,
    *,
    left_out: list[LeftOut] | None = None,
    output: Output = QUIET,
) -> Run:
    """Train a network per cell of the settings and return the finished run.

    Args:
        settings: cells, search and seeds, as of `uml_train.train`; the cache holds the auxiliaries' features.
        tuning: the target's network and samples.
        left_out: takes the rows that are not used.

    Raises:
        InputError: settings that do not go together, data or weights that are missing, classes that do not
            meet, draws larger than the data.
        WorkError: a sample cannot be read any more.
    """
    tuning.check_with(settings)
    settings = settings.stepped()
    ranks = Ranks.of_environment()
    output = output if ranks.first else QUIET
    with ExitStack() as stack:
        session = open_session(settings, tuning, ranks, output, stack)
        resolved = session.settings
        grid = load_grid(resolved.grid, alpha=resolved.alpha, ratio=resolved.ratio, family=_FAMILY)
        _check_batches(grid, session)
        arguments = (
            resolved, session.selection, session.unrelated, session.problem, grid, described(session)
        )  # fmt: skip
        ranks.in_turn(lambda: begin(*arguments))
        run = begin(*arguments)
        remark_classes(session.problem, resolved, output)
        if left_out is not None:
            left_out += session.problem.left_out()
        with run_lock(run.path, output, ranks):
            todo = missing_cells(cells_of(resolved, session.problem, resolved.shots or ()), run)
            _train(run, session, todo, output)
    return run


def complete(
    run: Run, *, shots: Sequence[Shots], cache: Path | None = None, output: Output = QUIET
) -> list[Cell]:
    """Train those cells of a run at `shots` that it lacks, with the run's own settings; returns them.

    Raises:
        InputError: data, weights or stores are gone or have changed since the run.
    """
    settings = run.settings if cache is None else replace(run.settings, cache=cache)
    wanted = named_cells(run, settings, shots)
    todo = missing_cells(wanted, run)
    if not todo:
        return []
    with ExitStack() as stack:
        session = reopened(run, settings, output, stack)
        for cell in todo:
            draw_rows(session.problem, cell.shots, cell.seed)
        with run_lock(run.path, output):
            todo = missing_cells(wanted, run)
            _train(run, session, todo, output)
            extend_splits(run, session.problem, {(cell.shots, cell.seed) for cell in todo})
    return todo


def _check_batches(grid: Grid, session: Session) -> None:
    smallest = min(candidate.batch_size for candidate in grid.candidates)
    if smallest < session.ranks.world:
        raise InputError(
            f"{session.ranks.world} processes share a batch of {smallest}; use fewer, or a larger batch_size"
        )


def _train(run: Run, session: Session, todo: Sequence[Cell], output: Output) -> None:
    began = time.perf_counter()
    grid = run_grid(run)
    to_train = [cell for cell in todo if cell.method != AUTO]
    for folder in ("checkpoints", "backbones"):
        (run.path / folder).mkdir(exist_ok=True)
    session.ranks.wait()
    with output.progress(len(to_train), "cell", "fine-tuning") as bar:
        for cell in to_train:

            def told(step: int, accuracy: float, cell: Cell = cell) -> None:
                bar.set_postfix_str(f"{cell.key}: step {step}, val {accuracy:.1f}")

            bar.set_postfix_str(_train_cell(run, session, grid, cell, told))
            bar.update(1)

    def finish() -> None:
        choose(run, [cell for cell in todo if cell.method == AUTO])
        run.write_tables()

    session.ranks.in_turn(finish)
    if todo:
        count = f"{len(to_train)} cell{'s' * (len(to_train) != 1)}"
        output.say(f"fine-tuned {count} in {time.perf_counter() - began:.0f} s")


def _train_cell(run: Run, session: Session, grid: Grid, cell: Cell, told: Any) -> str:
    began = time.perf_counter()
    prepared = prepare(session.problem, cell, session.settings, grid)
    fitted: list[Fitted] = []
    tuner, state = None, None
    seconds: list[float] = []
    checkpoints = [
        Checkpoint(run.path / "checkpoints" / f"{cell.key}.{i}.pt") for i in range(len(prepared.models))
    ]
    for i, checkpoint in enumerate(checkpoints):
        start = time.perf_counter()
        tuner = _tuner(session, cell, prepared, i, grid)
        found, state = tuner.fit(checkpoint, told)
        fitted.append(found)
        seconds.append(time.perf_counter() - start)
    selected = min(range(len(fitted)), key=lambda i: (-fitted[i].val_acc, fitted[i].best_step, i))
    if tuner is None or state is None or selected != len(fitted) - 1:
        tuner = _tuner(session, cell, prepared, selected, grid)
        _, state = tuner.fit(checkpoints[selected])  # finished: this only brings its best state back
    target = session.problem.target
    predictions = tuner.predict(target.rows[session.problem.test]).astype(np.int32)
    labels = target.labels[session.problem.test]
    trained = Trained(
        prepared=prepared,
        fitted=fitted,
        seconds=seconds,
        selected=selected,
        predictions=predictions,
        test_acc=100.0 * float((predictions == labels).mean()),
    )
    remarks: list[str] = []

    def write() -> None:
        if session.finetune.keep:
            _write_backbones(run, session, cell, tuner, state)
        spent = time.perf_counter() - began
        remarks.append(keep_cell(run, session.problem, grid, cell, session.settings, trained, spent))
        for checkpoint in checkpoints:
            checkpoint.path.unlink(missing_ok=True)

    session.ranks.in_turn(write)
    return remarks[0] if remarks else ""


def _tuner(session: Session, cell: Cell, prepared: Prepared, index: int, grid: Grid) -> Tuner:
    problem, tuned = session.problem, session.tuned
    draw = draw_rows(problem, cell.shots, cell.seed)
    model = prepared.models[index]

    def stream(part: Part, source: Source, positions: np.ndarray, lr: float | None = None) -> Stream:
        return Stream(
            backbone=part.backbone,
            loader=part.loader,
            rows=source.rows[positions],
            lr=lr,
            unit=prepared.normalizers[source.label].unit,
        )

    streams = [stream(session.target, problem.target, draw.train)]
    for samples in model.auxiliaries:
        if tuned is None or samples.name != tuned.role.label:
            streams.append(Stream())
            continue
        source = problem.auxiliaries[samples.name]
        positions = auxiliary_positions(source, cell.seed, session.settings.texts)
        streams.append(stream(tuned, source, positions, session.finetune.aux_lr))
    if session.finetune.recompute:
        for each in streams:
            if each.backbone is not None:
                each.backbone.encoder.checkpoint_gradients()
    return Tuner(
        Task(
            model=model,
            streams=streams,
            validation=problem.target.rows[draw.val],
            unfreeze_at=session.finetune.unfreeze_at,
        ),
        grid.schedule,
        device=session.device,
        precision=session.settings.precision,
        ranks=session.ranks,
        ema=session.finetune.ema,
    )


def _write_backbones(run: Run, session: Session, cell: Cell, tuner: Tuner, state: State) -> None:
    """The target's network under the cell's name; an auxiliary's with its modality behind."""
    for i, stream in enumerate(tuner.task.streams):
        if stream.backbone is None:
            continue
        prefix = f"networks.{i}."
        own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        name = cell.key if i == 0 else f"{cell.key}-{tuner.model.streams[i].name}"
        stream.backbone.write(own, run.path / "backbones" / name)
