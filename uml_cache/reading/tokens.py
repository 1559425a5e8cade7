"""Ragged tokens of a store.

Shapes: N samples, n rows asked for, T their tokens together, D features, V rows of `tokens/values`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from uml_cache.reading.sources import RowSource

if TYPE_CHECKING:
    import torch


class TokenAccess:
    """Ragged tokens of a store, packed on demand.

    `lengths` (N,) int32 is the number of tokens of each sample; `access` tells how they are read.
    """

    def __init__(self, source: RowSource, start: np.ndarray, lengths: np.ndarray, access: str) -> None:
        self._source = source
        self._start = start
        self.lengths = lengths
        self.access = access

    @property
    def dim(self) -> int:
        """The width of a token."""
        return self._source.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """The type that tokens are stored in."""
        return self._source.dtype

    def packed(
        self, rows: np.ndarray | torch.Tensor, out: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens of `rows` (n,) one sample after the other: values (T, D) and offsets (n + 1,) int64.

        Sample i of `rows` has `values[offsets[i]:offsets[i + 1]]`. `out` (at least T, D) is used instead of
        fresh memory, which is what a large gather costs most.
        """
        import torch

        rows = np.asarray(rows, dtype=np.int64)
        lengths = self.lengths[rows].astype(np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        total = int(offsets[-1])
        positions = np.arange(total) + np.repeat(self._start[rows] - offsets[:-1], lengths)
        if out is None:
            out = torch.empty((total, self.dim), dtype=self.dtype)
        values = out[:total]
        self._source.read(torch.from_numpy(positions), values)
        return values, torch.from_numpy(offsets)
