"""`uml train --dry-run`: how much there is to train, and how long it would take by a short calibration."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from uml_cache import QUIET, Output
from uml_train.data.batches import BatchPlan
from uml_train.fullbatch.search import solve
from uml_train.heads.bank import HeadBank
from uml_train.heads.models import HeadModel
from uml_train.heads.stacks import bytes_of
from uml_train.protocols.grid import Schedule
from uml_train.runs.cells import prepare
from uml_train.runs.costs import Estimate
from uml_train.runs.head_session import open_heads
from uml_train.runs.ranks import Ranks
from uml_train.runs.workers import chosen_device, processes_of
from uml_train.settings import AUTO, TrainSettings

_STEPS = 60  # of each kind of model, or as many as fit into the time for its calibration
_CALIBRATION = 0.3  # seconds


def estimate(settings: TrainSettings, *, output: Output = QUIET) -> Estimate:
    """Count a run's models and time some steps of every kind of them; nothing is written.

    Raises what `train` raises for the same settings.
    """
    if settings.objective != "supervised":
        from uml_train.pretrain.forecast import estimate_sequences

        return estimate_sequences(settings, output=output)
    session = open_heads(settings, Ranks(), output)
    problem, resolved, grid = session.problem, session.settings, session.grid
    cells = [c for c in session.cells() if c.method != AUTO]
    device = "cpu" if grid.points else chosen_device(resolved.device)
    rates: dict[Any, float] = {}
    seconds, head_bytes, largest, models = 0.0, 0, 0, 0
    for cell in cells:
        first = replace(cell, seed=resolved.seeds[0])
        kind = (first, tuple(grid.candidates))
        if kind not in rates:
            began = time.perf_counter()
            ready = prepare(problem, first, resolved, grid)
            prepared = ready.models
            if ready.points:
                solve(prepared[0], ready.points)
            rates[kind] = time.perf_counter() - began
            if not ready.points:
                rates[kind] += sum(_seconds(model, grid.schedule, rates, device) for model in prepared)
            rates["bytes", first] = 4 * prepared[0].parameters
            rates["bank", first] = max(map(bytes_of, prepared))
        seconds += rates[kind]
        head_bytes += int(rates["bytes", first])
        largest = max(largest, int(rates["bank", first]))
        models += grid.size
    processes = 1 if device == "cuda" else processes_of(problem, cells, grid, resolved.trunk)
    return Estimate(
        dataset=problem.dataset,
        target=problem.target.label,
        cells=len(cells),
        models=models,
        model_steps=models * grid.schedule.steps,
        head_bytes=head_bytes,
        bank_bytes=largest * (models if device == "cuda" else processes),
        device=device,
        processes=processes,
        seconds=seconds / processes,
    )


def _seconds(model: HeadModel, schedule: Schedule, known: dict[Any, float], device: str) -> float:
    """Time of a model's whole schedule, measured once for all models of its shape."""
    shapes = tuple((s.dim, s.projected, round(float(s.rows.sizes.mean()))) for s in model.streams)
    scales, validation = model.candidate.learnable_scale, len(model.validation[1])
    shape = (shapes, BatchPlan.of(model), model.width, model.hidden, model.layers, scales, validation)
    if shape not in known:

        def once(trial: Schedule) -> float:
            began = time.perf_counter()
            HeadBank([model], trial, device=device).fit()
            return time.perf_counter() - began

        def timed(steps: int, eval_every: int) -> float:
            trial = Schedule(steps=steps, warmup=0, eval_every=eval_every, patience=steps + 1)
            first = once(trial)  # the quicker of two where that is cheap: others may be at work here
            return first if first > _CALIBRATION else min(first, once(trial))

        steps = min(_STEPS, max(4, int(_CALIBRATION * 3 / timed(3, 3))))
        seldom = timed(steps, steps)  # evaluated twice, after the first step and the last
        look = max(0.0, timed(steps, 1) - seldom) / (steps - 2)
        step = max(0.0, seldom - 2 * look) / steps
        known[shape] = step * schedule.steps + look * -(-schedule.steps // schedule.eval_every)
    return known[shape]
