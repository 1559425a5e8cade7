"""The set stays in host memory, mapped or read; one gather a batch into memory that is used again.

Shapes: B rows a batch, D features, T tokens of a batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from uml_cache.reading.loaders.batch import Batch, Buffer, Cast, Loader

if TYPE_CHECKING:
    from uml_cache.reading.features import FeatureSet
    from uml_cache.reading.sampler import Sampler


class HostLoader(Loader):
    """Batches gathered on the CPU; on CUDA from pinned memory over a side stream, one batch ahead.

    The values are converted on the device. `threads` is how many torch threads the gather itself uses: one is
    fastest for small batches on busy cores, and the caller's own setting is put back after each gather (None
    leaves it alone).
    """

    def __init__(
        self, features: FeatureSet, sampler: Sampler, *, threads: int | None = 1, **kind: Any
    ) -> None:
        super().__init__(features, sampler, **kind)
        self._threads = threads
        self._pooled = features.pooled_of(sampler.rows) if self._tokens is None else None
        pinned = self._device.type == "cuda"
        host = torch.device("cpu")
        self._buffers = [Buffer(self._width, self._stored, host, pinned) for _ in range(2 if pinned else 1)]
        self._cast = Cast(self._width, self._stored, self._dtype, self._device)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch, gathered in main memory."""
        if self._device.type == "cuda":
            yield from self._copied(epoch)
            return
        order = self.sampler.epoch(epoch)
        index = torch.from_numpy(order)
        labels = self._labels[index].to(self._device)
        for cut in self.sampler.cuts():
            values, offsets = self._gather(order[cut], index[cut], self._buffers[0])
            if self._device.type != "cpu":
                values = values.to(self._device)
                offsets = None if offsets is None else offsets.to(self._device)
            yield Batch(order[cut], self._cast(values), labels[cut], offsets)

    def _gather(
        self, rows: np.ndarray, index: torch.Tensor, buffer: Buffer
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        with _torch_threads(self._threads):
            if self._pooled is not None:
                out = buffer.take(len(rows))
                return torch.index_select(self._pooled, 0, index, out=out), None
            assert self._tokens is not None
            out = buffer.take(int(self._tokens.lengths[rows].sum(dtype=np.int64)))
            return self._tokens.packed(rows, out=out)

    def _copied(self, epoch: int) -> Iterator[Batch]:
        """Copy batch i + 1 on a side stream while the caller works on batch i."""
        side = torch.cuda.Stream(self._device)
        copied: list[torch.cuda.Event | None] = [None, None]
        ahead: tuple[Batch, torch.cuda.Event] | None = None
        order = self.sampler.epoch(epoch)
        index = torch.from_numpy(order)
        labels = self._labels[index].to(self._device)
        for at, cut in enumerate(self.sampler.cuts()):
            earlier = copied[at % 2]
            if earlier is not None:
                earlier.synchronize()  # the pinned buffer is about to be overwritten
            values, offsets = self._gather(order[cut], index[cut], self._buffers[at % 2])
            with torch.cuda.stream(side):
                there = values.to(self._device, non_blocking=True)
                between = None if offsets is None else offsets.to(self._device)
                event = torch.cuda.Event()
                event.record(side)
            copied[at % 2] = event
            if ahead is not None:
                yield self._arrived(*ahead)
            ahead = Batch(order[cut], there, labels[cut], between), event
        if ahead is not None:
            yield self._arrived(*ahead)

    def _arrived(self, batch: Batch, event: torch.cuda.Event) -> Batch:
        current = torch.cuda.current_stream(self._device)
        current.wait_event(event)
        for tensor in (batch.values, batch.offsets):
            if tensor is not None:
                tensor.record_stream(current)
        return Batch(batch.rows, self._cast(batch.values), batch.labels, batch.offsets)


@contextlib.contextmanager
def _torch_threads(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if threads is None or threads == before:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
