"""Ridge regression whose class weights are alike where an auxiliary's classes are (`prior`; `ridge` without).

Shapes: M candidates, n rows, K coordinates, D features, C classes.

The weights W (C, K) of centred one-hot labels minimise

    Σ_n ‖y_n − W x_n‖² + λ tr(Wᵀ S⁻¹ W),    S = (1 − ρ) · I + ρ · K

so that before any row is seen two classes' weights have the covariance that S says: K (C, C) compares the
classes' means in the auxiliary, I makes every class independent. In the eigenvectors of K (V, values l) and
the axes of the rows' scatter (values s) every entry of VᵀW stands alone:

    (VᵀW)_jk = (VᵀYᵀX)_jk · m_j / (s_k m_j + λ),    m_j = (1 − ρ) + ρ · l_j

With ρ = 0 it is plain ridge regression. Only how classes lie to each other is taken from the auxiliary, so
its features need no map into the target's. Candidates are compared by cross-validation on training and
validation rows together, each fold without some rows of every class: leaving single rows out would unbalance
the classes and prefer the smallest penalty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from uml_train.data.rows import vectors
from uml_train.fullbatch.axes import AxisStream, Solution, remembered
from uml_train.fullbatch.linear import single_layer
from uml_train.fullbatch.shared import Effort
from uml_train.fullbatch.squared import centred_targets
from uml_train.heads.models import HeadModel, Samples
from uml_train.heads.weights import class_means, seeded
from uml_train.protocols.grid import Point

_FOLDS = 5
_FEW = 8  # rows of a class in training and validation together
_MANY = 2_048  # rows of all classes
_PARTS = 5  # of a fold


def class_kernel(auxiliaries: Sequence[Samples], classes: int) -> Tensor:
    """How alike the classes are in the auxiliaries: (C, C) float64, positive semi-definite, mean diagonal 1.

    Per auxiliary the classes' means are centred and brought to unit length, and compared by
    exp(−d² / median d²), centred over the classes: what all classes have in common says nothing of one. The
    kernels of several auxiliaries are averaged. A class that an auxiliary lacks is independent of the others.
    """
    kernels = [_kernel(samples, classes) for samples in auxiliaries]
    return torch.stack(kernels).mean(0)


def _kernel(samples: Samples, classes: int) -> Tensor:
    means, counts = class_means(samples.features, samples.labels, classes)
    present = torch.nonzero(counts > 0).flatten()
    kernel = torch.eye(classes, dtype=torch.float64)
    if len(present) < 2:
        return kernel
    m = means[present]
    m = torch.nn.functional.normalize(m - m.mean(0), dim=1)
    squares = (2.0 - 2.0 * (m @ m.T)).clamp_min(0.0)
    off = ~torch.eye(len(m), dtype=torch.bool)
    alike = torch.exp(-squares / squares[off].median().clamp_min(1e-12))
    alike = alike - alike.mean(0)
    alike = alike - alike.mean(1, keepdim=True)
    size = alike.diagonal().mean()
    if size > 1e-12:  # means that are all alike tell no class from another
        kernel[present[:, None], present] = (alike + alike.T) / (2.0 * size)
    return kernel


def solve_prior(model: HeadModel, points: Sequence[Point], _: Effort | None = None) -> Solution:
    """Solve one model, whose target has no projection, for its points; a closed form takes no effort."""
    stream = AxisStream.of(model.target, centred=True)
    squares, against, share = stream.moments(model.classes)
    values, turn = _independent(model)
    theta = turn @ ((turn.T @ against) * _factors(values, squares, stream.spread, points))
    steps = torch.ones(len(points), dtype=torch.int64)
    return single_layer(stream, theta, share.expand(len(points), -1), steps, model.target.logit_scale)


def _independent(model: HeadModel) -> tuple[Tensor, Tensor]:
    """The factors l (C,) and v (C, C): the kernel's eigenvalues, and its eigenvectors as columns."""
    if model.kernel is None:
        return torch.ones(model.classes, dtype=torch.float64), torch.eye(model.classes, dtype=torch.float64)
    values, turn = torch.linalg.eigh(model.kernel)
    return values.clamp_min(0.0), turn


