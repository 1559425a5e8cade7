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
from typing import TYPE_CHECKING

import numpy as np
import torch

from uml_cache.reading.batch import Batch, Buffer, Held, kind_of

if TYPE_CHECKING:
    from uml_cache.reading.features import FeatureSet
    from uml_cache.reading.sampler import Sampler


class StreamLoader:
    """Batches from windows of at most `window_bytes` each (two are held at a time), read by one thread.

    `part` is `pooled` or `tokens`; `dtype` converts the values (default: as stored).
    """

    def __init__(
        self,
        features: FeatureSet,
        sampler: Sampler,
        *,
        part: str = "pooled",
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        window_bytes: int = 1 << 28,
    ) -> None:
        self.sampler = sampler
        self._features = features
        self._tokens = features.tokens if part == "tokens" else None
        self._device = torch.device(device)
        self._width, self._stored = kind_of(features, part)
        self._dtype = dtype or self._stored
        self._labels = torch.from_numpy(features.label.astype(np.int64))
        row_bytes = self._width * torch.empty((), dtype=self._stored).element_size()
        if self._tokens is not None:
            row_bytes *= max(float(self._tokens.lengths[sampler.rows].mean()), 1.0)  # type: ignore[assignment]
        self._batches = max(int(window_bytes / (row_bytes * sampler.batch_size)), 1)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch, in the sampler's order."""
        buffer = Buffer(self._width, self._dtype, self._device)
        batches = self.sampler.batches(epoch)
        with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as reader:
            window = list(islice(batches, self._batches))
            reading = reader.submit(self._read, window)
            while window:
                held = reading.result()
                following = list(islice(batches, self._batches))
                if following:
                    reading = reader.submit(self._read, following)
                for rows in window:
                    values, offsets = held.gather(rows, buffer)
                    labels = self._labels[torch.from_numpy(rows)].to(self._device)
                    yield Batch(rows, values, labels, offsets)
                window = following

    def _read(self, window: list[np.ndarray]) -> Held:
        distinct = np.unique(np.concatenate(window))
        if self._tokens is not None:
            values, offsets = self._tokens.packed(distinct)
        else:
            values, offsets = torch.empty((len(distinct), self._width), dtype=self._stored), None
            self._features.source.read(torch.from_numpy(distinct), values)
        return Held(distinct, values.to(self._dtype), offsets, self._device)
