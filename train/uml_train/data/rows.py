"""The features that a model sees, wherever they lie: in memory, mapped, or read from a store on demand.

Shapes: n samples, D features, T tokens of some samples together, C classes.

A sample is one vector (pooled features) or a sequence of vectors (tokens). Both kinds of `Rows` give the same
float32 numbers for the same sample: what is done to features is done sample by sample, and whatever is summed
over samples is summed in the same blocks.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from uml_cache import FeatureSet, Sampler, make_loader
from uml_train.data.normalize import Normalizer

BLOCK = 1 << 20  # numbers that are looked at together where all samples are gone through


@dataclass(frozen=True, eq=False)
class Packed:
    """Samples one after the other: values (T, D) float32.

    `offsets` (n + 1,) int64 lie between the samples' tokens; None where every sample is one vector.
    """

    values: Tensor
    offsets: Tensor | None = None

    def __len__(self) -> int:
        return len(self.values) if self.offsets is None else len(self.offsets) - 1

    def means(self) -> Tensor:
        """(n, D): the mean of each sample's vectors; zeros for a sample without any."""
        return self.values if self.offsets is None else segment_means(self.values, self.offsets)

    def to(self, device: torch.device | str) -> Packed:
        """The same on a device."""
        return Packed(self.values.to(device), None if self.offsets is None else self.offsets.to(device))


def sample_of(offsets: Tensor) -> Tensor:
    """(T,) int64: the sample that each token belongs to."""
    samples = torch.arange(len(offsets) - 1, device=offsets.device)
    return torch.repeat_interleave(samples, offsets.diff())


def segment_means(values: Tensor, offsets: Tensor) -> Tensor:
    """(n, W): the mean over each sample's tokens of values (T, W); a sample without any has zeros."""
    sums = values.new_zeros(len(offsets) - 1, values.shape[1]).index_add(0, sample_of(offsets), values)
    return sums / offsets.diff().clamp_min(1).unsqueeze(1)


