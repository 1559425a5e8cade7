"""Correlations of neurons over paired samples (arXiv v1, 4.5 and F.1).

Shapes: n pairs, W neurons, C classes, P permutations.
Activations have any floating type, labels any integer type; results are float64, in [−1, 1].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
_TOLERANCE = 1e-12  # of a neuron's largest value: what varies less does not vary


def neuron_correlations(first: NDArray[np.floating], second: NDArray[np.floating]) -> F64:
    """(W,) Pearson correlation of every neuron's activations (n, W) in two pathways, row i of both one pair.

    Where a neuron does not vary in one of them the correlation is undefined, and 0 stands for it.
    """
    a, b = _centred(first), _centred(second)
    return _ratio((a * b).sum(0), (a * a).sum(0) * (b * b).sum(0))


def label_correlations(
    first: NDArray[np.floating], second: NDArray[np.floating], labels: NDArray[np.integer], classes: int
) -> F64:
    """(C, W) the same among the pairs of each label; 0 for a label with fewer than two."""
    found = np.zeros((classes, first.shape[1]))
    for c in range(classes):
        mine = labels == c
        if mine.sum() > 1:
            found[c] = neuron_correlations(first[mine], second[mine])
    return found


def permuted_correlations(
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    *,
    permutations: int,
    rng: np.random.Generator,
) -> F64:
    """(P, W) correlations with the second pathway's samples in random order: of pairs that are none."""
    a, b = _centred(first), _centred(second)
    lengths = (a * a).sum(0) * (b * b).sum(0)
    return np.stack([_ratio((a * b[rng.permutation(len(b))]).sum(0), lengths) for _ in range(permutations)])


def _centred(values: NDArray[np.floating]) -> F64:
    """Differences from the mean; exactly 0 for a neuron that does not vary but for rounding."""
    exact = np.asarray(values, dtype=np.float64)
    away = exact - exact.mean(0)
    still = np.abs(away).max(0) <= _TOLERANCE * np.maximum(np.abs(exact).max(0), 1e-300)
    away[:, still] = 0.0
    return away


def _ratio(products: F64, lengths: F64) -> F64:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(lengths > 0, np.clip(products / np.sqrt(lengths), -1.0, 1.0), 0.0)
