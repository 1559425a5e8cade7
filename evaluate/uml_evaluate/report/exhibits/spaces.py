"""Where samples lie: a map of each modality's features and of the shared space, and neighbours across it.

Shapes: n rows, D features, W shared width, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from uml_cache import InputError
from uml_evaluate.analyses.reading import Reading, data_arm, stratified
from uml_evaluate.comparing.shown.figures import GREY, INK, new_figure, style
from uml_evaluate.comparing.statistics import generator_for
from uml_evaluate.report.exhibits.samples import Samples, Shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from uml_train import CellResult

_MOST_POINTS = 1_200
_MOST_ROWS = 4_000
_COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#7B4173", "#637939",
    "#AD494A",
)  # fmt: skip
_PICTURES = 8
_NEIGHBOURS = 3


@dataclass(frozen=True)
class Cloud:
    """Points of one modality in one space: (n, 2), with their classes (n,)."""

    role: str
    points: NDArray[np.floating]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Neighbour:
    """A sample of another modality, and whether it is of the class of the one that it lies near."""

    shown: Shown | None
    name: str
    same: bool


@dataclass(frozen=True)
class Neighbours:
    """For an auxiliary: a sentence on all test samples, and the nearest ones of some."""

    said: str
    role: str
    rows: list[tuple[Shown | None, str, list[Neighbour]]]


def map_figure(reading: Reading, kind: str, shots: Any) -> tuple[Figure, bool]:
    """A panel for each modality's own features, and one for the space that the head reads, if it has one."""
    problem = reading.problem
    panels: list[tuple[str, list[Cloud]]] = []
    values, labels = reading.test
    panels.append(
        (f"{problem.target.label}, test rows", [_cloud(problem.target.label, values, labels, kind)])
    )
    for role in reading.auxiliaries:
        source = problem.auxiliaries[role]
        rows = stratified(source.labels, _MOST_POINTS, generator_for("map", (len(source.labels),), role))
        panels.append((role, [_cloud(role, source.values(rows).numpy(), source.labels[rows], kind)]))
    result = first_cell(reading, shots)
    shared = None if result is None else _shared(reading, result, kind)
    if shared is not None:
        panels.append(("the space that the head reads", shared))
    return _drawn(panels, list(problem.classes), kind), shared is not None


def first_cell(reading: Reading, shots: Any) -> CellResult | None:
    """The first seed of the method that trained on the data."""
    arm = data_arm(reading)
    found = [] if arm is None else reading.of(arm, shots)
    return found[0] if found else None


def neighbours(reading: Reading, samples: Samples, shots: Any) -> list[Neighbours]:
    """For each auxiliary: which of its samples lie nearest to test samples in the space that the head reads.

    Nearness is the cosine, each modality less its mean: what all samples of a modality share says nothing.
    """
    result = first_cell(reading, shots)
    if result is None:
        return []
    values, labels = reading.test
    own = _centred(reading.target_space(result, values))
    found = []
    for role in reading.auxiliaries:
        source = reading.problem.auxiliaries[role]
        rng = generator_for("neighbours", (len(source.labels),), role)
        positions = stratified(source.labels, _MOST_ROWS, rng)
        space = reading.auxiliary_space(result, role, positions)
        if space is None:
            continue
        nearest = np.argsort(-(own @ _centred(space).T), axis=1, kind="stable")[:, :_NEIGHBOURS]
        theirs = source.labels[positions]
        share = 100.0 * float((theirs[nearest[:, 0]] == labels).mean())
        chance = 100.0 * float(
            (np.bincount(theirs, minlength=len(reading.classes))[labels] / len(theirs)).mean()
        )
        said = (
            f"The nearest {role} sample is of the same class for {share:.1f} % of the {len(labels):,} test "
            f"samples; a {role} sample taken at random for {chance:.1f} %."
        )
        rows = source.rows[positions]
        lines = []
        for at in _one_of_each(labels):
            near = [
                Neighbour(
                    samples.show(role, int(rows[j])),
                    reading.classes[theirs[j]],
                    bool(theirs[j] == labels[at]),
                )
                for j in nearest[at]
            ]
            lines.append((_test_sample(samples, reading, at), reading.classes[labels[at]], near))
        found.append(Neighbours(said, role, lines))
    return found


def _test_sample(samples: Samples, reading: Reading, at: int) -> Shown | None:
    rows = samples.test_rows
    return None if rows is None else samples.show(reading.problem.target.label, rows[at])


def _one_of_each(labels: NDArray[np.int64]) -> list[int]:
    """The first row of some classes, evenly from all."""
    present, first = np.unique(labels, return_index=True)
    picked = np.linspace(0, len(present) - 1, min(_PICTURES, len(present))).astype(int)
    return [int(first[at]) for at in picked]


