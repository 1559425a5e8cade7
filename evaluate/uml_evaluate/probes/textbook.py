"""The best textbook classifier: ridge or logistic regression, tuned.

Shapes: n training rows, D features, C classes, R strengths.

What a few lines of scikit-learn reach without any unpaired data: both losses at many strengths, on features
that are centred and scaled to unit length and on standardised ones. Validation chooses among all of them. A
gain of anything else means something on top of this.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from uml_evaluate.probes.episode import Candidate, Episode, Linear
from uml_evaluate.probes.logreg import logistic_regression, spread_of

RIDGES = tuple(float(p) for p in np.logspace(2, -4, 13))
"""Penalties of ridge for features whose mean squared distance from their mean is 1; scaled to any others."""
NORMALIZERS = ("center-l2", "standard")


def textbook(episodes: list[Episode]) -> list[list[Candidate]]:
    """Logistic regression at its strengths, then ridge at `RIDGES`, each the most careful first."""
    return [
        [*likely, *_ridge(episode)]
        for likely, episode in zip(logistic_regression(episodes), episodes, strict=True)
    ]


def _ridge(episode: Episode) -> list[Candidate]:
    """One-hot labels on centred features, min_W Σ_i ‖y_i − W x_i‖² + p · s · ‖W‖², s the mean of ‖x_i‖²."""
    x = episode.features.double()
    y = torch.nn.functional.one_hot(episode.labels, episode.classes).double()
    mean, share = x.mean(0), y.mean(0)
    x, y = x - mean, y - share
    # The smaller of the two Gram matrices is taken apart once, for all penalties.
    rows = x.shape[0] < x.shape[1]
    values, axes = torch.linalg.eigh(x @ x.T if rows else x.T @ x)
    values = values.clamp_min(0.0)
    left = y.T @ axes if rows else y.T @ x @ axes
    right = axes.T @ x if rows else axes.T
    spread = float(spread_of(episode.features))
    return [
        Candidate({"ridge": p * spread}, Linear(_solved(left, values, right, p * spread), share, mean))
        for p in RIDGES
    ]


def _solved(left: Tensor, values: Tensor, right: Tensor, penalty: float) -> Tensor:
    return (left / (values + penalty)) @ right


def ties(candidate: Candidate, logits: Tensor, labels: Tensor) -> tuple[int, float]:
    """What decides between candidates that validate alike: logistic regression first, then the smaller loss.

    Logits (n, C) of any floating type and labels (n,) int64 are those of the validation rows.
    With one validation row per class many are equally accurate, and the strongest penalty is no better for
    standing first.
    """
    if "C" in candidate.hyperparameters:
        return 0, float(torch.nn.functional.cross_entropy(logits.double(), labels))
    y = torch.nn.functional.one_hot(labels, logits.shape[1])
    return 1, float((logits.double() - y).square().sum(1).mean())
