"""Linear discriminant analysis with a shrunk covariance, by scikit-learn.

Shapes: n training rows, D features, C classes.
"""

from __future__ import annotations

import torch

from uml_evaluate.probes.episode import Candidate, Episode, Linear, rows_of_both

SHRINKAGES = (1.0, 0.9, 0.7, 0.5, 0.3, 0.1, 0.03, 0.01)


def shrinkage_lda(episodes: list[Episode]) -> list[list[Candidate]]:
    """One candidate for each of `SHRINKAGES`: the covariance within classes, drawn to a multiple of 1.

    With one row per class there is no scatter within classes, and no candidate.
    """
    return [_of_draw(episode) for episode in episodes]


def _of_draw(episode: Episode) -> list[Candidate]:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    present = torch.unique(episode.labels)
    if len(present) == len(episode.labels) or len(present) < 2:
        return []
    # Centred, because scikit-learn's coefficients are Σ⁻¹ μ_c: a column that does not vary would get the same
    # huge one in every class.
    centre = episode.features.double().mean(0)
    features, labels = (episode.features.double() - centre).numpy(), episode.labels.numpy()
    found = []
    for shrinkage in SHRINKAGES:
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(features, labels)
        weight = torch.zeros(episode.classes, features.shape[1], dtype=torch.float64)
        bias = torch.full((episode.classes,), -torch.inf, dtype=torch.float64)
        weight[present], bias[present] = rows_of_both(model)
        found.append(Candidate({"shrinkage": shrinkage}, Linear(weight, bias, centre)))
    return found
