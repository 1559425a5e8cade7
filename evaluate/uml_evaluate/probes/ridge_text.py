"""Ridge classification whose prior comes from texts, for encoders that share no space.

Shapes: n training rows, D features, W width of the auxiliary, C classes.

With x and the one-hot targets y centred on the training rows:

1. a ridge map B (D, W) from the classes' mean texts to their mean features,
   min_B Σ_c ‖μ_c − B τ_c‖² + p · s · ‖B‖², where μ_c and τ_c are centred over the classes and s is the mean
   of ‖τ_c‖²;
2. the prior W₀ = g · (B τ_c)_c, what the texts expect of the features, with the one factor g ≥ 0 that fits
   the training rows best;
3. min_W Σ_i ‖y_i − W x_i‖² + q · r · ‖W − W₀‖², where r is the mean of ‖x_i‖²: pulled to what the texts say
   instead of to zero.

p says how far the texts are believed, q how far the prior; both are tuned.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from uml_evaluate.probes.episode import Candidate, Episode, Linear

MAP_PENALTIES = (10.0, 1.0, 0.1, 0.01)
PRIOR_PENALTIES = (100.0, 10.0, 1.0, 0.1, 0.01)
_TINY = 1e-60  # in place of 0, for features that do not vary; below what small features have


def ridge_text(episodes: list[Episode]) -> list[list[Candidate]]:
    """One candidate for every pair of `MAP_PENALTIES` and `PRIOR_PENALTIES`."""
    return [_of_draw(episode) for episode in episodes]


def _of_draw(episode: Episode) -> list[Candidate]:
    _, text_labels, unit_means = episode.auxiliary()
    x, y = episode.features.double(), torch.nn.functional.one_hot(episode.labels, episode.classes).double()
    mean, share = x.mean(0), y.mean(0)
    x, y = x - mean, y - share
    # Only classes with rows in both modalities say how the spaces lie to each other.
    known = (share > 0) & (torch.bincount(text_labels, minlength=episode.classes) > 0)
    sums = torch.zeros(episode.classes, x.shape[1], dtype=torch.float64).index_add_(0, episode.labels, x)
    features = sums[known] / torch.bincount(episode.labels, minlength=episode.classes)[known].unsqueeze(1)
    texts = unit_means.double()
    centre, middle = texts[known].mean(0), features.mean(0)
    texts = texts - centre
    spread = x.square().sum(1).mean().clamp_min(_TINY)
    found = []
    for p, q in product(MAP_PENALTIES, PRIOR_PENALTIES):
        expected = _mapped(texts[known], features - middle, texts, p) + middle
        prior = torch.where(known.unsqueeze(1), expected, 0.0)
        guess = x @ prior.T
        fit = (guess * y).sum() / guess.square().sum().clamp_min(_TINY)
        prior = fit.clamp_min(0.0) * prior
        weight = prior + _ridge(x, y - x @ prior.T, q * spread)
        found.append(Candidate({"map": p, "prior": q}, Linear(weight, share, mean)))
    return found


def _mapped(texts: Tensor, features: Tensor, queries: Tensor, p: float) -> Tensor:
    """Where the ridge map from texts (c, W) to features (c, D) puts queries (C, W): (C, D)."""
    gram = texts @ texts.T
    penalty = p * gram.diagonal().mean().clamp_min(_TINY)
    return queries @ texts.T @ torch.linalg.solve(_plus(gram, penalty), features)


def _ridge(x: Tensor, y: Tensor, penalty: Tensor) -> Tensor:
    """(C, D) of rows x (n, D) and targets y (n, C), by whichever system is smaller."""
    if x.shape[0] < x.shape[1]:
        return torch.linalg.solve(_plus(x @ x.T, penalty), y).T @ x
    return torch.linalg.solve(_plus(x.T @ x, penalty), x.T @ y).T


def _plus(matrix: Tensor, penalty: Tensor) -> Tensor:
    return matrix + penalty * torch.eye(len(matrix), dtype=matrix.dtype)
