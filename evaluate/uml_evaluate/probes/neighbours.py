"""Probes by distance: weighted nearest neighbours, and the nearest class mean.

Shapes: n training rows, q queries, D features, C classes.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from uml_evaluate.probes.episode import Candidate, Episode, Linear

NEIGHBOURS = (1, 2, 5, 10, 20, 50, 100, 200)
TEMPERATURE = 0.07
_BLOCK = 2_048


def nearest_neighbours(episodes: list[Episode]) -> list[list[Candidate]]:
    """Votes of the k nearest rows by cosine, each with the weight exp(cosine / 0.07) (as DINO's k-NN).

    k runs through those of `NEIGHBOURS` that the training rows are enough for.
    """
    found = []
    for episode in episodes:
        keys = torch.nn.functional.normalize(episode.features, dim=1)
        found.append(
            [
                Candidate(
                    {"neighbours": k}, partial(neighbour_votes, keys, episode.labels, episode.classes, k)
                )
                for k in NEIGHBOURS
                if k <= len(keys)
            ]
        )
    return found


def neighbour_votes(keys: Tensor, labels: Tensor, classes: int, k: int, queries: Tensor) -> Tensor:
    """Logarithms of the votes (q, C) that the k nearest of the unit rows `keys` (n, D) give `queries` (q, D).

    A class without a vote gets −inf.
    """
    votes = []
    for block in torch.nn.functional.normalize(queries, dim=1).split(_BLOCK):
        cosine, index = (block @ keys.T).topk(k, dim=1)
        weights = ((cosine - cosine[:, :1]) / TEMPERATURE).exp()
        votes.append(torch.zeros(len(block), classes).scatter_add_(1, labels[index], weights).log())
    return torch.cat(votes)


def nearest_class_mean(episodes: list[Episode]) -> list[list[Candidate]]:
    """The class whose mean is nearest in Euclidean distance; nothing to tune.

    Classes without rows come last.
    """
    found = []
    for episode in episodes:
        counts = torch.bincount(episode.labels, minlength=episode.classes)
        sums = torch.zeros(episode.classes, episode.features.shape[1])
        means = sums.index_add_(0, episode.labels, episode.features) / counts.clamp_min(1).unsqueeze(1)
        bias = torch.where(counts > 0, -0.5 * means.square().sum(1), -torch.inf)
        found.append([Candidate({}, Linear(means, bias))])
    return found
