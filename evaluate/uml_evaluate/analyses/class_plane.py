"""The planes that two classes are drawn in: one for all models, and each model's own (paper F.1).

Shapes: n and m rows of the two classes, D features.

    origin   midway between the two class means
    axis 1   the unit vector from the first class mean to the second
    axis 2   the direction of largest variance of both classes' rows once axis 1 is taken out of them

A model's own plane has the same origin; axis 1 goes along the difference of its two weight vectors, axis 2
along what the difference of the class means has beside that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Plane:
    """origin (D,), axes (2, D) orthonormal; `variance` is the share of the rows' variance that lies in it."""

    origin: NDArray[np.float64]
    axes: NDArray[np.float64]
    variance: float

    def coordinates(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """(n, 2) coordinates of features (n, D), in units of the features."""
        return (np.asarray(features, dtype=np.float64) - self.origin) @ self.axes.T

    def points(self, coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, D) features of coordinates (n, 2)."""
        return self.origin + coordinates @ self.axes


def class_plane(first: NDArray[Any], second: NDArray[Any]) -> Plane:
    """The plane of two classes' rows (n, D) and (m, D); see the module's text.

    Raises:
        ValueError: equal class means, or no variance beside the first axis.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    step = b.mean(0) - a.mean(0)
    length = float(np.linalg.norm(step))
    if length == 0:
        raise ValueError("the two classes have the same mean")
    one = step / length
    rows = np.concatenate([a, b])
    rows = rows - rows.mean(0)
    rest = rows - np.outer(rows @ one, one)
    _, sizes, directions = np.linalg.svd(rest, full_matrices=False)
    if sizes[0] <= 1e-12 * np.linalg.norm(rows):
        raise ValueError("the two classes' rows lie on one line")
    two = directions[0] - (directions[0] @ one) * one
    two /= np.linalg.norm(two)
    two *= np.sign(two[np.abs(two).argmax()])  # a singular vector has no sign of its own
    axes = np.stack([one, two])
    return Plane((a.mean(0) + b.mean(0)) / 2, axes, float(((rows @ axes.T) ** 2).sum() / (rows**2).sum()))


def weight_plane(first: NDArray[Any], second: NDArray[Any], step: NDArray[Any]) -> Plane:
    """A model's own plane of two classes' rows (n, D) and (m, D).

    Args:
        step: (D,) its second weight vector minus its first.

    Raises:
        ValueError: equal weights, or class means that differ along the weights alone.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    weights = np.asarray(step, dtype=np.float64)
    length = float(np.linalg.norm(weights))
    if length == 0:
        raise ValueError("the two classes have the same weights")
    one = weights / length
    between = b.mean(0) - a.mean(0)
    two = between - (between @ one) * one
    if np.linalg.norm(two) <= 1e-12 * np.linalg.norm(between):
        raise ValueError("the class means differ along the weights alone")
    two /= np.linalg.norm(two)
    rows = np.concatenate([a, b])
    rows = rows - rows.mean(0)
    axes = np.stack([one, two])
    return Plane((a.mean(0) + b.mean(0)) / 2, axes, float(((rows @ axes.T) ** 2).sum() / (rows**2).sum()))
