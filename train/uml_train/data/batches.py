"""Which rows are in which batch: a function of (seed, modality, epoch) alone.

An epoch is one permutation of the rows, cut into whole batches; what is left over waits for another epoch's
permutation. A set smaller than the batch is used whole. No generator's state is carried from batch to batch,
so a model's batches do not depend on what else is trained, nor on where a run was resumed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from uml_cache import Sampler

if TYPE_CHECKING:
    from uml_train.heads.models import HeadModel

_KEPT_CHUNKS = 512


@dataclass(frozen=True)
class BatchPlan:
    """How many rows of each modality a step takes.

    `batch` is the size of one batch, `rows` the rows of a step (several batches where the ratio is above 1);
    auxiliaries take part in every `period`-th step.
    """

    batch: tuple[int, ...]
    rows: tuple[int, ...]
    period: int

    @classmethod
    def of(cls, model: HeadModel) -> BatchPlan:
        """The plan of a model; a set smaller than the batch is used whole."""
        times, period = max(1, round(model.ratio)), max(1, round(1 / model.ratio))
        batch = tuple(min(model.candidate.batch_size, len(s.labels)) for s in model.streams)
        rows = tuple(b if i == 0 else times * b for i, b in enumerate(batch))
        return cls(batch, rows, period if model.auxiliaries else 1)

    def steps_with_auxiliaries(self, start: int, steps: int) -> slice:
        """Those of the steps start … start + steps − 1 that have auxiliaries, relative to start."""
        return slice(-start % self.period, steps, self.period)


class BatchOrder:
    """Batch indices in chunks of steps, remembered, since all candidates of a cell draw the same ones."""

    def __init__(self) -> None:
        self._chunks: dict[tuple[int, str, int, int, int, int, int], Tensor] = {}

    def chunk(self, *, seed: int, name: str, rows: int, batch: int, steps: int, chunk: int) -> Tensor:
        """Row indices (steps, batch) int64 of the steps chunk·steps … (chunk + 1)·steps − 1."""
        return self._span(seed, name, rows, batch, chunk * steps, steps)

    def draw(self, model: HeadModel, plan: BatchPlan, start: int, steps: int) -> list[Tensor]:
        """Row indices (S, n) int64 per modality, for S steps of n rows; auxiliaries have their own steps."""
        drawn = []
        for i, (stream, batch, rows) in enumerate(zip(model.streams, plan.batch, plan.rows, strict=True)):
            period, times = (1 if i == 0 else plan.period), rows // batch
            first, last = -(-start // period), -(-(start + steps) // period)
            labels = stream.labels if model.balanced else None
            span = self._span(
                model.seed,
                stream.name,
                len(stream.labels),
                batch,
                first * times,
                (last - first) * times,
                labels,
            )
            drawn.append(span.reshape(last - first, rows))
        return drawn

    def _span(
        self,
        seed: int,
        name: str,
        rows: int,
        batch: int,
        start: int,
        steps: int,
        labels: Tensor | None = None,
    ) -> Tensor:
        key = (seed, name, rows, batch, start, steps, 0 if labels is None else hash(labels.numpy().tobytes()))
        if key not in self._chunks:
            while len(self._chunks) >= _KEPT_CHUNKS:
                self._chunks.pop(next(iter(self._chunks)))
            self._chunks[key] = batch_rows(
                seed=seed, name=name, rows=rows, batch=batch, start=start, steps=steps, labels=labels
            )
        return self._chunks[key]


def batch_rows(
    *, seed: int, name: str, rows: int, batch: int, start: int, steps: int, labels: Tensor | None = None
) -> Tensor:
    """Row indices (steps, batch) int64 of the batches of steps start … start + steps − 1.

    With `labels` (rows,) the batches are class-balanced: rounds of one row of every class.

    Raises:
        ValueError: a batch is larger than the rows.
    """
    per_epoch = rows // batch
    if per_epoch == 0:
        raise ValueError(f"a batch of {batch} from {rows} rows")
    if steps == 0:
        return torch.empty(0, batch, dtype=torch.int64)
    first, last = start // per_epoch, (start + steps - 1) // per_epoch
    sampler = Sampler(
        rows=np.arange(rows),
        batch_size=batch,
        seed=seed,
        modality=name,
        order="shuffled" if labels is None else "balanced",
        labels=None if labels is None else labels.numpy(),
        drop_last=True,
    )
    whole = per_epoch * batch
    epochs = [sampler.epoch(epoch)[:whole].reshape(per_epoch, batch) for epoch in range(first, last + 1)]
    skipped = start - first * per_epoch
    return torch.from_numpy(np.concatenate(epochs)[skipped : skipped + steps])
