"""The planes that two classes are drawn in: one for all models, and each model's own (paper F.1).

Shapes: n and m rows of the two classes, D features, G grid points along each axis.
Arrays of any floating type are taken; all is computed in float64.

    origin   midway between the two class means
    axis 1   the unit vector from the first class mean to the second
    axis 2   the direction of largest variance of both classes' rows once axis 1 is taken out of them

A model's own plane has the same origin; axis 1 goes along the difference of its two weight vectors, axis 2
along what the difference of the class means has beside that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from uml_evaluate.analyses.finding import NotPossible

if TYPE_CHECKING:
    from uml_evaluate.analyses.reading import Reading
    from uml_train import CellResult, Head

_GRID = 160
_LINES = 16  # of the grid, at once
_POINTS = 300  # rows drawn per class


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


@dataclass(frozen=True, eq=False)
class Scene:
    """What is drawn in a plane: some test rows of the two classes, and the labelled samples of one draw.

    Args:
        a, b: the classes.
        rows: (n, D) test rows of the two, labels (n,).
        shown: (m,) those of them that are drawn.
        train: (t, D) the labelled samples, labels (t,).
    """

    a: int
    b: int
    rows: NDArray[Any]
    labels: NDArray[np.int64]
    shown: NDArray[np.int64]
    train: NDArray[Any]
    train_labels: NDArray[np.int64]

    @classmethod
    def of(cls, reading: Reading, judge: CellResult, a: int, b: int, mine: NDArray[np.int64]) -> Scene:
        """The scene of classes a and b: test rows `mine` (n,) and the draw of the cell `judge`."""
        features, labels = reading.test
        target = reading.problem.target
        train = reading.draw(judge)
        train = train[np.isin(target.labels[train], (a, b))]
        return cls(
            a, b, features[mine], labels[mine], _drawn(labels[mine], a),
            target.values(train).numpy(), target.labels[train],
        )  # fmt: skip

    def drawn(self, plane: Plane, behind: str = "") -> dict[str, NDArray[Any]]:
        """Where everything lies in a plane, and the grid (G,) along its axes."""
        at = plane.coordinates(self.rows)[self.shown]
        train_at = plane.coordinates(self.train)
        both = np.concatenate([at, train_at])
        arrays: dict[str, NDArray[Any]] = {
            f"x{behind}": _span(both[:, 0]), f"y{behind}": _span(both[:, 1]),
            f"at{behind}": at, f"train_at{behind}": train_at,
        }  # fmt: skip
        if not behind:
            arrays |= {
                "second": self.labels[self.shown] == self.b,
                "train_second": self.train_labels == self.b,
            }
        return arrays


def picture(head: Head, scene: Scene, plane: Plane, name: str, own: bool) -> dict[str, NDArray[Any]]:
    """What a model makes of a plane: of its own where `own`, else of the one that is shared.

    Returns, by name: `region` (G, G) uint8, who wins; `lead` (G, G) float32, of the first class over the
    second; `right` (m,) bool of the rows that are drawn; for a plane of its own its axes and points, too.

    Raises:
        NotPossible: the model's weights span no plane.
    """
    a, b = scene.a, scene.b
    behind = f" {name}" if own else ""
    if own:
        first, second = (scene.rows[scene.labels == c] for c in (a, b))
        try:
            plane = weight_plane(first, second, head.weight[b] - head.weight[a])
        except ValueError as error:
            raise NotPossible(f"{name} has no plane of its own: {error}") from None
    arrays = scene.drawn(plane, behind)
    region, lead = _cut(head, plane, arrays[f"x{behind}"], arrays[f"y{behind}"], a, b)
    predicted = head.predict(scene.rows[scene.shown])
    marks = {
        f"region {name}": region, f"lead {name}": lead,
        f"right {name}": predicted == scene.labels[scene.shown],
    }  # fmt: skip
    return {**(arrays if own else {}), **marks}


def _drawn(labels: NDArray[np.int64], a: int) -> NDArray[np.int64]:
    rng = np.random.default_rng(0)
    parts = [np.flatnonzero((labels == a) == first) for first in (True, False)]
    return np.sort(np.concatenate([p if len(p) <= _POINTS else rng.choice(p, _POINTS, False) for p in parts]))


def _span(values: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = float(values.min()), float(values.max())
    rim = 0.08 * (high - low) or 1.0
    return np.linspace(low - rim, high + rim, _GRID)


def _cut(
    head: Head, plane: Plane, x: NDArray[np.float64], y: NDArray[np.float64], a: int, b: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """(G, G) who wins (0 first, 1 second, 2 another class), and (G, G) lead of the first over the second."""
    region = np.empty((len(y), len(x)), dtype=np.uint8)
    lead = np.empty((len(y), len(x)), dtype=np.float32)
    for i in range(0, len(y), _LINES):
        across, up = np.meshgrid(x, y[i : i + _LINES])
        logits = head.logits(plane.points(np.column_stack([across.ravel(), up.ravel()])))
        best = logits.argmax(1).reshape(up.shape)
        region[i : i + _LINES] = np.where(best == a, 0, np.where(best == b, 1, 2))
        lead[i : i + _LINES] = (logits[:, a] - logits[:, b]).reshape(up.shape)
    return region, lead
