"""Which samples every step and every evaluation of a model sees, planned before any of them is read.

Shapes: n samples of a modality, b of a process's part of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import torch

from uml_train.data.batches import BatchOrder, BatchPlan
from uml_train.finetune.network.whole_network import TuningTask
from uml_train.finetune.samples import Key, Loader
from uml_train.protocols.grid import Schedule
from uml_train.runs.ranks import Ranks

_Rows = TypeVar("_Rows", np.ndarray, torch.Tensor)


class Order:
    """The batches of one task; of processes that share them, this one's part."""

    def __init__(self, task: TuningTask, schedule: Schedule, ranks: Ranks) -> None:
        self._task, self._schedule, self._ranks = task, schedule, ranks
        self._orders = BatchOrder()
        self.plan = BatchPlan.of(task.model)

    def step(self, step: int) -> list[torch.Tensor | None]:
        """Per modality the samples (b,) int64 of a step, None for an auxiliary that this step leaves out."""
        drawn = self._orders.draw(self._task.model, self.plan, step, 1)
        return [self._own(rows[0]) if len(rows) else None for rows in drawn]

    def target(self, first: int) -> Iterator[list[Key]]:
        """Every batch of the target from a step on as they are needed, evaluations included."""
        for step in range(first, self._schedule.steps):
            yield self._keys(0, step)
            if self._schedule.evaluates(step):
                yield from self.evaluation(self._task.validation)

    def auxiliary(self, stream: int, first: int) -> Iterator[list[Key]]:
        """Every batch of an auxiliary with a network of its own."""
        for step in range(first, self._schedule.steps):
            keys = self._keys(stream, step)
            if keys:
                yield keys

    def evaluation(self, rows: np.ndarray) -> list[list[Key]]:
        """Manifest rows (n,) int64 without random views."""
        own = self._own(rows)
        size = max(self._task.model.candidate.batch_size, 1)
        return Loader.plain(own[at : at + size] for at in range(0, len(own), size))

    def _keys(self, stream: int, step: int) -> list[Key]:
        rows = self._task.streams[stream].rows
        assert rows is not None
        drawn = self.step(step)[stream]
        return [] if drawn is None else [(int(rows[r]), step, self._task.model.seed) for r in drawn]

    def _own(self, rows: _Rows) -> _Rows:
        return rows[self._ranks.rank :: self._ranks.world]
