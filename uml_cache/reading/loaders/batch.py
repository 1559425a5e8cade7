"""What loaders hand over, and the memory that they use again and again.

Shapes: B rows of the batch, D features, T tokens of the batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from uml_cache.errors import unknown

if TYPE_CHECKING:
    from uml_cache.reading.features import FeatureSet
    from uml_cache.reading.sampler import Sampler

PARTS = ("pooled", "tokens")


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch. Its tensors are good until the next batch is asked for: loaders reuse their memory.

    `rows` (B,) int64 are rows of the store; `values` is (B, D) for pooled features, or (T, D) for tokens, one
    sample after the other with `offsets` (B + 1,) int64 between them; `labels` (B,) int64, -1 = none.
    """

    rows: np.ndarray
    values: torch.Tensor
    labels: torch.Tensor
    offsets: torch.Tensor | None = None


class Buffer:
    """Memory for (rows, D) values that grows when it must and is never given back."""

    def __init__(self, width: int, dtype: torch.dtype, device: torch.device, pinned: bool = False) -> None:
        self._pinned = pinned
        self._memory = torch.empty((0, width), dtype=dtype, device=device)

    def take(self, rows: int) -> torch.Tensor:
        """A (rows, D) view in the buffer's dtype; what an earlier call gave is overwritten."""
        if rows > len(self._memory):
            shape = (rows + rows // 4, self._memory.shape[1])
            self._memory = torch.empty(
                shape, dtype=self._memory.dtype, device=self._memory.device, pin_memory=self._pinned
            )
        return self._memory[:rows]


class Cast:
    """Values in another dtype, in reused memory; the values themselves where nothing has to change."""

    def __init__(
        self, width: int, stored: torch.dtype, wanted: torch.dtype | None, device: torch.device
    ) -> None:
        changes = wanted is not None and wanted != stored
        self._buffer = Buffer(width, wanted or stored, device) if changes else None

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Values (n, D) in the wanted dtype, in a buffer that the next call overwrites."""
        return values if self._buffer is None else self._buffer.take(len(values)).copy_(values)


def check_part(part: str) -> None:
    """Raise `InputError` unless `part` is one of `PARTS`."""
    if part not in PARTS:
        raise unknown("part", part, PARTS)


def kind_of(features: FeatureSet, part: str) -> tuple[int, torch.dtype]:
    """Width and stored dtype of a part."""
    check_part(part)
    if part == "tokens":
        return features.tokens.dim, features.tokens.dtype
    return features.source.shape[1], features.source.dtype


class Held:
    """A copy of some rows on one device, from which batches are gathered in one call.

    `distinct` (m,) int64 are the store's rows, ascending; `values` their (m, D) features or (T, D) tokens
    with `offsets` (m + 1,).
    """

    def __init__(
        self, distinct: np.ndarray, values: torch.Tensor, offsets: torch.Tensor | None, device: torch.device
    ) -> None:
        self._distinct = distinct
        self._values = values.to(device)
        self._offsets = None if offsets is None else offsets.numpy()
        self._device = device

    def gather(self, rows: np.ndarray, buffer: Buffer) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Features (n, D) of `rows` (n,) int64 and None, or their tokens (T, D) and offsets (n + 1,) int64.

        The values lie in `buffer`, which the next call overwrites.
        """
        at = np.searchsorted(self._distinct, rows)
        offsets = None
        if self._offsets is not None:
            lengths = self._offsets[at + 1] - self._offsets[at]
            between = np.concatenate([[0], np.cumsum(lengths)])
            at = np.arange(int(between[-1])) + np.repeat(self._offsets[at] - between[:-1], lengths)
            offsets = torch.from_numpy(between).to(self._device)
        index = torch.from_numpy(at).to(self._device)
        return torch.index_select(self._values, 0, index, out=buffer.take(len(at))), offsets


class Loader(ABC):
    """What every loader is: batches of `part` (`pooled` or `tokens`) of a store on `device`.

    `dtype` converts the values (default: as stored).
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
        self._width, self._stored = kind_of(features, part)
        self._dtype = dtype or self._stored
        self._device = torch.device(device)
        self._features = features
        self._tokens = features.tokens if part == "tokens" else None
        self._labels = torch.from_numpy(features.label.astype(np.int64))

    @abstractmethod
    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch, in the sampler's order."""

    def _read(self, rows: np.ndarray) -> Held:
        """A copy of some distinct rows, ascending, on the device."""
        if self._tokens is not None:
            values, offsets = self._tokens.packed(rows)
        else:
            values, offsets = torch.empty((len(rows), self._width), dtype=self._stored), None
            self._features.source.read(torch.from_numpy(rows), values)
        return Held(rows, values.to(self._dtype), offsets, self._device)
