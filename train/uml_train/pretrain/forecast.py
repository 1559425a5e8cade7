"""`uml train --objective ssl|joint --dry-run`: networks, steps, bytes, and time by a short calibration."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace

import numpy as np

from uml_cache import QUIET, Output
from uml_train.pretrain.arms import Arms
from uml_train.pretrain.network.network_training import (
    NetworkTrainer,
    PretrainingTask,
    Timetable,
    Where,
    embed_rows,
)
from uml_train.pretrain.network.shared_transformer import SharedTransformer
from uml_train.pretrain.pretraining import open_networks
from uml_train.pretrain.probe import Probe
from uml_train.pretrain.searches import PretrainingCandidate
from uml_train.run import Cell
from uml_train.runs.costs import Estimate
from uml_train.runs.drawn import draw_rows
from uml_train.runs.ranks import Ranks
from uml_train.settings import TrainSettings

_CALIBRATION = 0.3  # seconds for every kind of network
_STEPS = 40  # of each kind at most
_ROWS = 256  # that are embedded and probed for a look at what that costs
_STATE = 4  # weights, their gradient and Adam's two moments


def estimate_sequences(settings: TrainSettings, *, output: Output = QUIET) -> Estimate:
    """Count a run's networks, and time some steps, embeddings and a probe of every kind of them."""
    began = time.perf_counter()
    session = open_networks(settings, Ranks(), output)
    opening = time.perf_counter() - began
    arms, cells = session.arms, session.cells()
    where = Where.of(arms.settings, Ranks())
    costs: dict[tuple[object, ...], _Cost] = {}
    networks, steps, seconds, written, largest = 0, 0, opening, 0, 0
    for of_arm in arms.by_arm(cells).values():
        first = of_arm[0]
        candidates = arms.candidates(first)
        sizes = []
        for candidate in candidates:
            timetable = arms.timetable(first, candidate)
            shots = first.shots if arms.joint else None
            kind = (first.auxiliaries, first.method, first.control, shots, candidate.width, timetable)
            if kind not in costs:
                costs[kind] = _cost(arms, first, candidate, where)
            cost = costs[kind]
            seconds += cost.training + sum(cost.probing(arms, cell) for cell in of_arm)
            sizes.append(4 * cost.parameters)
            steps += timetable.steps
        networks += len(candidates)
        written += sum(sizes) + max(sizes) * len(of_arm)  # the selected one of every cell once more
        largest = max(largest, _STATE * max(sizes))
    target = arms.problem.problem.target
    return Estimate(
        dataset=arms.problem.problem.dataset,
        target=target.label,
        objective=settings.objective,
        cells=len(cells),
        models=networks,
        model_steps=steps,
        head_bytes=written,
        bank_bytes=largest,
        device=where.device,
        processes=1,
        seconds=seconds,
        seconds_at_most=seconds,
    )


@dataclass(frozen=True)
class _Cost:
    """What one network costs: its training in seconds, and seconds per token embedded and row probed."""

    parameters: int
    training: float
    token: float
    row: float

    def probing(self, arms: Arms, cell: Cell) -> float:
        """Seconds of embedding and probing for one cell."""
        problem = arms.problem.problem
        draw = draw_rows(problem, cell.shots, cell.seed)
        rows = np.concatenate([draw.train, draw.val])
        tokens = int(arms.problem.target_rows(rows).lengths.sum())
        # Of all candidates one alone is scored on the test rows.
        test = int(arms.problem.target_rows(problem.test).lengths.sum())
        share = test / len(arms.candidates(cell))
        return self.token * (tokens + share) + self.row * len(draw.train)


def _cost(arms: Arms, cell: Cell, candidate: PretrainingCandidate, where: Where) -> _Cost:
    began = time.perf_counter()
    streams = arms.streams(cell)
    model, task = arms.network(cell, candidate, streams)
    parameters = sum(p.numel() for p in model.parameters())
    table = task.timetable
    training = time.perf_counter() - began
    alone = min(table.first, table.steps)
    first = replace(table, target=0 if table.auxiliary_first else _STEPS, first=_STEPS)
    training += alone * _step(model, task, first, where) if alone else 0.0
    training += (table.steps - alone) * _step(model, task, Timetable(target=_STEPS), where)
    return _Cost(parameters, training, *_look(arms, model, where))


def _step(model: SharedTransformer, task: PretrainingTask, timetable: Timetable, where: Where) -> float:
    """Seconds of a step: the mean over as many as fit into the time there is, at least two."""
    clock = _Clock()
    with contextlib.suppress(_Enough):
        NetworkTrainer(model, replace(task, timetable=timetable), where).fit(clock)
    times = clock.times[1:]  # from the end of the first step, which makes buffers
    return (times[-1] - times[0]) / (len(times) - 1)


class _Enough(Exception):
    """The calibration has had its time."""


class _Clock:
    """A progress bar that notes when each step ended and stops the training in time."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def update(self, n: int = 1, /) -> None:
        self.times.append(time.perf_counter())
        if len(self.times) > 3 and self.times[-1] - self.times[1] > _CALIBRATION:
            raise _Enough

    def set_postfix_str(self, s: str = "", /) -> None:
        return None


def _look(arms: Arms, model: SharedTransformer, where: Where) -> tuple[float, float]:
    """Seconds per token embedded and per row that a probe is fitted on, from some of the training rows."""
    problem = arms.problem.problem
    positions = problem.train[:: -(-len(problem.train) // _ROWS)]
    source = arms.problem.target_rows(positions)
    began = time.perf_counter()
    embedded = embed_rows(model, source, where)
    middle = time.perf_counter()
    Probe(embedded, problem.target.labels[positions])
    ended = time.perf_counter()
    return (middle - began) / max(1, int(source.lengths.sum())), (ended - middle) / len(positions)