def block_bounds(sizes: np.ndarray, dim: int) -> list[tuple[int, int]]:
    """Cut samples of `sizes` (n,) vectors into runs of at most `BLOCK` numbers, one sample at least."""
    bounds, first, held = [], 0, 0
    if len(sizes) and sizes.min() == sizes.max():
        step = max(1, BLOCK // max(1, dim * int(sizes[0])))
        return [(at, min(at + step, len(sizes))) for at in range(0, len(sizes), step)]
    for at, size in enumerate(sizes.tolist()):
        if at > first and (held + size) * dim > BLOCK:
            bounds.append((first, at))
            first, held = at, 0
        held += size
    return [*bounds, (first, len(sizes))]


class Held:
    """Samples in memory. `values` (T, D) float32; `offsets` (n + 1,) int64, None for one vector each."""

    def __init__(self, values: Tensor, offsets: Tensor | None = None) -> None:
        self.values, self.offsets = values, offsets

    def __len__(self) -> int:
        return len(self.values) if self.offsets is None else len(self.offsets) - 1

    @property
    def dim(self) -> int:
        """D."""
        return int(self.values.shape[1])

    @property
    def ragged(self) -> bool:
        """Whether samples are sequences."""
        return self.offsets is not None

    @cached_property
    def sizes(self) -> np.ndarray:
        """(n,) vectors of each sample."""
        if self.offsets is None:
            return np.ones(len(self.values), dtype=np.int64)
        return self.offsets.diff().cpu().numpy()

    def take(self, index: Tensor) -> Packed:
        """Samples `index` (n′,) int64."""
        if self.offsets is None:
            return Packed(self.values[index])
        lengths = self.offsets.diff()[index]
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        within = torch.arange(int(offsets[-1]), device=index.device)
        first = self.offsets[index] - offsets[:-1]
        return Packed(self.values[within + torch.repeat_interleave(first, lengths)], offsets)

    def blocks(self) -> Iterator[tuple[slice, Packed]]:
        """All samples in order, in blocks of bounded size."""
        for first, last in block_bounds(self.sizes, self.dim):
            if self.offsets is None:
                yield slice(first, last), Packed(self.values[first:last])
            else:
                offsets = self.offsets[first : last + 1]
                values = self.values[int(offsets[0]) : int(offsets[-1])]
                yield slice(first, last), Packed(values, offsets - offsets[0])

    def shifted(self, shift: Tensor, labels: Tensor) -> Held:
        """With the row `labels[i]` of `shift` (C, D) added to every vector of sample i."""
        moved = shift[labels]
        return Held(
            self.values + (moved if self.offsets is None else moved[sample_of(self.offsets)]), self.offsets
        )

    def normalized(self, normalize: Normalizer) -> Held:
        """Mapped by a normalisation."""
        if normalize.identity:
            return self
        values = torch.empty_like(self.values)
        step = max(1, BLOCK // self.dim)  # no third copy of all values in between
        for ours, theirs in zip(values.split(step), self.values.split(step), strict=True):
            ours.copy_(normalize(theirs))
        return Held(values, self.offsets)

    def to(self, device: torch.device | str) -> Held:
        """The same on a device."""
        return Held(self.values.to(device), None if self.offsets is None else self.offsets.to(device))


@dataclass(frozen=True, eq=False, kw_only=True)
class Stored:
    """Samples in a store: `rows` (n,) int64 of `features`, each at most once.

    Args:
        part: `pooled` or `tokens`.
        loader: `host` or `stream`: how a model's batches come (`uml_cache.reading`).
        shift: None, or (C, D) float32 that is added by class, and `shift_labels` (n,) int64.
        normalize: applied last.
    """

    features: FeatureSet
    rows: np.ndarray
    part: str = "pooled"
    loader: str = "host"
    shift: Tensor | None = None
    shift_labels: Tensor | None = None
    normalize: Normalizer = field(default_factory=Normalizer)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def dim(self) -> int:
        """D."""
        return self.features.tokens.dim if self.ragged else self.features.dim

    @property
    def ragged(self) -> bool:
        """Whether samples are sequences."""
        return self.part == "tokens"

    @cached_property
    def sizes(self) -> np.ndarray:
        """(n,) vectors of each sample."""
        if not self.ragged:
            return np.ones(len(self.rows), dtype=np.int64)
        return self.features.tokens.lengths[self.rows].astype(np.int64)

    @property
    def numbers(self) -> int:
        """How many numbers the samples are."""
        return int(self.sizes.sum()) * self.dim

    def take(self, index: Tensor) -> Packed:
        """Samples `index` (n′,) int64, read from the store."""
        rows = self.rows[index.numpy()]
        if self.ragged:
            values, offsets = self.features.tokens.packed(rows)
            return self._seen(Packed(values.to(torch.float32), offsets), index)
        if self.loader == "host":  # a store that cannot be mapped is read once and kept
            values = self.features.pooled_of(rows).index_select(0, torch.from_numpy(rows))
        else:
            values = torch.empty((len(rows), self.dim), dtype=self.features.source.dtype)
            self.features.source.read(torch.from_numpy(rows), values)
        return self._seen(Packed(values.to(torch.float32)), index)

    def blocks(self) -> Iterator[tuple[slice, Packed]]:
        """All samples in order, in blocks of bounded size."""
        for first, last in block_bounds(self.sizes, self.dim):
            yield slice(first, last), self.take(torch.arange(first, last))

    def shifted(self, shift: Tensor, labels: Tensor) -> Stored:
        """With the row `labels[i]` of `shift` (C, D) added to every vector of sample i."""
        return replace(self, shift=shift, shift_labels=labels)

    def normalized(self, normalize: Normalizer) -> Stored:
        """Mapped by a normalisation."""
        return replace(self, normalize=normalize)

    def held(self) -> Held:
        """The same samples in memory."""
        values = torch.empty(int(self.sizes.sum()), self.dim)
        at = 0
        for _, block in self.blocks():
            values[at : at + len(block.values)] = block.values
            at += len(block.values)
        if not self.ragged:
            return Held(values)
        return Held(values, torch.from_numpy(np.concatenate([[0], np.cumsum(self.sizes)])))

    def batches(
        self, *, seed: int, name: str, batch: int, labels: Tensor | None = None
    ) -> Generator[Packed, None, None]:
        """Batches without end, those of `batches.batch_rows` with the same arguments.

        Values are good until the next batch is asked for. With `labels` (n,) they are class-balanced.
        """
        of_store = None
        if labels is not None:
            of_store = np.full(len(self.features), -1, dtype=np.int64)
            of_store[self.rows] = labels.numpy()
        sampler = Sampler(
            rows=self.rows,
            batch_size=batch,
            seed=seed,
            modality=name,
            order="shuffled" if of_store is None else "balanced",
            labels=of_store,
            drop_last=True,
        )
        loader = make_loader(self.features, sampler, part=self.part, kind=self.loader)
        for epoch in itertools.count():
            for part in loader.epoch(epoch):
                packed = Packed(part.values.to(torch.float32), part.offsets)
                index = None if self.shift is None else torch.from_numpy(self._position[part.rows])
                yield self._seen(packed, index)

    @cached_property
    def _position(self) -> np.ndarray:
        position = np.full(len(self.features), -1, dtype=np.int64)
        position[self.rows] = np.arange(len(self.rows))
        return position

    def _seen(self, packed: Packed, index: Tensor | None) -> Packed:
        values = packed.values
        if self.shift is not None and self.shift_labels is not None and index is not None:
            moved = self.shift[self.shift_labels[index]]
            values = values + (moved if packed.offsets is None else moved[sample_of(packed.offsets)])
        return Packed(self.normalize(values), packed.offsets)


Rows = Held | Stored


def vectors(features: Tensor | Rows) -> Tensor:
    """(n, D) float32 in memory of samples of one vector each; the mean of each one's tokens of sequences."""
    if isinstance(features, Tensor):
        return features
    held = features.held() if isinstance(features, Stored) else features
    return Packed(held.values, held.offsets).means()


def as_rows(features: Tensor | Rows) -> Rows:
    """A tensor (n, D) stands for samples of one vector each in memory."""
    return Held(features) if isinstance(features, Tensor) else features
