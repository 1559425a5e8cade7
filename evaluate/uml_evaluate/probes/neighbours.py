"""Probes by distance: weighted nearest neighbours, and the nearest class mean.

Shapes: n training rows, q queries, D features, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
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
        keys = Keys.of(episode.features)
        found.append(
            [
                Candidate(
                    {"neighbours": k}, partial(neighbour_votes, keys, episode.labels, episode.classes, k)
                )
                for k in NEIGHBOURS
                if k <= len(episode.labels)
            ]
        )
    return found


@dataclass(frozen=True, eq=False)
class Keys:
    """Unit rows u as float32 deviations `rows` (n, D) from their mean (D,), and `along` (n,): deviation ·
    mean.

    Where all rows share a large part, cosines differ by less than float32 has digits. For one query v the
    order of v · u is that of (v − mean) · (u − mean) + mean · (u − mean), whose terms are small.
    """

    rows: Tensor
    along: Tensor
    mean: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Keys:
        """Of features (n, D)."""
        unit = torch.nn.functional.normalize(features.double(), dim=1)
        mean = unit.mean(0)
        rows = unit - mean
        return cls(rows.float(), (rows @ mean).float(), mean)

    def relative(self, queries: Tensor) -> Tensor:
        """Cosines (q, n) of queries (q, D) with the rows, but for a constant of each query."""
        near = (torch.nn.functional.normalize(queries.double(), dim=1) - self.mean).float()
        return near @ self.rows.T + self.along


def neighbour_votes(keys: Keys, labels: Tensor, classes: int, k: int, queries: Tensor) -> Tensor:
    """Logarithms of the votes (q, C) that the k nearest of the rows of `keys` (n) give `queries` (q, D).

    A class without a vote gets −inf.
    """
    votes = []
    for block in queries.split(_BLOCK):
        cosine, index = keys.relative(block).topk(k, dim=1)
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
        # ‖x − μ‖² = ‖x‖² − 2 x · μ + ‖μ‖² loses what all rows share, and the digits of near classes beside a
        # far one: centred, and in double precision.
        centre = episode.features.double().mean(0)
        rows = episode.features.double() - centre
        sums = torch.zeros(episode.classes, rows.shape[1], dtype=torch.float64)
        means = sums.index_add_(0, episode.labels, rows) / counts.clamp_min(1).unsqueeze(1)
        bias = torch.where(counts > 0, -0.5 * means.square().sum(1), -torch.inf)
        found.append([Candidate({}, Linear(means, bias, centre))])
    return found
