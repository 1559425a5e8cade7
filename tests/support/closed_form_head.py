"""Estimator (b) of the advice study: a shared head in closed form, with the auxiliary's class covariance as
prior.

It did not earn a place in the product: beside the pilot it adds nothing that the study can show.

Shapes: n rows, R features, C classes.

Ridge regression to one-hot labels is a Gaussian process whose class outputs are independent. The auxiliary
suggests that they are not: classes that look alike there share weights. As prior covariance of the outputs
take B = (1 − ρ)·I + ρ·G with G the auxiliary's Gram matrix of centred class means, of mean diagonal 1. In B's
eigenbasis the outputs are independent again, each a ridge of its own strength, so that nothing is iterated:
one eigendecomposition of the features, one of B.

Two gains of ρ > 0 over ρ = 0: in accuracy on held-out rows, and in log evidence per training row, which
needs no held-out rows and exists for a single shot.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from uml_evaluate.advice.training_rows import Floats, Rows

MIXED = (0.3, 0.6, 0.9)
RATIOS = np.logspace(-3, 3, 13)  # noise variance over mean signal variance


@dataclass(frozen=True)
class Gain:
    """`accuracy` in points on held-out rows (None without them), `evidence` in nats per training row."""

    accuracy: float | None
    evidence: float


def gain(solver: Ridge, held_out: Rows | None, prior: NDArray[np.float64]) -> Gain:
    """What the auxiliary's prior adds, averaged over `MIXED` for accuracy, the best of them for evidence."""
    eye = np.eye(len(prior))
    plain, without = solver.without
    found = [solver.best((1.0 - rho) * eye + rho * prior) for rho in MIXED]
    evidence = (max(e for _, e in found) - without) / len(solver.onehot)
    if held_out is None:
        return Gain(None, evidence)
    base = _accuracy(plain, held_out)
    return Gain(float(np.mean([_accuracy(w, held_out) - base for w, _ in found])), evidence)


def class_prior(auxiliary: Rows) -> NDArray[np.float64]:
    """G (C, C): Gram matrix of the auxiliary's centred class means with mean diagonal 1.

    A class that the auxiliary lacks is independent of the others.
    """
    means, have = auxiliary.means()
    centred = np.where(have[:, None], means - means[have].mean(0), 0.0)
    gram = centred @ centred.T
    scale = gram.diagonal()[have].mean()
    gram = gram / scale if scale > 0 else np.eye(len(gram))
    gram[~have, ~have] = 1.0
    return gram


class Ridge:
    """The eigendecomposition of one draw, shared by all priors."""

    def __init__(self, train: Rows) -> None:
        x = train.features.astype(np.float64)
        self.mean = x.mean(0)
        _, self.singular, self.right = np.linalg.svd(x - self.mean, full_matrices=False)
        keep = self.singular > 1e-9 * self.singular.max(initial=1e-300)
        self.singular, self.right = self.singular[keep], self.right[keep]
        self.onehot = np.eye(train.classes)[train.labels] - 1.0 / train.classes
        left = ((x - self.mean) @ self.right.T) / self.singular
        self.projected = left.T @ self.onehot
        outside = self.onehot - left @ self.projected
        self.outside = outside.T @ outside

    @cached_property
    def without(self) -> tuple[Linear, float]:
        """Independent classes: what every prior is compared with."""
        return self.best(np.eye(self.onehot.shape[1]))

    def best(self, prior: NDArray[np.float64]) -> tuple[Linear, float]:
        """The weights and the log evidence at the noise ratio of most evidence.

        The signal's scale is set by maximum likelihood in closed form for each ratio.
        """
        values, vectors = np.linalg.eigh(prior)
        values = values.clip(1e-6)
        signal = self.singular**2 / np.mean(self.singular**2)
        inside = (self.projected @ vectors) ** 2
        outside = (vectors * (self.outside @ vectors)).sum()
        n, c = self.onehot.shape
        chosen, most = 0.0, -np.inf
        for ratio in RATIOS:
            spread = signal[:, None] * values[None, :] + ratio
            squares = (inside / spread).sum() + outside / ratio
            log_volume = np.log(spread).sum() + (n - len(signal)) * c * np.log(ratio)
            evidence = -0.5 * (n * c * np.log(squares / (n * c)) + log_volume)
            if evidence > most:
                chosen, most = float(ratio), float(evidence)
        strength = values / (signal[:, None] * values + chosen)
        shrunk = self.singular[:, None] * strength / np.mean(self.singular**2)
        weights = self.right.T @ (shrunk * (self.projected @ vectors)) @ vectors.T
        return Linear(weights, self.mean), most


@dataclass(frozen=True, eq=False)
class Linear:
    weights: Floats
    mean: Floats


def _accuracy(model: Linear, rows: Rows) -> float:
    scores = (rows.features - model.mean) @ model.weights
    return 100.0 * float((scores.argmax(1) == rows.labels).mean())
