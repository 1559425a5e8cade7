"""Sequences of a store as batches of packed tokens.

Shapes: n sequences, T tokens of a batch, D features of a token, W width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from uml_cache import FeatureSet
from uml_cache.errors import InputError
from uml_train.heads import seeded
from uml_train.ssl.packing import Layout, Packed, by_length

_TOKENS_AT_ONCE = 16_384
_FIT_TOKENS = 2_000_000  # so many decide mean and deviation, at most


@dataclass(frozen=True, eq=False, kw_only=True)
class Sequences:
    """The tokens of some rows of a store.

    Args:
        label: the modality's name in the run.
        features: the store.
        rows: (n,) int64 rows of the store, in store order.
        mean, scale: (D,) float32; tokens are (value − mean) / scale. None: as they are.
        noise: a seed for the control `random`: sequences of the same lengths whose tokens are drawn from a
            normal distribution with the mean and deviation of the real ones.
    """

    label: str
    features: FeatureSet
    rows: np.ndarray
    mean: Tensor | None = None
    scale: Tensor | None = None
    noise: int | None = None
    like: tuple[Tensor, Tensor] | None = field(default=None, repr=False)

    @property
    def dim(self) -> int:
        """D."""
        return self.features.tokens.dim

    @cached_property
    def lengths(self) -> np.ndarray:
        """(n,) int64 tokens of every row."""
        return self.features.tokens.lengths[self.rows].astype(np.int64)

    def standardised(self) -> Sequences:
        """The same, every feature with mean 0 and deviation 1 over the tokens of these rows."""
        mean, scale = _moments(self)
        return Sequences(label=self.label, features=self.features, rows=self.rows, mean=mean, scale=scale)

    def as_noise(self, seed: int) -> Sequences:
        """The control `random` of these sequences, as they would have reached the network."""
        return Sequences(
            label=self.label, features=self.features, rows=self.rows, noise=seed, like=_moments(self)
        )

    def only(self, rows: np.ndarray) -> Sequences:
        """Other rows of the store, mapped alike."""
        return Sequences(
            label=self.label,
            features=self.features,
            rows=rows,
            mean=self.mean,
            scale=self.scale,
            noise=self.noise,
            like=self.like,
        )

    def batch(self, positions: np.ndarray, device: str = "cpu") -> Packed:
        """The sequences at some positions in `rows`, packed, the shortest first."""
        rows = self.rows[positions]
        rows = by_length(rows, self.features.tokens.lengths[rows])
        if self.noise is None:
            values, offsets = self.features.tokens.packed(rows)
            values = values.to(torch.float32)
            lengths = np.diff(offsets.numpy())
        else:
            lengths = self.features.tokens.lengths[rows].astype(np.int64)
            values = self._noise(rows, lengths)
        if self.mean is not None and self.scale is not None:
            values = (values - self.mean) / self.scale
        return Packed(values.to(device), Layout(lengths, device))

    def _noise(self, rows: np.ndarray, lengths: np.ndarray) -> Tensor:
        assert self.like is not None
        parts = [
            seeded(self.noise, "noise sequence", self.label, int(row)).standard_normal(
                (int(n), self.dim), dtype=np.float32
            )
            for row, n in zip(rows, lengths, strict=True)
        ]
        mean, scale = self.like
        return torch.from_numpy(np.concatenate(parts)) * scale + mean


def sequences(label: str, features: FeatureSet, rows: np.ndarray) -> Sequences:
    """The rows that have tokens. Raises `InputError` where none has."""
    rows = rows[features.tokens.lengths[rows] > 0]
    if len(rows) == 0:
        raise InputError(f"{features.path} has no sample with tokens among the rows to learn from")
    return Sequences(label=label, features=features, rows=rows)


def pieces(lengths: np.ndarray) -> Iterator[np.ndarray]:
    """Positions (n,) of sequences of like length, few tokens at a time; empty ones are left out."""
    order = by_length(np.arange(len(lengths)), lengths)
    order = order[lengths[order] > 0]
    at = 0
    while at < len(order):
        longest = np.maximum.accumulate(lengths[order[at : at + _TOKENS_AT_ONCE]])
        fits = longest * (np.arange(len(longest)) + 1) <= _TOKENS_AT_ONCE
        count = max(1, int(fits.sum()))
        yield order[at : at + count]
        at += count


def _moments(source: Sequences) -> tuple[Tensor, Tensor]:
    """Mean and deviation (D,) float32 over tokens; a feature that does not vary has deviation 1."""
    order = seeded("moments", source.label).permutation(len(source.rows))
    order = order[: max(1, int((np.cumsum(source.lengths[order]) <= _FIT_TOKENS).sum()))]
    total, squares, count = torch.zeros(source.dim).double(), torch.zeros(source.dim).double(), 0
    for part in pieces(source.lengths[order]):
        values = source.batch(order[part]).values.double()
        total, squares, count = total + values.sum(0), squares + values.square().sum(0), count + len(values)
    mean = total / count
    deviation = (squares / count - mean.square()).clamp_min(0).sqrt()
    return mean.float(), torch.where(deviation > 1e-6, deviation, 1.0).float()
