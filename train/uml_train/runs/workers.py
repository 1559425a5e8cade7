"""Cells over processes: each cell is trained whole by one process, and the process that waits writes it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from uml_cache import (
    InputError,
    Output,
    Progress,
    WorkError,
    available_cores,
    deaf_to_interrupts,
    no_processes,
    process_pool,
    store_info,
)
from uml_train.data.selection import Role
from uml_train.heads.bank import HeadBank, one_thread
from uml_train.heads.export import head_file
from uml_train.heads.models import Fitted
from uml_train.problem import Problem
from uml_train.protocols.grid import Grid
from uml_train.record.identity import content_of
from uml_train.record.keeping import Finished
from uml_train.run import Cell, CellResult, Run
from uml_train.runs.cells import Trained, prepare
from uml_train.runs.one_cell import finish, train_cell
from uml_train.runs.outcome import cell_result
from uml_train.runs.settled.recorded import run_grid
from uml_train.runs.settled.reopening import open_recorded, selection_of
from uml_train.settings import LINEAR, TRANSFORMER, TrainSettings

# Starting a process costs some seconds of imports; less work than this stays in one.
_WORTH_A_PROCESS = 20_000  # model-steps
_SEQUENCE = 20  # steps of pooled features that one of sequences is worth, about
_WORTH_A_PROCESS_SOLVED = 1e9  # multiplications of one step, over all cells
_MODELS_AT_ONCE = 2_000

Told = tuple[Finished, str]
"""A finished cell and a remark on it."""


def train_cells(
    run: Run,
    problem: Problem,
    cells: Sequence[Cell],
    stores: Mapping[str, Path],
    bar: Progress,
    output: Output,
    *,
    alone: bool = True,
) -> Iterator[Finished]:
    """Train cells on all cores at hand, or on the GPU, and give each as it is done.

    Args:
        stores: where the run's stores are, by label, for processes that open them once more.
        alone: whether no other process trains cells of the run, so that all cores are ours.

    Raises:
        WorkError: a process died, or found a store that is not what the run was begun with.
    """
    grid = run_grid(run)
    if chosen_device(run.settings.device) == "cuda" and not grid.points:
        found = train_together(run, problem, grid, cells, device="cuda")
    else:
        processes = processes_of(problem, cells, grid, run.settings.trunk) if alone else 1
        if processes > 1 and (reason := no_processes()):
            output.say(f"{reason}; training in one process")
            processes = 1
        if processes > 1:
            found = _in_processes(run, cells, processes, stores)
        else:
            found = (_train_one(run, problem, grid, cell) for cell in cells)
    for finished, remark in found:
        yield finished
        bar.set_postfix_str(remark)
        bar.update(1)


def processes_for(cells: int, grid: Grid, trunk: str) -> int:
    """How many processes train so many cells on this machine's cores."""
    work = cells * grid.size * grid.schedule.steps * (_SEQUENCE if trunk == TRANSFORMER else 1)
    return max(1, min(available_cores(), cells)) if work >= _WORTH_A_PROCESS else 1


def processes_of(problem: Problem, cells: Sequence[Cell], grid: Grid, trunk: str) -> int:
    """How many processes train these cells; where heads are solved, by how large they are."""
    if not grid.points:
        return processes_for(len(cells), grid, trunk)
    work = sum(work_of(problem, cell) for cell in cells)
    return max(1, min(available_cores(), len(cells))) if work >= _WORTH_A_PROCESS_SOLVED else 1


def work_of(problem: Problem, cell: Cell) -> float:
    """About how many multiplications one step of a cell takes."""
    classes = len(problem.classes)
    rows = len(problem.train) if cell.shots == "all" else cell.shots * classes
    own = rows * min(rows, problem.target.dim) * classes
    return own + sum(len(problem.auxiliaries[a].rows) * 2 * classes * classes for a in cell.auxiliaries)


def chosen_device(device: str) -> str:
    """`cpu` or `cuda`. Raises `InputError` where CUDA is asked for and there is none."""
    import torch

    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise InputError("--device is cuda, and torch finds no CUDA device; --device cpu trains here")
    return "cuda" if there and device == "auto" else "cpu" if device == "auto" else device


