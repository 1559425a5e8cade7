"""What the solvers share: a modality's rows in their axes, the thin factors of heads, and what they give.

Shapes: M candidates, n rows, D features, K coordinates, W shared width, C classes, r ≤ min(C, W).
Tensors are float32 where nothing else is said, labels int64.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from uml_train.data.rows import vectors
from uml_train.fullbatch.softmax import principal
from uml_train.heads.models import Samples
from uml_train.heads.weights import seeded

Made = TypeVar("Made", bound="tuple[Any, ...]")

_KEPT = 128_000_000  # bytes of results that are remembered
_known: OrderedDict[str, tuple[int, Any]] = OrderedDict()
_NEGLIGIBLE = 1e-6  # singular values of a head below this share of the largest carry nothing


def remembered(make: Callable[[], Made], *key: object) -> Made:
    """What `make` gives, made once for equal keys: many cells of a run have rows in common.

    Tensors in the key count by their content, so that nothing depends on what was solved before.
    """
    name = digest_of(*key)
    there = _known.get(name)
    if there is None:
        made = make()
        size = sum(part.nbytes for part in made if isinstance(part, Tensor))
        if size > _KEPT // 4:
            return made
        there = _known[name] = size, made
        while sum(size for size, _ in _known.values()) > _KEPT:
            _known.popitem(last=False)
    else:
        _known.move_to_end(name)
    found: Made = there[1]
    return found


def digest_of(*key: object) -> str:
    """A name that equal keys share; tensors count by their content."""
    digest = hashlib.sha256()
    for part in key:
        if isinstance(part, Tensor):
            digest.update(part.contiguous().numpy().data)
            digest.update(repr((part.shape, part.dtype)).encode())
        else:
            digest.update(repr(part).encode() + b";")
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class AxisStream:
    """One modality's rows as coordinates in an orthonormal basis of their span.

    `x` (n, K) = (features − mean) · basis, with basis (D, K) and mean (D,) float64; labels and
    importance (n,). `spread`, which strengths are measured by, is the mean squared length of x's rows.
    `name` is that of features and importance.
    """

    x: Tensor
    basis: Tensor
    mean: Tensor
    labels: Tensor
    spread: float
    importance: Tensor
    name: str

    @classmethod
    def of(cls, samples: Samples, *, centred: bool) -> AxisStream:
        """The samples along the axes of their own span."""
        importance = torch.ones(len(samples.labels)) if samples.importance is None else samples.importance
        features = vectors(samples.features)
        name = digest_of("axes", centred, features, importance)
        x, basis, mean, spread = remembered(lambda: axes_of(features, importance, centred=centred), name)
        return cls(x, basis, mean, samples.labels, spread, importance, name)

    def __len__(self) -> int:
        return len(self.x)

    def coordinates(self, features: Tensor) -> Tensor:
        """(m, K) of other rows (m, D) of the modality."""

        def make() -> tuple[Tensor]:
            return (((features.double() - self.mean) @ self.basis.double()).float(),)

        return remembered(make, "coordinates", self.name, features)[0]

    def moments(self, classes: int) -> tuple[Tensor, Tensor, Tensor]:
        """What closed forms need of the rows, float64, under the importance v: Σ v x² (K,), in which the
        axes stand alone; Σ v (y − share) xᵀ (C, K) with one-hot labels y; and the classes' shares (C,)."""

        def make() -> tuple[Tensor, Tensor, Tensor]:
            y = torch.nn.functional.one_hot(self.labels, classes).double()
            v = self.importance.double()
            share = v @ y / v.sum()
            weighted = v[:, None] * self.x.double()
            return (weighted * self.x.double()).sum(0), (y - share).T @ weighted, share

        return remembered(make, "moments", self.name, self.labels, classes)


def axes_of(features: Tensor, importance: Tensor, *, centred: bool) -> tuple[Tensor, Tensor, Tensor, float]:
    """What an `AxisStream` of features (n, D) and weights (n,) has besides: x, basis, mean and spread."""
    axes = principal(features, importance, centred=centred)
    x = axes.coordinates
    if not x.shape[1]:  # rows that are all alike
        return torch.zeros(len(x), 1), torch.zeros(features.shape[1], 1), axes.mean, 1.0
    return x, axes.basis, axes.mean, float((importance * x.square().sum(1)).sum() / importance.sum())


def auxiliary_stream(samples: Samples) -> AxisStream:
    """An auxiliary's rows, whose mean stays: the head sees them as they are."""
    return AxisStream.of(samples, centred=False)


@dataclass(frozen=True, eq=False)
class Solution:
    """M solved heads, as what they do to rows in their axes.

    Args:
        streams: the modalities, the target first.
        effects: per modality (M, C, K): logits are x · effectᵀ, and the target's have `bias` besides.
        bias: (M, C) float64.
        steps: (M,) int64.
        parts: of a candidate its head (C, W), projections per modality (W, D) or None, and its bias (C,)
            float64 for features as they are.
    """

    streams: list[AxisStream]
    effects: list[Tensor]
    bias: Tensor
    steps: Tensor
    parts: Callable[[int], tuple[Tensor, list[Tensor | None], Tensor]]

    def logits(self, features: Tensor) -> Tensor:
        """(M, n, C) float64 of the target's rows (n, D)."""
        rows = self.streams[0].coordinates(features)
        return (rows @ self.effects[0].mT).double() + self.bias[:, None, :]


@dataclass(frozen=True, eq=False)
class Thin:
    """Heads (M, C, W) = left · diag(values) · rightᵀ: left (M, C, r), values (M, r), right (M, W, r)."""

    left: Tensor
    values: Tensor
    right: Tensor

    @classmethod
    def of(cls, heads: Tensor) -> Thin:
        """Of heads (M, C, W), by the eigenvectors of the smaller Gram matrix, in double precision;
        directions that carry nothing have values 0."""
        h = heads.double()
        wide = h.shape[1] <= h.shape[2]
        squares, vectors_ = torch.linalg.eigh(h @ h.mT if wide else h.mT @ h)
        values = squares.clamp_min(0.0).sqrt()
        kept = values > _NEGLIGIBLE * values[:, -1:].clamp_min(1e-30)
        values = torch.where(kept, values, 0.0)
        inverse = torch.where(kept, values.clamp_min(1e-30).reciprocal(), 0.0)
        other = (h.mT if wide else h) @ vectors_ * inverse[:, None, :]
        left, right = (vectors_, other) if wide else (other, vectors_)
        return cls(left.float(), values.float(), right.float())

    @property
    def mix(self) -> Tensor:
        """(M, r, C): what turns coordinates in `right` into logits."""
        return (self.left * self.values[:, None, :]).mT.contiguous()


def squares_of(heads: Tensor) -> Tensor:
    """(M,) ‖H‖² of stacks (M, …)."""
    return heads.flatten(1).square().sum(1)


def directions(classes: int, width: int, seed: int, beside: Tensor | None = None) -> Tensor:
    """(C, W) rows of length 1 in random directions, orthogonal to each other (the columns, where C > W).

    Args:
        beside: (b, W) orthonormal rows that they are orthogonal to, too, where there is room for both.
    """
    draw = seeded(seed, "directions").standard_normal((width, classes))
    g = torch.from_numpy(draw)
    if beside is not None and len(beside) + classes <= width:
        b = beside.double()
        g = g - b.T @ (b @ g)
    if classes <= width:
        return torch.linalg.qr(g)[0].T.float().contiguous()
    return (torch.linalg.qr(g.T)[0] * (classes / width) ** 0.5).float().contiguous()