def _cloud(role: str, values: NDArray[np.float32], labels: NDArray[np.int64], kind: str) -> Cloud:
    rows = stratified(labels, _MOST_POINTS, generator_for("map", values.shape, role))
    return Cloud(role, _flat(_centred(values[rows]), kind), labels[rows])


def _shared(reading: Reading, result: CellResult, kind: str) -> list[Cloud] | None:
    values, labels = reading.test
    rows = stratified(labels, _MOST_POINTS // 2, generator_for("shared map", values.shape, "target"))
    parts = [
        (reading.problem.target.label, _centred(reading.target_space(result, values[rows])), labels[rows])
    ]
    for role in reading.auxiliaries:
        source = reading.problem.auxiliaries[role]
        rows = stratified(
            source.labels, _MOST_POINTS // 2, generator_for("shared map", (len(source.rows),), role)
        )
        space = reading.auxiliary_space(result, role, rows)
        if space is not None:
            parts.append((role, _centred(space), source.labels[rows]))
    if len(parts) < 2:
        return None
    points = _flat(np.concatenate([space for _, space, _ in parts]), kind)
    ends = np.cumsum([len(space) for _, space, _ in parts])[:-1]
    pieces = np.split(points, ends)
    return [Cloud(role, piece, theirs) for (role, _, theirs), piece in zip(parts, pieces, strict=True)]


def _centred(values: NDArray[Any]) -> NDArray[np.float64]:
    """Less the mean, at unit length; a row of zeros stays."""
    centred = values.astype(np.float64) - values.mean(0, dtype=np.float64)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    return centred / np.where(lengths > 0, lengths, 1.0)


def _flat(values: NDArray[np.float64], kind: str) -> NDArray[np.floating]:
    """(n, 2). The sign of each axis is fixed: its largest entry is positive."""
    if len(values) < 3 or values.shape[1] < 2:
        return np.pad(values[:, :2], ((0, 0), (0, max(0, 2 - values.shape[1]))))
    if kind == "tsne" and len(values) > 10:
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(values) - 1) / 3)
        return np.asarray(TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(values))
    if kind == "umap" and len(values) > 10:
        return _umap(values)
    points = values @ _main_axes(values - values.mean(0)).T
    return points * np.sign(points[np.abs(points).argmax(0), [0, 1]])


def _main_axes(centred: NDArray[np.float64]) -> NDArray[np.float64]:
    """(2, D): the directions in which (n, D) values vary most.

    From the scatter matrix where that is the smaller one: two of its eigenvectors cost far less than a
    singular value decomposition, and a map shows none of the digits that squaring loses.
    """
    dim = centred.shape[1]
    if dim <= len(centred):
        from scipy.linalg import eigh

        return eigh(centred.T @ centred, subset_by_index=[dim - 2, dim - 1])[1][:, ::-1].T
    return np.linalg.svd(centred, full_matrices=False)[2][:2]


def _umap(values: NDArray[np.float64]) -> NDArray[np.floating]:
    try:
        from umap import UMAP
    except ImportError:
        raise InputError("a UMAP needs another package: pip install 'uml-cache[maps]'") from None
    return np.asarray(UMAP(random_state=0, n_jobs=1).fit_transform(values))


def _drawn(panels: Sequence[tuple[str, list[Cloud]]], classes: Sequence[str], kind: str) -> Figure:
    counts = np.bincount(panels[0][1][0].labels, minlength=len(classes))
    coloured = sorted(np.argsort(-counts, kind="stable")[: len(_COLOURS)].tolist())
    colour = {c: _COLOURS[at] for at, c in enumerate(coloured)}
    with style():
        figure = new_figure(3.3 * len(panels), 4.3)
        for axes, (title, clouds) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
            for cloud, marker in zip(clouds, "o^sD", strict=False):
                colours = [colour.get(int(c), GREY) for c in cloud.labels]
                # Points as dots in a picture: a thousand of them as paths are a megabyte.
                axes.scatter(
                    *cloud.points.T, c=colours, marker=marker, s=14, alpha=0.75, linewidths=0, rasterized=True
                )
            many = (
                " ".join(f"{m} {c.role}" for m, c in zip("●▲■◆", clouds, strict=False))
                if len(clouds) > 1
                else ""
            )
            axes.set_title(f"{title}\n{many}", fontsize=9.5)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[["top", "right", "left", "bottom"]].set_color(GREY)
        marks = [
            figure.axes[0].scatter([], [], color=colour[c], s=26, label=classes[c]) for c in coloured
        ]  # fmt: skip
        if len(classes) > len(coloured):
            rest = f"{len(classes) - len(coloured)} other classes"
            marks.append(figure.axes[0].scatter([], [], color=GREY, s=26, label=rest))
        figure.legend(
            handles=marks, loc="upper center", bbox_to_anchor=(0.5, 0.04), ncols=min(5, len(marks)),
            frameon=False, fontsize=8.5, labelcolor=INK,
        )  # fmt: skip
        return figure
