"""Estimator (a): do the classes lie to each other in the auxiliary as they do in the target?

Shapes: n rows, R features, C classes, T permutations.

A shared head can help only as far as the auxiliary's classes are arranged like the target's (which are near,
which are far). The arrangement is the Gram matrix of class means. Means of few rows carry noise that falls
on its diagonal alone, so the diagonal is left out; what remains is compared by the correlation of centred
off-diagonal entries (CKA over classes without its diagonal), against a null in which the auxiliary's classes
are named at random.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uml_evaluate.advice.training_rows import Floats, Rows

PERMUTATIONS = 200
MIN_CLASSES = 4  # fewer have too few arrangements to tell one from chance


@dataclass(frozen=True)
class Agreement:
    """`alignment` in [−1, 1]; `z` its distance from the null's mean in the null's standard deviations; `p`
    the share of permuted namings that agree as well, counting the true one."""

    alignment: float
    z: float
    p: float


def agreement(target: Rows, auxiliary: Rows, rng: np.random.Generator) -> Agreement | None:
    """Agreement of class geometry over the classes that both have; None below `MIN_CLASSES` of them."""
    (ours, have), (theirs, also) = target.means(), auxiliary.means()
    common = np.flatnonzero(have & also)
    if len(common) < MIN_CLASSES:
        return None
    a, b = _arrangement(ours[common]), _arrangement(theirs[common])
    null = np.empty(PERMUTATIONS)
    for t in range(PERMUTATIONS):
        order = rng.permutation(len(common))
        null[t] = _correlation(a, b[np.ix_(order, order)])
    found = _correlation(a, b)
    z = (found - null.mean()) / max(null.std(), 1e-9)
    return Agreement(found, float(z), float((1 + (null >= found).sum()) / (1 + PERMUTATIONS)))


def _arrangement(means: Floats) -> NDArray[np.float64]:
    """Gram matrix (C, C) of centred means with rows and columns centred over off-diagonal entries, diagonal
    0."""
    centred = means - means.mean(0)
    gram = centred @ centred.T
    np.fill_diagonal(gram, 0.0)
    n = len(gram)
    if n > 2:  # U-centring: off-diagonal rows then sum to zero (Székely and Rizzo)
        rows = gram.sum(0) / (n - 2)
        gram = gram - rows[:, None] - rows[None, :] + gram.sum() / ((n - 1) * (n - 2))
        np.fill_diagonal(gram, 0.0)
    return gram


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    scale = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / scale) if scale > 0 else 0.0
