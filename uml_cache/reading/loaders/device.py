"""The set lives on the device: the fastest way for all that fits there.

Shapes: m distinct rows of the sampler, B rows a batch, D features.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from uml_cache.reading.loaders.batch import Batch, Buffer, Loader

if TYPE_CHECKING:
    from uml_cache.reading.features import FeatureSet
    from uml_cache.reading.sampler import Sampler


class DeviceLoader(Loader):
    """Batches gathered on the device from a copy of the sampler's rows, made once."""

    def __init__(self, features: FeatureSet, sampler: Sampler, **kind: Any) -> None:
        super().__init__(features, sampler, **kind)
        self._held = self._read(np.unique(sampler.rows))
        self._buffer = Buffer(self._width, self._dtype, self._device)
        self._labels = self._labels.to(self._device)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch, gathered on the device."""
        for rows in self.sampler.batches(epoch):
            values, offsets = self._held.gather(rows, self._buffer)
            labels = self._labels[torch.from_numpy(rows).to(self._device)]
            yield Batch(rows, values, labels, offsets)
