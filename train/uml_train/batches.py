"""Which rows are in which batch: a function of (seed, modality, epoch) alone.

An epoch is one permutation of the rows, cut into whole batches; what is left over waits for another epoch's
permutation. A set smaller than the batch is used whole. No generator's state is carried from batch to batch,
so a model's batches do not depend on what else is trained, nor on where a run was resumed.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from uml_cache.loaders import Sampler

_KEPT_CHUNKS = 512


class BatchOrder:
    """Batch indices in chunks of steps, remembered, since all candidates of a cell draw the same ones."""

    def __init__(self) -> None:
        self._chunks: dict[tuple[int, str, int, int, int, int], Tensor] = {}

    def chunk(self, *, seed: int, name: str, rows: int, batch: int, steps: int, chunk: int) -> Tensor:
        """Row indices (steps, batch) int64 of the steps chunk·steps … (chunk + 1)·steps − 1."""
        key = (seed, name, rows, batch, steps, chunk)
        if key not in self._chunks:
            while len(self._chunks) >= _KEPT_CHUNKS:
                self._chunks.pop(next(iter(self._chunks)))
            self._chunks[key] = batch_rows(
                seed=seed, name=name, rows=rows, batch=batch, start=chunk * steps, steps=steps
            )
        return self._chunks[key]


def batch_rows(*, seed: int, name: str, rows: int, batch: int, start: int, steps: int) -> Tensor:
    """Row indices (steps, batch) int64 of the batches of steps start … start + steps − 1."""
    per_epoch = rows // batch
    if per_epoch == 0:
        raise ValueError(f"a batch of {batch} from {rows} rows")
    first, last = start // per_epoch, (start + steps - 1) // per_epoch
    sampler = Sampler(rows=np.arange(rows), batch_size=batch, seed=seed, modality=name, drop_last=True)
    whole = per_epoch * batch
    epochs = [sampler.epoch(epoch)[:whole].reshape(per_epoch, batch) for epoch in range(first, last + 1)]
    skipped = start - first * per_epoch
    return torch.from_numpy(np.concatenate(epochs)[skipped : skipped + steps])
