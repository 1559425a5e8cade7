"""The search grid: which hyperparameters are tried for every method, and for how long each model trains.

The grid `fair` has points, whose heads are solved on all rows at once; the others have candidates, which
AdamW trains for the steps of a schedule.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from uml_cache import (
    Setting,
    Settings,
    at_least,
)
from uml_train.settings import Texts

PRIORS = (0.0, 0.5, 0.75, 0.9)
"""Shares of the auxiliary in the prior that `prior` searches."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One point of the grid: the hyperparameters of one model.

    `lr` > 0 is the learning rate. `alpha` ≥ 0 weights each auxiliary's loss, `ratio` > 0 is the number of
    auxiliary batches per target batch; both are None for a model without auxiliary losses. `texts` is how
    many auxiliary samples of a class it sees, None where the run's settings say that. `repeat` counts models
    that are alike otherwise: each starts from its own weights and sees the batches in its own order.
    """

    lr: float
    weight_decay: float
    batch_size: int
    learnable_scale: bool = False
    alpha: float | None = 1.0
    ratio: float | None = 1.0
    repeat: int = 0
    texts: Texts | None = None


SOLVED_CANDIDATE = Candidate(lr=0.0, weight_decay=0.0, batch_size=1)
"""That of a model which is solved: its points say everything."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of the grid `fair`, whose heads are solved on all rows at once.

    `loss` is what the training rows are fitted by: `cross-entropy`, or `squared` errors of one-hot labels.
    `strength` is how little weights are penalised: the penalty is the features' mean squared length over it,
    > 0. `alpha` and `ratio` are as in `Candidate`; a ratio is one more factor of the auxiliaries' weight
    here. `prior` in [0, 1] is the auxiliary's share of the class weights' covariance (0 for `ridge`), None
    for the other methods.
    """

    loss: str
    strength: float
    alpha: float | None = 1.0
    ratio: float | None = 1.0
    prior: float | None = None

    @property
    def weight(self) -> float:
        """The weight of each auxiliary's mean loss, where the target's is 1; 0 without auxiliary losses."""
        return 0.0 if self.alpha is None or self.ratio is None else self.alpha * self.ratio


@dataclass(frozen=True, kw_only=True)
class Schedule(Settings):
    """How long a model trains and when it is looked at.

    Steps are counted from 0. The rate of step 0 is 1e-5 whatever the base rate, steps 1 … `warmup` rise
    linearly to the base rate, and a cosine over `steps` falls from there. Validation is looked at after every
    step divisible by `eval_every` and after the last one; `patience` evaluations without a better one end the
    training.
    """

    steps: Annotated[int, Setting("Updates.", takes="a whole number of at least 1", check=at_least(1))]
    warmup: Annotated[int, Setting("Rising steps.", takes="a whole number from 0 on", check=at_least(0))]
    eval_every: Annotated[int, Setting("Steps.", takes="a whole number of at least 1", check=at_least(1))]
    patience: Annotated[int, Setting("Looks.", takes="a whole number of at least 1", check=at_least(1))]

    def lr(self, base: float, step: int) -> float:
        """The learning rate of one step."""
        if step == 0:
            return 1e-5
        if step <= self.warmup:
            return base * step / self.warmup
        return base * (1.0 + math.cos(math.pi * (step - self.warmup) / self.steps)) / 2.0

    @property
    def looks(self) -> int:
        """How often a model is shown the validation rows at most."""
        return sum(self.evaluates(step) for step in range(self.steps))

    def evaluates(self, step: int) -> bool:
        """Whether validation is looked at after this step."""
        return step % self.eval_every == 0 or step == self.steps - 1


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A named set of candidates and the schedule that all of them follow, or of points."""

    name: str
    candidates: tuple[Candidate, ...]
    schedule: Schedule
    points: tuple[Point, ...] = ()

    @property
    def size(self) -> int:
        """How many models of a method validation chooses from."""
        return len(self.points) or len(self.candidates)

    def points_for(self, *, auxiliary_loss: bool) -> tuple[Point, ...]:
        """The points of a method; without auxiliary losses each strength once, because equals are equal."""
        if auxiliary_loss:
            return self.points
        return tuple(dict.fromkeys(replace(p, alpha=None, ratio=None) for p in self.points))

    def crossed_points(self, *, prior: bool) -> tuple[Point, ...]:
        """The points of `ridge` and of `prior`, as `crossed_points` makes them."""
        return crossed_points(self.points, prior=prior)

    def candidates_for(
        self,
        *,
        auxiliary_loss: bool,
        learns_scale: bool = True,
        sees_texts: bool | None = None,
        equal: bool = True,
    ) -> tuple[Candidate, ...]:
        """The candidates for a method to which part of the grid means nothing.

        With `equal` those that become alike are told apart by `repeat`: equal search for every method, since
        more candidates mean more luck on few validation rows. Otherwise each is tried once, as in the paper.

        Args:
            sees_texts: whether the auxiliary matters, such as where the head begins at its class means;
                None: as `auxiliary_loss`.
        """
        sees_texts = auxiliary_loss if sees_texts is None else sees_texts
        seen: Counter[Candidate] = Counter()
        found = []
        for candidate in self.candidates:
            if not auxiliary_loss:
                candidate = replace(candidate, alpha=None, ratio=None)
            if not sees_texts:
                candidate = replace(candidate, texts=None)
            if not learns_scale:
                candidate = replace(candidate, learnable_scale=False)
            if equal or not seen[candidate]:
                found.append(replace(candidate, repeat=seen[candidate]))
            seen[candidate] += 1
        return tuple(found)


def crossed_points(points: Sequence[Point], *, prior: bool) -> tuple[Point, ...]:
    """The strengths of squared errors among `points` for `ridge`, each with every share of the prior for
    `prior`."""
    squared = dict.fromkeys(replace(p, alpha=None, ratio=None) for p in points if p.loss == "squared")
    return tuple(replace(p, prior=share) for share in (PRIORS if prior else (0.0,)) for p in squared)
