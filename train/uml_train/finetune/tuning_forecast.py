"""`uml finetune --dry-run`: networks, steps, bytes, and time by a few steps of every kind of network."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from uml_cache import QUIET, Output
from uml_train.data.batches import BatchPlan
from uml_train.finetune.finetune_settings import FinetuneSettings
from uml_train.finetune.tuned_cell import CellTuner
from uml_train.finetune.tuning_session import open_samples
from uml_train.protocols.grid import Schedule
from uml_train.run import Cell
from uml_train.runs.cells import Prepared, prepare
from uml_train.runs.costs import Estimate
from uml_train.runs.ranks import Ranks
from uml_train.settings import AUTO, TrainSettings

_STEPS = 2  # periods of the auxiliaries that are timed, after the first step, which makes buffers
_STATE = 4  # weights, their gradient and Adam's two moments


def estimate_finetuning(
    settings: TrainSettings, tuning: FinetuneSettings, *, output: Output = QUIET
) -> Estimate:
    """Count a run's networks and time some steps, looks and test rows of every kind of them; no run is begun.

    Samples are looked at, as for the run itself, and it is remembered which of them can be read.

    Raises what `fine_tune` raises for the same settings.
    """
    tuning.check_with(settings)
    with ExitStack() as stack:
        began = time.perf_counter()
        session = open_samples(settings.stepped(), tuning, Ranks(), output, stack)
        opening = time.perf_counter() - began
        cells = [cell for cell in session.cells() if cell.method != AUTO]
        tuner = CellTuner(
            session.networks, session.problem, session.settings, session.grid, Ranks(), session.device, output
        )
        known: dict[Any, _Cost] = {}
        seconds, kept, largest = opening, 0, 0
        for cell in cells:
            costs = _costs(tuner, replace(cell, seed=session.settings.seeds[0]), known)
            # The selected network alone sees the test rows.
            seconds += sum(cost.training for cost in costs) + max(cost.testing for cost in costs)
            kept += costs[0].backbones
            largest = max(largest, *(cost.parameters for cost in costs))
        models = len(cells) * len(session.grid.candidates)
        return Estimate(
            dataset=session.problem.dataset,
            target=session.problem.target.label,
            objective="finetune",
            cells=len(cells),
            models=models,
            model_steps=models * session.grid.schedule.steps,
            head_bytes=4 * kept if tuning.keep else 0,
            bank_bytes=_STATE * 4 * largest,
            device=session.device,
            processes=1,
            seconds=seconds,
            seconds_at_most=seconds,
        )


@dataclass(frozen=True)
class _Cost:
    """What one network costs: parameters, backbones' part, seconds of its schedule and of the test rows."""

    parameters: int
    backbones: int
    training: float
    testing: float


def _costs(tuner: CellTuner, cell: Cell, known: dict[Any, _Cost]) -> list[_Cost]:
    """The cost of each candidate of a cell; those that differ in nothing that takes time are timed once."""
    prepared = prepare(tuner.problem, cell, tuner.settings, tuner.grid)
    costs = []
    for i, model in enumerate(prepared.models):
        names = tuple(stream.name for stream in model.streams)
        shape = (names, BatchPlan.of(model), model.width, len(model.validation[1]))
        if shape not in known:
            known[shape] = _cost(_Trial(tuner, cell, prepared, i))
        costs.append(known[shape])
    return costs


def _cost(trial: _Trial) -> _Cost:
    schedule, unfreeze_at = trial.tuner.grid.schedule, trial.tuner.networks.tuning.unfreeze_at
    step, look = trial.timed(frozen=True)
    training = step * schedule.steps + look * schedule.looks
    if unfreeze_at is not None and unfreeze_at < schedule.steps:
        training += (schedule.steps - unfreeze_at) * (trial.timed(frozen=False)[0] - step)
    # Test rows go through the network as validation rows do.
    rows = len(trial.prepared.models[trial.index].validation[1])
    testing = look * len(trial.tuner.problem.test) / max(1, rows)
    return _Cost(*trial.parameters(), training, testing)


@dataclass(frozen=True, eq=False)
class _Trial:
    """Short trainings of one candidate of a cell."""

    tuner: CellTuner
    cell: Cell
    prepared: Prepared
    index: int

    def parameters(self) -> tuple[int, int]:
        """Of the whole network, and of its backbones alone."""
        whole = self.tuner.tuner(self.cell, self.prepared, self.index).network
        counts = [sum(p.numel() for p in part.parameters()) for part in (whole, whole.networks)]
        return counts[0], counts[1]

    def timed(self, *, frozen: bool) -> tuple[float, float]:
        """Seconds of a step and of a look at the validation rows, over whole periods of the auxiliaries."""
        steps = 2 + _STEPS * BatchPlan.of(self.prepared.models[self.index]).period
        often, seldom = (self._span(steps, every, frozen) for every in (1, steps))
        # From the first look to the last there are steps − 1 steps, and as many looks or a single one.
        look = max(0.0, (often - seldom) / (steps - 2))
        return max(0.0, seldom - look) / (steps - 1), look

    def _span(self, steps: int, eval_every: int, frozen: bool) -> float:
        grid = self.tuner.grid
        schedule = Schedule(steps=steps, warmup=0, eval_every=eval_every, patience=steps + 1)
        short = replace(self.tuner, grid=replace(grid, schedule=schedule))
        tuner = short.tuner(self.cell, self.prepared, self.index)
        tuner.task.unfreeze_at = None if frozen else 0
        times: list[float] = []
        tuner.fit(on_evaluation=lambda step, accuracy: times.append(time.perf_counter()))
        return times[-1] - times[0]
