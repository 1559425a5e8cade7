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

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from uml_train.data.rows import vectors
from uml_train.fullbatch.parts import Stream
from uml_train.fullbatch.shared import Shared
from uml_train.fullbatch.squared import centred_targets
from uml_train.heads.grid import Point
from uml_train.heads.models import HeadModel, Samples
from uml_train.heads.weights import class_means, seeded

_FOLDS = 5
_HELD_OUT = 8  # times that a class's rows are held out in all, where it has few


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


def solve_prior(model: HeadModel, points: Sequence[Point]) -> Shared:
    """Solve one model, whose target has no projection, for its points."""
    stream = Stream.of(model.target, centred=True)
    theta, share = _weights(stream, model, points)
    head = theta @ stream.basis.double().T
    bias = share - head @ stream.mean
    steps = torch.ones(len(points), dtype=torch.int64)
    return Shared((head / model.target.logit_scale).float(), [None], bias, steps)


def _weights(stream: Stream, model: HeadModel, points: Sequence[Point]) -> tuple[Tensor, Tensor]:
    """W (M, C, K) float64 and the classes' shares (C,), of a stream's rows."""
    y, share = centred_targets(stream.labels, model.classes)
    x = stream.x.double()
    squares, against = x.square().sum(0), y.double().T @ x
    eye = torch.eye(model.classes, dtype=torch.float64)
    kernel = eye if model.kernel is None else model.kernel
    values, vectors_ = torch.linalg.eigh(kernel)
    turned = vectors_.T @ against
    found = []
    for point in points:
        rho = point.prior or 0.0
        spread = ((1.0 - rho) + rho * values.clamp_min(0.0)).unsqueeze(1)
        penalty = stream.spread / point.strength
        found.append(vectors_ @ (turned * spread / (squares * spread + penalty).clamp_min(1e-30)))
    return torch.stack(found), share.double()


def cross_validated(model: HeadModel, points: Sequence[Point]) -> list[tuple[float, Tensor, Tensor]] | None:
    """Per point the accuracy in percent on held-out rows, with their logits (m, C) and labels (m,).

    Rows are those of training and validation together; None where no class has two.
    """
    features = torch.cat([vectors(model.target.features), vectors(model.validation[0])])
    labels = torch.cat([model.target.labels, model.validation[1]])
    parts: list[list[Tensor]] = [[] for _ in points]
    truth = []
    for held in folds(labels, model.seed):
        rows = replace(model.target, features=features[~held], labels=labels[~held])
        stream = Stream.of(rows, centred=True)
        theta, _ = _weights(stream, model, points)
        x = (features[held].double() - stream.mean) @ stream.basis.double()
        for part, w in zip(parts, theta, strict=True):
            part.append(x @ w.T)
        truth.append(labels[held])
    if not truth:
        return None
    y = torch.cat(truth)
    found = [torch.cat(part) for part in parts]
    return [(100.0 * float((z.argmax(1) == y).sum()) / len(y), z, y) for z in found]


def folds(labels: Tensor, seed: int) -> Iterator[Tensor]:
    """Which rows (n,) each fold holds out: of every class that has rows enough a like number.

    There are as many folds as the smallest class of two or more has rows, at most five. Where that is few,
    the rows are parted several times.
    """
    y = labels.numpy()
    counts = np.bincount(y)
    several = counts[counts > 1]
    if not len(several):
        return
    smallest = int(several.min())
    parts = min(_FOLDS, smallest)
    generator = seeded(seed, "folds")
    for _ in range(max(1, math.floor(_HELD_OUT / smallest))):
        fold = np.full(len(y), -1)
        for c in np.flatnonzero(counts > 1):
            own = generator.permutation(np.flatnonzero(y == c))
            fold[own] = (np.arange(len(own)) + generator.integers(parts)) % parts
        for part in range(parts):
            yield torch.from_numpy(fold == part)
