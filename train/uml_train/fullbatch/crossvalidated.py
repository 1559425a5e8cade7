"""Loss and strength of one method by cross-validation, on arrays in memory.

Shapes: n rows, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from uml_train.data.controls import permuted_labels, random_class_vectors
from uml_train.data.normalize import Normalizer
from uml_train.data.rows import vectors
from uml_train.fullbatch.class_prior import class_kernel
from uml_train.fullbatch.search import cross_entropies, held_out_logits, temperatures
from uml_train.heads.models import HeadModel, Samples
from uml_train.heads.weights import class_mean_rows
from uml_train.protocols.grid import SOLVED_CANDIDATE, Point, crossed_points
from uml_train.settings import FROM_CLASS_MEANS, LINEAR, SOLVED, WITH_AUXILIARY_LOSS

if TYPE_CHECKING:
    from numpy.typing import NDArray

TARGET = "target"


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """A target's features (n, D) float32, class codes (n,) int64 and importance (n,), and its auxiliaries."""

    x: Tensor
    codes: Tensor
    importance: Tensor
    classes: int
    others: tuple[Samples, ...]
    normalize: str
    seed: int

    def normalized(self) -> LabelledRows:
        """The same with the auxiliaries normalised, each by itself; the target's rows are in each part."""
        others = []
        for samples in self.others:
            values = vectors(samples.features)
            others.append(replace(samples, features=Normalizer.fit(self.normalize, values)(values)))
        return replace(self, others=tuple(others))


@dataclass(frozen=True, eq=False)
class Choice:
    """What was chosen for a method: accuracy in percent, the point, and what `Fitted.factor` was.

    `score` compares choices: the share of rows that are right, less half of the cross-entropy.
    """

    method: str
    accuracy: float
    point: Point
    factor: float
    score: float


Split = tuple[Tensor, Tensor]
"""Which rows (n,) bool are trained on, and which are held out."""


def deal(codes: NDArray[np.int64], parts: int, random: np.random.RandomState) -> list[Split]:
    """Splits that hold out one part each, of rows with classes `codes` (n,).

    The rows of a class are dealt out to the parts in turn, so that it is in all of them alike; each class
    begins where the one before ended.
    """
    order = random.permutation(len(codes))
    order = order[np.argsort(codes[order], kind="stable")]
    dealt = np.empty(len(codes), dtype=np.int64)
    dealt[order] = np.arange(len(codes)) % max(2, min(parts, len(codes)))
    held = [torch.from_numpy(dealt == part) for part in np.unique(dealt)]
    return [(~part, part) for part in held]


def choose(method: str, rows: LabelledRows, splits: Sequence[Split], points: Sequence[Point]) -> Choice:
    """The point that is best on rows which its heads were not trained on; rows count as they are weighted."""
    if method in SOLVED:
        points = crossed_points(points, prior=method == "prior")
    guesses, answers, counts = [], [], []
    for train, held in splits:
        model, _ = model_of(method, rows, train, held)
        guesses.append(held_out_logits(model, points))
        answers.append(model.validation[1])
        counts.append(rows.importance[held].double())
    logits, labels, weights = torch.cat(guesses, 1), torch.cat(answers), torch.cat(counts)
    share = ((logits.argmax(2) == labels) * weights).sum(1) / weights.sum()
    # Accuracy alone is coarse where rows are few, and a loss alone heeds confidence, which one factor mends.
    factors = temperatures(logits, labels, weights)
    losses = cross_entropies(factors[:, None, None] * logits, labels) @ weights / weights.sum()
    scores = share - 0.5 * losses
    best = int(scores.argmax())
    factor = float(factors[best]) if points[best].loss == "squared" else 1.0
    return Choice(method, 100.0 * float(share[best]), points[best], factor, float(scores[best]))


def model_of(method: str, rows: LabelledRows, train: Tensor, held: Tensor) -> tuple[HeadModel, Normalizer]:
    """A method's model, trained on rows of the mask `train` (n,) bool, with those of `held` to validate."""
    importance = rows.importance[train]
    normalizer = Normalizer.fit_weighted(rows.normalize, rows.x[train], importance)
    deep = method not in LINEAR
    head = None
    if method in FROM_CLASS_MEANS:
        first = rows.others[0]
        head, _ = class_mean_rows(first.features, first.labels, rows.classes, rows.seed)
    model = HeadModel(
        target=Samples(
            name=TARGET,
            features=normalizer(rows.x[train]),
            labels=rows.codes[train],
            projected=deep,
            importance=importance,
        ),
        auxiliaries=rows.others if method in WITH_AUXILIARY_LOSS else (),
        validation=(normalizer(rows.x[held]), rows.codes[held]),
        classes=rows.classes,
        width=rows.others[0].dim if deep and rows.others else rows.x.shape[1],
        seed=rows.seed,
        candidate=SOLVED_CANDIDATE,
        head=head,
        kernel=class_kernel(rows.others, rows.classes) if method == "prior" else None,
    )
    return model, normalizer


def altered(control: str, rows: LabelledRows) -> LabelledRows:
    """The rows with auxiliaries whose knowledge of the classes is taken out."""

    def one(samples: Samples) -> Samples:
        if control == "permuted":
            return replace(samples, labels=permuted_labels(samples.labels, rows.seed))
        values = vectors(samples.features)
        return replace(
            samples, features=random_class_vectors(values, samples.labels, samples.name, rows.seed)
        )

    return replace(rows, others=tuple(map(one, rows.others)))
