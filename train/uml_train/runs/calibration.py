"""What heads cost that are trained by steps: some are timed for a few steps, and some trained to their end.

Few steps tell what all steps of the schedule would take. How many of them a model takes before it stops early
depends on data and learning rate, and only training tells.
"""

from __future__ import annotations

import time
from bisect import bisect
from collections import Counter
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from uml_train.data.batches import BatchPlan
from uml_train.heads.bank import HeadBank
from uml_train.heads.export import head_file
from uml_train.heads.models import Fitted, HeadModel
from uml_train.heads.stacks import bytes_of
from uml_train.problem import Problem
from uml_train.protocols.grid import Grid, Schedule
from uml_train.run import Cell
from uml_train.runs.cells import prepare, shown_test
from uml_train.settings import TrainSettings

_STEPS = 30  # of each kind of model, or as many as fit into the time for its calibration
_CALIBRATION = 0.15  # seconds
# Models are trained to their end until there are so many and they took so long, by the first pair that holds.
_PILOTS = ((6, 0.1), (4, 0.3))  # models, and their part of what the run would take without early stopping
_LONG = 15.0  # seconds; four models that took as long are enough
_MOST = 40  # models
_TOO_LONG = 120.0  # seconds of a single model's schedule from which on none is trained to its end


@dataclass(frozen=True)
class Cost:
    """What one cell costs: seconds, with and without early stopping, parameters, and bytes of a model."""

    seconds: float
    at_most: float
    parameters: int
    held: int


@dataclass(frozen=True)
class _Kind:
    """Cells that differ in their seed alone: seconds beside training, and of each model's whole schedule."""

    beside: float
    schedules: tuple[float, ...]
    parameters: int
    held: int


def stepped_costs(
    problem: Problem, settings: TrainSettings, grid: Grid, kinds: Counter[Cell], device: str
) -> dict[Cell, Cost]:
    """The cost of each kind of cell, of which there are as many as `kinds` counts."""
    known: dict[Any, tuple[float, Fitted]] = {}
    found: dict[Cell, _Kind] = {}
    for kind in kinds:
        began = time.perf_counter()
        ready = prepare(problem, kind, settings, grid)
        beside = time.perf_counter() - began
        timed = [_schedule(model, grid.schedule, known, device) for model in ready.models]
        began = time.perf_counter()
        fitted = timed[0][1]
        shown_test(problem, fitted, ready.test)
        streams = [stream.name for stream in ready.models[0].streams]
        head_file(fitted.weights, streams, ready.mapping[0], {})
        beside += time.perf_counter() - began
        schedules = tuple(seconds for seconds, _ in timed)
        held = max(map(bytes_of, ready.models))
        found[kind] = _Kind(beside, schedules, ready.models[0].parameters, held)
    share = 1.0 if device == "cuda" else _share(problem, settings, grid, kinds, found)
    return {
        kind: Cost(
            one.beside + share * sum(one.schedules),
            one.beside + sum(one.schedules),
            one.parameters,
            one.held,
        )
        for kind, one in found.items()
    }


def _share(
    problem: Problem, settings: TrainSettings, grid: Grid, kinds: Counter[Cell], found: dict[Cell, _Kind]
) -> float:
    """The part of their schedules' time that models take before they stop early.

    Some models are trained to their end. Each is drawn as often as its schedule takes long, evenly over all,
    so that the mean of the parts that they take is the part of the whole.
    """
    every = [(kind, i) for kind, one in found.items() for i in range(len(one.schedules))]
    # Models of one candidate beside each other: an even draw then has each learning rate in its part.
    every.sort(key=lambda at: at[1])
    ends = list(accumulate(kinds[kind] * found[kind].schedules[i] for kind, i in every))
    if max(max(one.schedules) for one in found.values()) > _TOO_LONG:
        return 1.0
    parts: list[float] = []
    spent = 0.0
    while len(parts) % 2 or (  # pairs: one of each half of the candidates
        len(parts) < _MOST
        and not any(len(parts) >= models and spent >= min(_LONG, part * ends[-1]) for models, part in _PILOTS)
    ):
        kind, i = every[min(bisect(ends, _even(len(parts)) * ends[-1]), len(every) - 1)]
        model = prepare(problem, kind, settings, grid).models[i]
        began = time.perf_counter()
        HeadBank([model], grid.schedule).fit()
        took = time.perf_counter() - began
        parts.append(took / found[kind].schedules[i])
        spent += took
    return sum(parts) / len(parts)


def _even(i: int) -> float:
    """The i-th number of a sequence that fills 0 to 1 evenly however far it goes (van der Corput's, moved).

    Of each two in turn one lies in either half, of each four one in either quarter.
    """
    value, digit = 1 / 128, 0.5
    while i:
        value += digit * (i & 1)
        i, digit = i >> 1, digit / 2
    return value


def _schedule(
    model: HeadModel, schedule: Schedule, known: dict[Any, tuple[float, Fitted]], device: str
) -> tuple[float, Fitted]:
    """Seconds of a model's whole schedule, measured once for all models of its shape, and such a model."""
    shapes = tuple((s.dim, s.projected, round(float(s.rows.sizes.mean()))) for s in model.streams)
    scales, validation = model.candidate.learnable_scale, len(model.validation[1])
    shape = (shapes, BatchPlan.of(model), model.width, model.hidden, model.layers, scales, validation)
    if shape not in known:
        fitted: list[Fitted] = []

        def once(trial: Schedule) -> float:
            began = time.perf_counter()
            fitted[:] = HeadBank([model], trial, device=device).fit()
            return time.perf_counter() - began

        def timed(steps: int, eval_every: int) -> float:
            trial = replace(schedule, steps=steps, warmup=0, eval_every=eval_every, patience=steps + 1)
            first = once(trial)  # the quicker of two where that is cheap: others may be at work here
            return first if first > _CALIBRATION else min(first, once(trial))

        steps = min(_STEPS, max(4, int(_CALIBRATION * 3 / timed(3, 3))))
        seldom = timed(steps, steps)  # evaluated twice, after the first step and the last
        look = max(0.0, timed(steps, 1) - seldom) / (steps - 2)
        step = max(0.0, seldom - 2 * look) / steps
        seconds = step * schedule.steps + look * -(-schedule.steps // schedule.eval_every)
        known[shape] = max(seconds, 1e-6), fitted[0]
    return known[shape]
