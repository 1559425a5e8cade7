"""Probes by distance: weighted nearest neighbours, and the nearest class mean.

Shapes: n training rows, q queries, D features, C classes.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from uml_evaluate.probes.episode import Candidate, Episode, Linear
from uml_evaluate.probes.nearest import Keys

NEIGHBOURS = (1, 2, 5, 10, 20, 50, 100, 200)
TEMPERATURE = 0.07


def nearest_neighbours(episodes: list[Episode]) -> list[list[Candidate]]:
    """Votes of the k nearest rows by cosine, each with the weight exp(cosine / 0.07) (as DINO's k-NN).

    k runs through those of `NEIGHBOURS` that the training rows are enough for.
    """
    found = []
    for episode in episodes:
        votes = _Votes(episode)
        found.append([Candidate({"neighbours": k}, partial(votes, k)) for k in votes.sizes])
    return found


class _Votes:
    """Votes of the nearest rows; the rows are looked up once for all numbers of neighbours."""

    def __init__(self, episode: Episode) -> None:
        self.keys, self.labels, self.classes = Keys.of(episode.features), episode.labels, episode.classes
        self.sizes = [k for k in NEIGHBOURS if k <= len(episode.labels)]
        self._asked: Tensor | None = None

    def __call__(self, k: int, queries: Tensor) -> Tensor:
        """Logarithms of the votes (q, C) that the k nearest rows give queries (q, D).

        A class without a vote gets −inf.
        """
        if self._asked is not queries:
            self._cosines, self._rows = self.keys.nearest(queries, self.sizes[-1])
            self._asked = queries
        cosines, rows = self._cosines[:, :k], self._rows[:, :k]
        weights = ((cosines - cosines[:, :1]) / TEMPERATURE).exp()
        return torch.zeros(len(queries), self.classes).scatter_add_(1, self.labels[rows], weights).log()


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
