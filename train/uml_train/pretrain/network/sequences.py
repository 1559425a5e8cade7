"""Sequences of a store as batches of packed tokens.

Shapes: n sequences, T tokens of a batch, D features of a token, W width, V ids of a vocabulary.

Tokens are vectors (T, D) or, where the store says so, ids (T,) of a vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from uml_cache import FeatureSet, InputError
from uml_train.heads.weights import seeded
from uml_train.pretrain.network.packing import Layout, TokenBatch, by_length

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
            normal distribution with the mean and deviation of the real ones; ids in the real ones' shares.
    """

    label: str
    features: FeatureSet
    rows: np.ndarray
    mean: Tensor | None = None
    scale: Tensor | None = None
    noise: int | None = None
    like: tuple[Tensor, Tensor] | np.ndarray | None = field(default=None, repr=False)

    @property
    def dim(self) -> int:
        """D."""
        return self.features.tokens.dim

    @property
    def vocabulary(self) -> int | None:
        """V, where the tokens are ids; None where they are vectors."""
        return self.features.vocabulary

    @cached_property
    def lengths(self) -> np.ndarray:
        """(n,) int64 tokens of every row."""
        return self.features.tokens.lengths[self.rows].astype(np.int64)

    def standardised(self) -> Sequences:
        """The same, every feature with mean 0 and deviation 1 over the tokens of these rows; ids stay."""
        if self.vocabulary is not None:
            return self
        mean, scale = _moments(self)
        return Sequences(label=self.label, features=self.features, rows=self.rows, mean=mean, scale=scale)

    def as_noise(self, seed: int) -> Sequences:
        """The control `random` of these sequences, as they would have reached the network."""
        like = _moments(self) if self.vocabulary is None else _shares(self)
        return Sequences(label=self.label, features=self.features, rows=self.rows, noise=seed, like=like)

    def only(self, rows: np.ndarray) -> Sequences:
        """Other rows (n,) int64 of the store, mapped alike."""
        return Sequences(
            label=self.label,
            features=self.features,
            rows=rows,
            mean=self.mean,
            scale=self.scale,
            noise=self.noise,
            like=self.like,
        )

    def batch(self, positions: np.ndarray, device: str = "cpu") -> TokenBatch:
        """The sequences at `positions` (m,) int64 in `rows`, packed, the shortest first."""
        rows = self.rows[positions]
        rows = by_length(rows, self.features.tokens.lengths[rows])
        if self.noise is None:
            values, offsets = self.features.tokens.packed(rows)
            values = values.float() if self.vocabulary is None else values[:, 0].long()
            lengths = np.diff(offsets.numpy())
        else:
            lengths = self.features.tokens.lengths[rows].astype(np.int64)
            values = self._noise(rows, lengths)
        if self.mean is not None and self.scale is not None:
            values = (values - self.mean) / self.scale
        return TokenBatch(values.to(device), Layout(lengths, device))

    def _noise(self, rows: np.ndarray, lengths: np.ndarray) -> Tensor:
        assert self.like is not None
        draws = [
            (seeded(self.noise, "noise sequence", self.label, int(row)), int(n))
            for row, n in zip(rows, lengths, strict=True)
        ]
        if isinstance(self.like, np.ndarray):
            places = np.concatenate([generator.random(n) for generator, n in draws])
            return torch.from_numpy(np.searchsorted(self.like, places, side="right"))
        parts = [generator.standard_normal((n, self.dim), dtype=np.float32) for generator, n in draws]
        mean, scale = self.like
        return torch.from_numpy(np.concatenate(parts)) * scale + mean


def sequences(label: str, features: FeatureSet, rows: np.ndarray) -> Sequences:
    """Those of `rows` (n,) int64 that have tokens. Raises `InputError` where none has."""
    rows = rows[features.tokens.lengths[rows] > 0]
    if len(rows) == 0:
        raise InputError(f"{features.path} has no sample with tokens among the rows to learn from")
    return Sequences(label=label, features=features, rows=rows)


def pieces(lengths: np.ndarray) -> Iterator[np.ndarray]:
    """Positions (n,) int64 of sequences of like length, few tokens at a time; empty ones are left out."""
    order = by_length(np.arange(len(lengths)), lengths)
    order = order[lengths[order] > 0]
    at = 0
    while at < len(order):
        longest = np.maximum.accumulate(lengths[order[at : at + _TOKENS_AT_ONCE]])
        fits = longest * (np.arange(len(longest)) + 1) <= _TOKENS_AT_ONCE
        count = max(1, int(fits.sum()))
        yield order[at : at + count]
        at += count


def _some(source: Sequences) -> np.ndarray:
    """Positions of sequences drawn at random, with so many tokens that statistics rest on enough."""
    order = seeded("moments", source.label).permutation(len(source.rows))
    return order[: max(1, int((np.cumsum(source.lengths[order]) <= _FIT_TOKENS).sum()))]


def _shares(source: Sequences) -> np.ndarray:
    """(V − 1,) float64, the share of tokens whose id is at most 0, 1, …, V − 2."""
    ids = source.batch(_some(source)).values.numpy()
    counts = np.bincount(ids, minlength=source.vocabulary or 0)
    return np.cumsum(counts)[:-1] / counts.sum()


def _moments(source: Sequences) -> tuple[Tensor, Tensor]:
    """Mean and deviation (D,) float32 over tokens; a feature that does not vary has deviation 1."""
    order = _some(source)
    total, squares, count = torch.zeros(source.dim).double(), torch.zeros(source.dim).double(), 0
    low, high = torch.full((source.dim,), torch.inf), torch.full((source.dim,), -torch.inf)
    base: Tensor | None = None
    for part in pieces(source.lengths[order]):
        tokens = source.batch(order[part]).values
        low, high = torch.minimum(low, tokens.amin(0)), torch.maximum(high, tokens.amax(0))
        values = tokens.double()
        # Distances from the first tokens' mean: of values as they are, E x² − (E x)² keeps few digits
        # behind a large offset.
        base = values.mean(0) if base is None else base
        values -= base
        total, squares, count = total + values.sum(0), squares + values.square().sum(0), count + len(values)
    if base is None:
        raise ValueError(f"{source.label} has no tokens")
    mean = total / count
    deviation = (squares / count - mean.square()).clamp_min(0).sqrt()
    varies = (high > low) & (deviation > 0)
    return (base + mean).float(), torch.where(varies, deviation, 1.0).float()