def _factors(values: Tensor, squares: Tensor, spread: float, points: Sequence[Point]) -> Tensor:
    """m_j / (s_k m_j + λ) for every point: (M, C, K)."""
    rho = torch.tensor([p.prior or 0.0 for p in points], dtype=torch.float64)[:, None, None]
    strength = torch.tensor([p.strength for p in points], dtype=torch.float64)[:, None, None]
    m = (1.0 - rho) + rho * values[:, None]
    return m / (squares * m + spread / strength).clamp_min(1e-30)


def cross_validated(model: HeadModel, points: Sequence[Point]) -> tuple[Tensor, Tensor] | None:
    """Logits (M, m, C) float64 of held-out rows for every point, and their labels (m,).

    Rows are those of training and validation together. None where no class has two, and where there are so
    many that the validation rows alone tell the points apart.
    """
    features = torch.cat([vectors(model.target.features), vectors(model.validation[0])])
    labels = torch.cat([model.target.labels, model.validation[1]])
    if len(labels) > _MANY:
        return None
    key = "folds", features, labels, model.classes, model.seed
    parts = remembered(lambda: _folded(features, labels, model.classes, model.seed), *key)
    if not parts:
        return None
    values, turn = _independent(model)
    found = []
    for at in range(0, len(parts), _PARTS):
        queries, squares, against, spread = parts[at : at + _PARTS - 1]
        solved = (turn.T @ against) * _factors(values, squares, float(spread), points)
        found.append(queries @ solved.mT @ turn.T)
    return torch.cat(found, 1), torch.cat(parts[_PARTS - 1 :: _PARTS])


def _folded(features: Tensor, labels: Tensor, classes: int, seed: int) -> tuple[Tensor, ...]:
    """Per fold, one after the other: the rows held out (m, n) in the axes of the other n rows, those axes'
    squares (n,), the labels against them (C, n), their spread (), and the labels held out (m,)."""
    rows = features.double()
    rows = rows - rows.mean(0)
    gram = rows @ rows.T
    parts: list[Tensor] = []
    for held in folds(labels, seed):
        rest, seen = gram[~held][:, ~held], gram[held][:, ~held]
        # Centred on the rows that are trained on, those held out too.
        offset = rest.mean(0)
        own = rest - offset - offset.unsqueeze(1) + offset.mean()
        queries = seen - offset - seen.mean(1, keepdim=True) + offset.mean()
        squares, axes = torch.linalg.eigh(own)
        y, _ = centred_targets(labels[~held], classes, torch.ones(len(own)))
        parts += [
            queries @ axes, squares.clamp_min(0.0), y.double().T @ axes, own.diagonal().mean(), labels[held]
        ]  # fmt: skip
    return tuple(parts)


def folds(labels: Tensor, seed: int) -> Iterator[Tensor]:
    """Which rows (n,) bool each fold holds out: of every class that has rows enough a like number.

    Labels are (n,) int64.

    There are as many folds as the smallest class of two or more has rows, at most five. Where that is few,
    the rows are parted several times; above eight rows there is no fold, because a class then has four
    validation rows and more.
    """
    y = labels.numpy()
    counts = np.bincount(y)
    several = counts[counts > 1]
    if not len(several) or several.min() > _FEW:
        return
    smallest = int(several.min())
    parts = min(_FOLDS, smallest)
    generator = seeded(seed, "folds")
    for _ in range(_FEW // smallest):
        fold = np.full(len(y), -1)
        for c in np.flatnonzero(counts > 1):
            own = generator.permutation(np.flatnonzero(y == c))
            fold[own] = (np.arange(len(own)) + generator.integers(parts)) % parts
        for part in range(parts):
            yield torch.from_numpy(fold == part)
