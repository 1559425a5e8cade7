"""Logistic regression, its strength tuned: the batched L-BFGS, and scikit-learn's on the same candidates.

Shapes: G draws, R strengths, n rows, D features, C classes.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor

from uml_evaluate.probes.episode import Candidate, Episode, Linear
from uml_train.fullbatch.softmax import Softmax, fit_softmax

STRENGTHS = tuple(float(c) for c in np.logspace(-2, 3, 20))
"""Values of C for features whose mean squared distance from their mean is 1; scaled to any others."""


def penalties_of(features: Tensor) -> Tensor:
    """(R,) λ = 1/C for features (n, D), one for each of `STRENGTHS`, the strongest first."""
    spread = (features - features.mean(0)).square().sum(1).mean().clamp_min(1e-12)
    return spread / torch.tensor(STRENGTHS)


def logistic_regression(episodes: list[Episode]) -> list[list[Candidate]]:
    """All draws and strengths at once."""
    penalties = torch.stack([penalties_of(e.features) for e in episodes])
    found = fit_softmax(
        torch.stack([e.features for e in episodes]),
        torch.stack([e.labels for e in episodes]),
        penalties,
        episodes[0].classes,
    )
    return by_strength(found, penalties, found.weight)


def by_strength(found: Softmax, penalties: Tensor, weight: Tensor) -> list[list[Candidate]]:
    """The candidates of every draw, for penalties (G, R) and the weights (G, R, C, D) that queries meet."""
    draws, strengths = penalties.shape
    return [
        [
            Candidate(
                {"C": 1.0 / float(penalties[g, r])},
                Linear(weight[g, r], found.bias[g, r]),
                int(found.steps[g, r]),
            )
            for r in range(strengths)
        ]
        for g in range(draws)
    ]


def sklearn_logistic_regression(episodes: list[Episode]) -> list[list[Candidate]]:
    """The same candidates, one after the other, by scikit-learn."""
    return [[_one(episode, 1.0 / float(p)) for p in penalties_of(episode.features)] for episode in episodes]


def _one(episode: Episode, strength: float) -> Candidate:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    # Centred, because its tolerance is one of gradients, which a large mean dominates.
    mean = episode.features.double().mean(0)
    model = LogisticRegression(C=strength, max_iter=1_000, tol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit((episode.features.double() - mean).numpy(), episode.labels.numpy())
    weight = torch.zeros(episode.classes, len(mean), dtype=torch.float64)
    bias = torch.full((episode.classes,), -torch.inf, dtype=torch.float64)
    rows = torch.from_numpy(model.classes_)
    coefficients, intercepts = torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)
    if len(rows) == 2:  # scikit-learn keeps one row, of the second class
        coefficients = torch.cat([-coefficients, coefficients]) / 2
        intercepts = torch.cat([-intercepts, intercepts]) / 2
    weight[rows], bias[rows] = coefficients, intercepts
    bias = bias - weight @ mean
    return Candidate({"C": strength}, Linear(weight.float(), bias.float()), int(model.n_iter_[0]))
