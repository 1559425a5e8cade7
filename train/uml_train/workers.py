"""Cells over processes: each cell is trained whole by one process and written by it, record last."""

from __future__ import annotations

import io
import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache.command import Output
from uml_cache.errors import WorkError
from uml_train.cells import Trained, train_cell
from uml_train.export import head_file
from uml_train.grid import Candidate, Grid, Schedule
from uml_train.problem import Problem
from uml_train.run import Cell, CellResult, Run, write_atomic
from uml_train.settings import WITH_AUXILIARIES, TrainSettings

# Starting a process costs some seconds of imports; less work than this stays in one.
_WORTH_A_PROCESS = 20_000  # model-steps


def train_cells(run: Run, problem: Problem, cells: Sequence[Cell], output: Output) -> None:
    """Train cells on all cores at hand and write each as it is done.

    A killed run loses the cells under way and nothing else.
    """
    grid = run_grid(run)
    per_cell = len(grid.candidates) * grid.schedule.steps
    processes = min(_cores(), len(cells))
    with output.progress(len(cells), "cell", "training") as bar:
        if processes < 2 or per_cell * len(cells) < _WORTH_A_PROCESS:
            for cell in cells:
                bar.set_postfix_str(_train_one(run, problem, grid, cell))
                bar.update(1)
            return
        for remark in _in_processes(run, cells, processes):
            bar.set_postfix_str(remark)
            bar.update(1)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_processes(run: Run, cells: Sequence[Cell], processes: int) -> Iterator[str]:
    # Long cells first would finish sooner together, but the order given keeps the early ones early.
    with ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=_start_worker, initargs=(run.path,)
    ) as pool:
        waiting: set[Future[str]] = {pool.submit(_train_in_worker, cell) for cell in cells}
        try:
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        except BrokenProcessPool:
            raise WorkError(
                "a training process died (out of memory?); what is finished is kept, the same command goes on"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_worker: dict[str, Any] = {}


def _start_worker(path: Path) -> None:
    from uml_train.training import open_run_problem

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    run = Run(path)
    _worker.update(run=run, problem=open_run_problem(run), grid=run_grid(run))


def _train_in_worker(cell: Cell) -> str:
    return _train_one(_worker["run"], _worker["problem"], _worker["grid"], cell)


def run_grid(run: Run) -> Grid:
    """The grid as it was when the run began, whatever its file says now."""
    values = run.config["grid"]
    return Grid(
        name=values["name"],
        candidates=tuple(Candidate(**c) for c in values["candidates"]),
        schedule=Schedule(**values["schedule"]),
    )


def _train_one(run: Run, problem: Problem, grid: Grid, cell: Cell) -> str:
    began = time.perf_counter()
    settings = run.settings
    trained = train_cell(problem, cell, settings, grid)
    result = _record(run, problem, grid, cell, settings, trained, time.perf_counter() - began)
    _write(run, result, trained)
    return f"{cell.key} {result.val_acc:.1f}"


def _record(
    run: Run,
    problem: Problem,
    grid: Grid,
    cell: Cell,
    settings: TrainSettings,
    trained: Trained,
    seconds: float,
) -> CellResult:
    best = trained.fitted[trained.selected]
    sources = {problem.target.label: problem.target, **{a: problem.auxiliaries[a] for a in cell.auxiliaries}}
    return CellResult(
        cell=cell,
        dataset=problem.dataset,
        target=problem.target.label,
        encoders={label: source.encoder for label, source in sources.items()},
        objective="supervised",
        trunk="linear",
        normalize=settings.normalize,
        texts=settings.texts,
        grid=grid.name,
        label_budget=trained.label_budget,
        candidates=trained.candidates(grid, settings.alpha if cell.method in WITH_AUXILIARIES else None),
        selected=trained.selected,
        val_acc=best.val_acc,
        test_acc=trained.test_acc,
        best_step=best.best_step,
        seconds=round(seconds, 4),
        history=[fitted.history for fitted in trained.fitted],
        folder=run.path,
    )


def _write(run: Run, result: CellResult, trained: Trained) -> None:
    cell = result.cell
    about = {
        "classes": run.config["classes"],
        "dataset": result.dataset,
        "target": result.target,
        "encoder": result.encoders[result.target],
        "auxiliaries": list(cell.auxiliaries),
        "method": cell.method,
        "control": cell.control,
        "normalize": result.normalize,
        "trunk": result.trunk,
        "shots": cell.shots,
        "seed": cell.seed,
        "val_acc": result.val_acc,
        "test_acc": result.test_acc,
    }
    weights = trained.fitted[trained.selected].weights
    write_atomic(result.head_path, head_file(weights, trained.streams, trained.normalizers, about))
    buffer = io.BytesIO()
    np.save(buffer, trained.predictions, allow_pickle=False)
    write_atomic(run.path / "predictions" / f"{result.cell.key}.npy", buffer.getvalue())
    record = json.dumps(result.to_json(), ensure_ascii=False)
    write_atomic(run.path / "cells" / f"{result.cell.key}.json", record.encode())