def train_together(
    run: Run, problem: Problem, grid: Grid, cells: Sequence[Cell], *, device: str
) -> Iterator[Told]:
    """Train the models of many cells as one stacked bank; each cell is given as its last model finishes.

    Cells are taken some thousand models at a time, so that their rows need not all be in memory.
    """
    settings = run.settings
    at_once = max(1, _MODELS_AT_ONCE // len(grid.candidates))
    for start in range(0, len(cells), at_once):
        part = cells[start : start + at_once]
        prepared = [prepare(problem, cell, settings, grid, copies=len(part)) for cell in part]
        owner = [(c, i) for c, p in enumerate(prepared) for i in range(len(p.models))]
        fitted: list[dict[int, Fitted]] = [{} for _ in part]
        began = time.perf_counter()
        bank = HeadBank(
            [m for p in prepared for m in p.models],
            grid.schedule,
            device=device,
            stacked=True,
            precision=settings.precision,
        )
        for index, result in bank.finished():
            c, i = owner[index]
            fitted[c][i] = result
            if len(fitted[c]) < len(prepared[c].models):
                continue
            # The models share the device: each is said to have cost its part of the time until now.
            spent = (time.perf_counter() - began) / sum(map(len, fitted))
            models = [fitted[c][k] for k in range(len(prepared[c].models))]
            trained = finish(problem, prepared[c], models, [spent] * len(models))
            yield finished_cell(run, problem, grid, part[c], settings, trained, spent * len(models))
            prepared[c].models.clear()
            fitted[c] = dict.fromkeys(fitted[c], models[trained.selected])


def _in_processes(
    run: Run, cells: Sequence[Cell], processes: int, stores: Mapping[str, Path]
) -> Iterator[Told]:
    # Long cells first would finish sooner together, but the order given keeps the early ones early.
    # Records of cells are written last, so nothing half is left of those under way when the pool ends.
    with process_pool(processes, _start_worker, run.path, stores) as pool:
        try:
            with deaf_to_interrupts():  # the processes are started now
                waiting: set[Future[Told]] = {pool.submit(_train_in_worker, cell) for cell in cells}
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        except BrokenProcessPool:
            raise WorkError(
                "a training process died (out of memory?); finished cells are kept. Run the same command "
                "again to "
                "continue"
            ) from None


_worker: dict[str, Any] = {}


def _start_worker(path: Path, stores: Mapping[str, Path]) -> None:
    try:
        run = Run(path)
        roles = {label: Role(label, store_info(store)) for label, store in stores.items()}
        for label, role in roles.items():
            if content_of(role.store) != run.config["stores"][label]["fingerprint"]:
                raise WorkError(f"{role.store.path} was changed while a run trained on it; train again")
        problem = open_recorded(run, *selection_of(run, roles))
        _worker.update(run=run, problem=problem, grid=run_grid(run))
    except (InputError, WorkError) as error:
        _worker.update(error=error)  # an initializer that raises says nothing to the process that waits


def _train_in_worker(cell: Cell) -> Told:
    if "error" in _worker:
        raise _worker["error"]
    return _train_one(_worker["run"], _worker["problem"], _worker["grid"], cell)


def _train_one(run: Run, problem: Problem, grid: Grid, cell: Cell) -> Told:
    began = time.perf_counter()
    settings = run.settings
    # Cells side by side have a core each. Torch's other threads would wait for one another there, and that
    # takes processor time: three times as much in all.
    with one_thread():
        trained = train_cell(problem, cell, settings, grid, copies=available_cores())
    return finished_cell(run, problem, grid, cell, settings, trained, time.perf_counter() - began)


def finished_cell(
    run: Run,
    problem: Problem,
    grid: Grid,
    cell: Cell,
    settings: TrainSettings,
    trained: Trained,
    seconds: float,
) -> Told:
    """A trained cell as it is to be written, and a remark for the person who waits; it took `seconds`."""
    result = _record(run, problem, grid, cell, settings, trained, seconds)
    weights = trained.fitted[trained.selected].weights
    about = result.about(run.config["classes"])
    head = head_file(weights, trained.streams, trained.normalizers, about)
    remark = f"{cell.key}: {_remark(result, trained.streams)}"
    return Finished(result, trained.answers, head), remark


def _remark(result: CellResult, streams: Sequence[str]) -> str:
    """How the selected model stands: `val 61.2, image 0.31 (95 %), text 0.05 (99 %)`."""
    last = result.history[result.selected][-1]
    parts = [f"val {result.val_acc:.1f}"]
    parts += [
        f"{name} {last[f'loss.{name}']:.2f} ({last[f'acc.{name}']:.0f} %)"
        for name in streams
        if f"loss.{name}" in last
    ]
    return ", ".join(parts)


def _record(
    run: Run,
    problem: Problem,
    grid: Grid,
    cell: Cell,
    settings: TrainSettings,
    trained: Trained,
    seconds: float,
) -> CellResult:
    return cell_result(
        run,
        problem,
        cell,
        trained.answers,
        candidates=trained.candidates(),
        selected=trained.selected,
        seconds=seconds,
        label_budget=trained.prepared.label_budget,
        history=[fitted.history for fitted in trained.fitted],
        objective=run.config["objective"],
        trunk=settings.trunk if cell.method not in LINEAR else "linear",
        normalize=_normalization(cell, settings),
        texts=settings.texts,
        grid=grid.name,
        injection=trained.prepared.injection,
        solver="full batch" if grid.points else "adamw",
    )


def _normalization(cell: Cell, settings: TrainSettings) -> str:
    return "l2" if cell.aligned and settings.aligned == "normalized" else settings.normalization
