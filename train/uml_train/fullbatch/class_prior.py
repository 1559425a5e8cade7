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
from uml_train.fullbatch.axes import AxisStream
from uml_train.fullbatch.shared import Effort, Shared
from uml_train.fullbatch.squared import centred_targets
from uml_train.grid import Point
from uml_train.heads.models import HeadModel, Samples
from uml_train.heads.weights import class_means, seeded

_FOLDS = 5
_FEW = 8  # rows of a class in training and validation together
_MANY = 2_048  # rows of all classes


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


def solve_prior(model: HeadModel, points: Sequence[Point], _: Effort | None = None) -> Shared:
    """Solve one model, whose target has no projection, for its points; a closed form takes no effort."""
    stream = AxisStream.of(model.target, centred=True)
    theta, share = _weights(stream, model, points)
    head = theta @ stream.basis.double().T
    bias = share - head @ stream.mean
    steps = torch.ones(len(points), dtype=torch.int64)
    return Shared((head / model.target.logit_scale).float(), [None], bias, steps)


def _weights(stream: AxisStream, model: HeadModel, points: Sequence[Point]) -> tuple[Tensor, Tensor]:
    """W (M, C, K) float64 and the classes' shares (C,), of a stream's rows."""
    y, share = centred_targets(stream.labels, model.classes, stream.importance)
    x, weighted = stream.x.double(), stream.importance.double()[:, None] * stream.x.double()
    values, turn = _independent(model)
    turned = turn.T @ (y.double().T @ weighted)
    factors = _factors(values, (weighted * x).sum(0), stream.spread, points)
    return torch.stack([turn @ (turned * f) for f in factors]), share.double()


def _independent(model: HeadModel) -> tuple[Tensor, Tensor]:
    """l (C,) and V (C, C): the kernel's eigenvalues, and its eigenvectors as columns."""
    if model.kernel is None:
        return torch.ones(model.classes, dtype=torch.float64), torch.eye(model.classes, dtype=torch.float64)
    values, turn = torch.linalg.eigh(model.kernel)
    return values.clamp_min(0.0), turn


def _factors(values: Tensor, squares: Tensor, spread: float, points: Sequence[Point]) -> Iterator[Tensor]:
    """m_j / (s_k m_j + λ) for every point: (C, K)."""
    for point in points:
        rho = point.prior or 0.0
        m = ((1.0 - rho) + rho * values).unsqueeze(1)
        yield m / (squares * m + spread / point.strength).clamp_min(1e-30)


def cross_validated(model: HeadModel, points: Sequence[Point]) -> tuple[list[Tensor], Tensor] | None:
    """Logits (m, C) of held-out rows for every point, and their labels (m,).

    Rows are those of training and validation together. None where no class has two, and where there are so
    many that the validation rows alone tell the points apart.
    """
    features = torch.cat([vectors(model.target.features), vectors(model.validation[0])]).double()
    labels = torch.cat([model.target.labels, model.validation[1]])
    if len(labels) > _MANY:
        return None
    features = features - features.mean(0)
    gram, spans = features @ features.T, _independent(model)
    parts: list[list[Tensor]] = [[] for _ in points]
    truth = []
    for held in folds(labels, model.seed):
        logits = _held_out(gram, labels, held, spans, model.classes, points)
        for part, z in zip(parts, logits, strict=True):
            part.append(z)
        truth.append(labels[held])
    return ([torch.cat(part) for part in parts], torch.cat(truth)) if truth else None


def _held_out(
    gram: Tensor,
    labels: Tensor,
    held: Tensor,
    spans: tuple[Tensor, Tensor],
    classes: int,
    points: Sequence[Point],
) -> Iterator[Tensor]:
    """Logits (m, C) of the rows `held` (n,), less the classes' shares, by products of rows (n, n) alone."""
    rest, seen = gram[~held][:, ~held], gram[held][:, ~held]
    # Centred on the rows that are trained on, those held out too.
    offset = rest.mean(0)
    own = rest - offset - offset.unsqueeze(1) + offset.mean()
    queries = seen - offset - seen.mean(1, keepdim=True) + offset.mean()
    squares, axes = torch.linalg.eigh(own)
    values, turn = spans
    y, _ = centred_targets(labels[~held], classes, torch.ones(len(own)))
    turned = (axes.T @ y.double() @ turn).T
    queries = queries @ axes
    spread = float(own.diagonal().mean())
    for factor in _factors(values, squares.clamp_min(0.0), spread, points):
        yield queries @ (turned * factor).T @ turn.T


def folds(labels: Tensor, seed: int) -> Iterator[Tensor]:
    """Which rows (n,) each fold holds out: of every class that has rows enough a like number.

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
