"""Logistic regression, its strength tuned: the batched L-BFGS, and scikit-learn's on the same candidates.

Shapes: G draws, R strengths, n rows, D features, C classes. Features, weights and penalties are float32.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor

from uml_evaluate.probes.episode import Candidate, Episode, Linear, rows_of_both
from uml_train import Softmax, fit_softmax

STRENGTHS = tuple(float(c) for c in np.logspace(-2, 3, 20))
"""Values of C for features whose mean squared distance from their mean is 1; scaled to any others."""
_TINY = 1e-30  # in place of 0, for features that do not vary; 1e-15 is smaller than any scale in use


def penalties_of(features: Tensor) -> Tensor:
    """(R,) λ = 1/C for features (n, D), one for each of `STRENGTHS`, the strongest first."""
    return (spread_of(features) / torch.tensor(STRENGTHS, dtype=torch.float64)).float()


def spread_of(features: Tensor) -> Tensor:
    """The mean squared distance of features (n, D) from their mean, float64; of equal rows a tiny number."""
    x = features.double()
    return (x - x.mean(0)).square().sum(1).mean().clamp_min(_TINY)


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
                Linear(weight[g, r], found.bias[g, r].double(), found.means[g]),
                int(found.steps[g, r]),
            )
            for r in range(strengths)
        ]
        for g in range(draws)
    ]


def sklearn_logistic_regression(episodes: list[Episode]) -> list[list[Candidate]]:
    """The same candidates, one after the other, by scikit-learn."""
    return [[_one(episode, strength) for strength in STRENGTHS] for episode in episodes]


def _one(episode: Episode, strength: float) -> Candidate:
    """`strength` is C for features that are scaled to a mean squared distance of 1 from their mean."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    # Centred and scaled, because its tolerance is one of gradients, which a large mean dominates and a small
    # scale meets at once. With ‖W / s‖² in the penalty, the minimum at C · s² is the one at C.
    mean = episode.features.double().mean(0)
    scale = spread_of(episode.features).sqrt()
    model = LogisticRegression(C=strength, max_iter=1_000, tol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(((episode.features.double() - mean) / scale).numpy(), episode.labels.numpy())
    weight = torch.zeros(episode.classes, len(mean), dtype=torch.float64)
    bias = torch.full((episode.classes,), -torch.inf, dtype=torch.float64)
    rows = torch.from_numpy(model.classes_)
    coefficients, intercepts = rows_of_both(model)
    weight[rows], bias[rows] = coefficients / scale, intercepts
    own = strength / float(scale) ** 2
    return Candidate({"C": own}, Linear(weight.float(), bias, mean), int(model.n_iter_[0]))
