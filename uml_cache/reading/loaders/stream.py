"""Larger than memory: the sampler's own order, read ahead in windows of many batches.

A window's rows are read once, in the order in which they lie in the files, while the window before it is
used up; its batches are then gathered from memory. So the batches are those of any other loader. With the
sampler's order `windowed` a window is a few whole shards, read in sequence; with `shuffled` it is scattered
rows, which costs the disk a seek each. Shapes: B rows a batch, D features, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from uml_cache.reading.loaders.batch import Batch, Buffer, Held, Loader

if TYPE_CHECKING:
    from uml_cache.reading.features import FeatureSet
    from uml_cache.reading.sampler import Sampler


class StreamLoader(Loader):
    """Batches from windows of at most `window_bytes` each (two are held at a time), read by one thread."""

    def __init__(
        self, features: FeatureSet, sampler: Sampler, *, window_bytes: int = 1 << 28, **kind: Any
    ) -> None:
        super().__init__(features, sampler, **kind)
        row_bytes = float(self._width * torch.empty((), dtype=self._stored).element_size())
        if self._tokens is not None:
            row_bytes *= max(float(self._tokens.lengths[sampler.rows].mean()), 1.0)
        self._batches = max(int(window_bytes / (row_bytes * sampler.batch_size)), 1)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch; the next one is read meanwhile."""
        buffer = Buffer(self._width, self._dtype, self._device)
        batches = self.sampler.batches(epoch)
        with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as reader:
            window = list(islice(batches, self._batches))
            reading = reader.submit(self._read_window, window)
            while window:
                held = reading.result()
                following = list(islice(batches, self._batches))
                if following:
                    reading = reader.submit(self._read_window, following)
                for rows in window:
                    values, offsets = held.gather(rows, buffer)
                    labels = self._labels[torch.from_numpy(rows)].to(self._device)
                    yield Batch(rows, values, labels, offsets)
                window = following

    def _read_window(self, window: list[np.ndarray]) -> Held:
        return self._read(np.unique(np.concatenate(window)))
