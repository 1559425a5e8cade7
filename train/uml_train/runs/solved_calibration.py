"""What heads cost that are solved: some cells are trained, and those between them are taken by their work."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from uml_train.heads.bank import one_thread
from uml_train.heads.export import head_file
from uml_train.heads.stacks import bytes_of
from uml_train.problem import Problem
from uml_train.protocols.grid import Grid
from uml_train.run import Cell
from uml_train.runs.calibration import Cost
from uml_train.runs.one_cell import train_cell
from uml_train.runs.workers import work_of
from uml_train.settings import TrainSettings

_ENOUGH = 10.0  # seconds that are spent beyond the smallest cells, which are always trained


def solved_costs(
    problem: Problem, settings: TrainSettings, grid: Grid, kinds: Sequence[Cell]
) -> tuple[dict[Cell, Cost], float]:
    """The cost of each kind of cell, and the seconds that the first one of a process takes more.

    Of each method the cells of fewest shots are trained, then those of most, then those between, as long as
    there is time. What is not trained has a time by its work: between two that were trained on a line of
    logarithms, beyond them in proportion.
    """
    groups: dict[Cell, list[Cell]] = {}
    for kind in kinds:
        groups.setdefault(_alike(kind), []).append(kind)
    for group in groups.values():
        group.sort(key=lambda kind: work_of(problem, kind))
    # Smallest, largest and middle ones of all groups, each once.
    ways = (lambda n: [0], lambda n: [n - 1], lambda n: [n // 2], lambda n: range(n))
    order = dict.fromkeys(group[i] for way in ways for group in groups.values() for i in way(len(group)))
    smallest = [group[0] for group in groups.values()]
    known: dict[Cell, Cost] = {}
    first, spent = 0.0, 0.0
    for kind in order:
        if kind not in smallest and spent + _by_work(problem, kind, groups, known) > _ENOUGH:
            continue
        known[kind] = _trained(problem, settings, grid, kind)
        if len(known) == 1 and known[kind].seconds < _ENOUGH / 4:
            first, known[kind] = known[kind].seconds, _trained(problem, settings, grid, kind)
        spent += known[kind].seconds if kind not in smallest else 0.0
    warming = max(0.0, first - known[smallest[0]].seconds)
    costs = {}
    for kind in kinds:
        like = known[groups[_alike(kind)][0]]
        seconds = _by_work(problem, kind, groups, known)
        costs[kind] = replace(like, seconds=seconds, at_most=seconds)
    return costs, warming


def _alike(kind: Cell) -> Cell:
    """What cells share that differ in shots, or in classes that are swapped or made up, alone."""
    return replace(kind, shots=1, control=None if kind.control in ("permuted", "random") else kind.control)


def _trained(problem: Problem, settings: TrainSettings, grid: Grid, kind: Cell) -> Cost:
    began = time.perf_counter()
    with one_thread():
        trained = train_cell(problem, kind, settings, grid)
        weights = trained.fitted[trained.selected].weights
        head_file(weights, trained.streams, trained.normalizers, {})
    seconds = time.perf_counter() - began
    model = trained.prepared.models[0]
    return Cost(seconds, seconds, model.parameters, bytes_of(model))


def _by_work(problem: Problem, kind: Cell, groups: dict[Cell, list[Cell]], known: dict[Cell, Cost]) -> float:
    """Seconds of a cell, by those of its group that were trained."""
    if kind in known:
        return known[kind].seconds
    there = [other for other in groups[_alike(kind)] if other in known]
    work = np.log([work_of(problem, other) for other in there])
    seconds = np.log([known[other].seconds for other in there])
    at = float(np.log(work_of(problem, kind)))
    return float(np.exp(np.interp(at, work, seconds) + max(0.0, at - work[-1])))
