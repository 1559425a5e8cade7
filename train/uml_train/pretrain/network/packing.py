"""Ragged sequences without padding: packed tokens, and the blocks of like length in which they attend.

Shapes: n sequences, T tokens of all of them one after the other, L tokens of the longest in a block, P
positions of all blocks together (n·L summed over blocks).

All of a network but attention works on tokens one by one, so it works on the packed ones. Attention is
causal: what stands behind a sequence's end is seen by no token of it, so that a block may be padded at the
end without a mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

_WASTE = 1.25  # within a block the longest sequence is at most so much longer than the shortest


@dataclass(frozen=True, eq=False)
class Layout:
    """How n packed sequences lie: `lengths` (n,) int64, ascending, none 0; `device` holds the indices."""

    lengths: np.ndarray
    device: str = "cpu"

    @cached_property
    def blocks(self) -> list[tuple[int, int]]:
        """(sequences, L) of every block, neighbours of like length together."""
        found: list[tuple[int, int]] = []
        count, shortest, longest = 0, 0, 0
        for length in self.lengths.tolist():
            if count and length > max(shortest * _WASTE, shortest + 1):
                found.append((count, longest))
                count = 0
            shortest = length if count == 0 else shortest
            count, longest = count + 1, length
        return [*found, (count, longest)] if count else found

    @cached_property
    def starts(self) -> np.ndarray:
        """(n,) int64, the first token of every sequence."""
        return np.cumsum(self.lengths) - self.lengths

    @cached_property
    def gather(self) -> Tensor:
        """(P,) int64: the token at every position of the blocks; behind the end the sequence's last one."""
        parts, at = [], 0
        for count, longest in self.blocks:
            places = np.minimum(np.arange(longest), self.lengths[at : at + count, None] - 1)
            parts.append((self.starts[at : at + count, None] + places).reshape(-1))
            at += count
        return torch.from_numpy(np.concatenate(parts)).to(self.device)

    @cached_property
    def scatter(self) -> Tensor:
        """(T,) int64: the position of every token in the blocks."""
        width = np.repeat([longest for _, longest in self.blocks], [count for count, _ in self.blocks])
        first = np.cumsum(width) - width
        return torch.from_numpy(np.repeat(first - self.starts, self.lengths) + np.arange(self.tokens)).to(
            self.device
        )

    @property
    def tokens(self) -> int:
        """T."""
        return int(self.lengths.sum())

    @cached_property
    def places(self) -> Tensor:
        """(T,) int64: how far every token is from its sequence's start."""
        place = np.arange(self.tokens) - np.repeat(self.starts, self.lengths)
        return torch.from_numpy(place).to(self.device)

    @cached_property
    def predicted(self) -> tuple[Tensor, Tensor]:
        """(S,) int64 each: the tokens that predict, and those that they should predict.

        Every token but the last predicts the next one; a sequence of one token reconstructs it.
        """
        last = self.starts + self.lengths - 1
        from_ = np.arange(self.tokens)
        keep = np.ones(self.tokens, dtype=bool)
        keep[last] = self.lengths == 1
        to = from_ + 1
        to[last] = last
        return torch.from_numpy(from_[keep]).to(self.device), torch.from_numpy(to[keep]).to(self.device)

    def mean(self, values: Tensor) -> Tensor:
        """(n, W): the mean of every sequence's tokens in values (T, W)."""
        counts = torch.from_numpy(self.lengths).to(values.device)
        sequence = torch.repeat_interleave(torch.arange(len(counts), device=values.device), counts)
        sums = values.new_zeros(len(counts), values.shape[1]).index_add_(0, sequence, values)
        return sums / counts.unsqueeze(1)


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """A batch of one modality: values (T, D) float32, or ids (T,) int64; sequences in `layout`'s order."""

    values: Tensor
    layout: Layout

    @property
    def targets(self) -> int:
        """How many tokens are predicted."""
        lengths = self.layout.lengths
        return int(np.maximum(lengths - 1, 1).sum())


def by_length(rows: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The rows (n,) in ascending order of their lengths, equals in the order given; both integer types."""
    return rows[np.argsort(lengths, kind="stable")]
