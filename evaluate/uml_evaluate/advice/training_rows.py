"""What the estimators see: training rows of the target and of one auxiliary, few and narrow enough for
seconds.

Shapes: n rows, D features, R reduced features, C classes, k shots.

Rows are capped per class and features are rotated into a basis of at most R directions that holds all class
means exactly and random combinations of the rows besides. A rotation changes nothing for a network whose
weights start at random; what lies outside the basis is within-class noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROWS_PER_CLASS, FEWEST_PER_CLASS, MOST_ROWS = 64, 32, 3_000
HELD_OUT_PER_CLASS, FEWEST_HELD_OUT, MOST_HELD_OUT = 16, 4, 800
_REDUCED = 128
_SPARE = 32  # directions besides the class means, where there are many classes

Floats = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of one modality: `features` (n, R) float32, `labels` (n,) int64 in 0 … `classes` − 1."""

    features: Floats
    labels: NDArray[np.int64]
    classes: int

    @property
    def counts(self) -> NDArray[np.int64]:
        """(C,) rows of each class."""
        return np.bincount(self.labels, minlength=self.classes)

    def taken(self, rows: NDArray[np.int64]) -> Rows:
        """The rows at `rows` (m,) int64."""
        return Rows(self.features[rows], self.labels[rows], self.classes)

    def means(self) -> tuple[Floats, NDArray[np.bool_]]:
        """Class means (C, R) float64, zeros where a class has no row, and (C,) which classes have one."""
        sums = np.zeros((self.classes, self.features.shape[1]))
        np.add.at(sums, self.labels, self.features.astype(np.float64))
        return sums / np.maximum(self.counts, 1)[:, None], self.counts > 0


def rows_per_class(classes: int) -> int:
    """How many rows of a class are looked at: 64, down to 32 where there are many classes."""
    return min(ROWS_PER_CLASS, max(FEWEST_PER_CLASS, MOST_ROWS // classes))


def held_out_per_class(classes: int) -> int:
    """How many rows of a class score: 16, down to 4 where there are many classes."""
    return min(HELD_OUT_PER_CLASS, max(FEWEST_HELD_OUT, MOST_HELD_OUT // classes))


def capped(labels: NDArray[np.int64], most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions (m,) of at most `most` rows of every class, drawn at random, in order; labels (n,)."""
    order = rng.permutation(len(labels))
    ranked = order[np.argsort(labels[order], kind="stable")]
    starts = np.searchsorted(labels[ranked], labels[ranked])
    return np.sort(ranked[np.arange(len(ranked)) - starts < most])


def reduced(features: Floats, labels: NDArray[np.int64], classes: int, rng: np.random.Generator) -> Rows:
    """Rotate features (n, D) into at most `_REDUCED` directions (or C + 32, where that is more)."""
    width = max(_REDUCED, classes + _SPARE)
    values = np.asarray(features, dtype=np.float32)
    if values.shape[1] <= width:
        return Rows(values, labels, classes)
    weights = rng.standard_normal((width, len(values))).astype(np.float32) / np.sqrt(len(values))
    weights[:classes] = 0.0
    weights[labels, np.arange(len(values))] = 1.0 / np.bincount(labels, minlength=classes)[labels]
    basis, _ = np.linalg.qr((weights @ values).T)
    return Rows(values @ basis, labels, classes)


def shots(rows: Rows) -> int:
    """Rows that every class has: the largest k that can be drawn."""
    return int(rows.counts.min())


def splits(
    rows: Rows, k: int, times: int, rng: np.random.Generator
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Up to `times` pairs of positions (m,) and (h,): k training rows per class, and held-out rows to score
    on.

    Where a class has no more than k rows, one shot is left out in turn and k − 1 remain to train on (the
    estimate then is for k − 1); with one row per class there is nothing to hold out, and no pair.
    """
    least, held_out = shots(rows), held_out_per_class(rows.classes)
    order = rng.permutation(len(rows.labels))
    ranked = order[np.argsort(rows.labels[order], kind="stable")]
    rank = np.arange(len(ranked)) - np.searchsorted(rows.labels[ranked], rows.labels[ranked])
    if least > k:
        for number in range(times):
            if number:
                order = rng.permutation(len(rows.labels))
                ranked = order[np.argsort(rows.labels[order], kind="stable")]
            yield ranked[rank < k], ranked[(rank >= k) & (rank < k + held_out)]
    elif k > 1:
        for left_out in range(min(times, k)):
            yield ranked[(rank < k) & (rank != left_out)], ranked[rank == left_out]
