"""The set lives on the device: the fastest way for all that fits there.

Shapes: m distinct rows of the sampler, B rows a batch, D features.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from uml_cache.reading.batch import Batch, Buffer, Held, kind_of

if TYPE_CHECKING:
    from uml_cache.reading.features import FeatureSet
    from uml_cache.reading.sampler import Sampler


class DeviceLoader:
    """Batches gathered on `device` from a copy of the sampler's rows, made once.

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
    ) -> None:
        self.sampler = sampler
        place = torch.device(device)
        width, stored = kind_of(features, part)
        distinct = np.unique(sampler.rows)
        if part == "tokens":
            values, offsets = features.tokens.packed(distinct)
        else:
            values, offsets = torch.empty((len(distinct), width), dtype=stored), None
            features.source.read(torch.from_numpy(distinct), values)
        self._held = Held(distinct, values if dtype is None else values.to(dtype), offsets, place)
        self._buffer = Buffer(width, dtype or stored, place)
        self._labels = torch.from_numpy(features.label.astype(np.int64)).to(place)
        self._device = place

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch, in the sampler's order."""
        for rows in self.sampler.batches(epoch):
            values, offsets = self._held.gather(rows, self._buffer)
            labels = self._labels[torch.from_numpy(rows).to(self._device)]
            yield Batch(rows, values, labels, offsets)
