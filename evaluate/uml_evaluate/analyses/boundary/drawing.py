"""The decision boundary between two classes, in one plane for all methods (paper F.2).

Shapes: n test rows of the two classes, D raw features, G grid points along each axis.

The plane lies in the raw feature space and comes from the two classes' test rows alone, without any model:

    origin   midway between the two class means
    axis 1   the unit vector from the first class mean to the second
    axis 2   the direction of largest variance of both classes' rows once axis 1 is taken out of them

The paper (F.1) draws every model in a plane of its own: axis 1 along the difference of the two classes' head
rows, axis 2 along what the difference of the class means has beside it. There a boundary always stands
upright, and two methods' pictures show different planes; in the shared one they can be laid over each other.
The protocol decides: `fair` takes the shared plane, `paper` each model's own.

Every model's boundary is its own cut through this plane. Rows are drawn where they project to, while models
see all D features: a row may lie on the wrong side of the line and be classified right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from uml_cache import InputError, unknown
from uml_evaluate.analyses.boundary.class_plane import Plane, Scene, class_plane, picture
from uml_evaluate.analyses.finding import Finding, NotPossible, Table
from uml_evaluate.analyses.reading import Reading, data_arm, mean_std_text
from uml_evaluate.comparing.rows import Arm, arm_name
from uml_evaluate.comparing.shown.figures import INK, canvas, style
from uml_evaluate.comparing.shown.tables import shots_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from uml_train import CellResult, Head

VERSION = 3
TITLE = "Decision boundary"
PAPER = "F.2"
_BLUE, _ORANGE = "#0072B2", "#E69F00"


def analyse(reading: Reading, pair: Sequence[str] | None = None) -> Finding:
    """Cut unimodal, unimodal-deep and the method with data by the plane of a pair of classes.

    Args:
        pair: two class names; None takes the two that the plain linear layer mixes up most.

    Raises:
        NotPossible: the run lacks the methods or the classes.
    """
    shots = reading.shots[-1]
    arms = [("unimodal", None), ("unimodal-deep", None), data_arm(reading)]
    methods = [arm for arm in arms if arm is not None and reading.of(arm, shots)]
    if not methods:
        raise NotPossible(
            f"{reading.run.path} has none of unimodal, unimodal-deep and uml at {shots_name(shots)}"
        )
    features, labels = reading.test
    judges = reading.of(methods[0], shots)
    a, b = _confused(judges, labels, len(reading.classes)) if pair is None else _named(reading, pair)
    mine = np.flatnonzero((labels == a) | (labels == b))
    if len(set(labels[mine])) < 2:
        raise NotPossible(f"the test rows hold none of {reading.classes[a]!r} or {reading.classes[b]!r}")
    plane, own = _shared_plane(reading, a, b), reading.choice("boundary") == "weights"
    if own and reading.run.settings.trunk != "linear":
        raise NotPossible("with --trunk mlp a model has no weights of the raw features; see --protocol fair")
    scene = Scene.of(reading, judges[0], a, b, mine)
    seed = min(r.cell.seed for arm in methods for r in reading.of(arm, shots))
    arrays = scene.drawn(plane)
    records: list[dict[str, Any]] = []
    for arm in methods:
        for result in reading.of(arm, shots):
            head, name = reading.head(result), arm_name(arm)
            scores = _scores(head, features[mine], labels[mine], a, b)
            records.append({"method": name, "seed": result.cell.seed, **scores})
            if result.cell.seed == seed:
                arrays |= picture(head, scene, plane, name, own)
    names = [reading.classes[a], reading.classes[b]]
    return Finding(
        analysis="boundary",
        title=TITLE,
        paper=PAPER,
        auxiliaries=reading.auxiliaries,
        said=_said(records, names, shots),
        notes=_notes(reading, plane, len(mine), None if pair is not None else methods[0], own),
        tables=[_table(records, names, shots)],
        values={
            "pair": names, "shots": shots, "seed": seed, "models": records, "test_rows": len(mine),
            "variance_in_plane": plane.variance, "methods": [arm_name(arm) for arm in methods],
            "unit": reading.unit, "plane": reading.choice("boundary"),
        },
        arrays=arrays,
        caption=(
            f"{names[0]} and {names[1]} at {shots_name(shots)}, seed {seed}: the line is where the two "
            "classes' logits are equal; shaded in a class's colour is where it wins against all classes, "
            "grey where a third class does; a line out of the drawn part is not shown. "
            f"{len(scene.shown)} of {len(mine)} test rows are drawn (crosses: classified wrong), and the "
            "labelled samples as stars."
        ),
    )  # fmt: skip


def _shared_plane(reading: Reading, a: int, b: int) -> Plane:
    features, labels = reading.test
    try:
        return class_plane(features[labels == a], features[labels == b])
    except ValueError as error:
        raise NotPossible(f"{reading.classes[a]} and {reading.classes[b]} span no plane: {error}") from None


def _notes(reading: Reading, plane: Plane, rows: int, mixed_up_by: Arm | None, own: bool) -> list[str]:
    """How the drawing came about."""
    how = (
        "the pair was asked for"
        if mixed_up_by is None
        else f"the pair is the one that {arm_name(mixed_up_by)} mixes up most on the test rows, so that "
        "there is something to see: an illustration, not evidence"
    )
    drawn = (
        f"Planes: each model's own (F.1). Origin midway between the means of the two classes' {rows} test "
        "rows, axis 1 along the difference of the model's two weight vectors, axis 2 along the rest of the "
        f"difference of the means, in {reading.unit}. Pictures of two methods show different "
        "planes; --protocol fair draws them in one."
    )
    shared = (
        f"Plane: origin midway between the means of the two classes' {rows} test rows, axis 1 from the "
        "first mean to the second, axis 2 the direction of largest remaining variance; the same for all "
        f"methods (--protocol paper takes axis 1 from each model's weights), in {reading.unit}. It holds "
        f"{100 * plane.variance:.0f} % of these rows' variance."
    )
    return [
        drawn if own else shared,
        "A row is drawn at its projection. Models see all features, so a row on the wrong side of the line "
        f"may be classified right; wrong ones have a cross. {how[0].upper()}{how[1:]}.",
    ]


def figure(finding: Finding) -> Figure | None:
    """The methods side by side in the same plane."""
    from matplotlib.colors import ListedColormap

    values, arrays = finding.values, finding.arrays
    own = values.get("plane") == "weights"
    with style():
        drawing, first = canvas(3.0 * len(values["methods"]) + 0.6, 3.9)
        first.remove()
        axes = drawing.subplots(1, len(values["methods"]), sharex=not own, sharey=not own, squeeze=False)[0]
        for ax, name in zip(axes, values["methods"], strict=True):
            behind = f" {name}" if own else ""
            x, y = arrays[f"x{behind}"], arrays[f"y{behind}"]
            fill = ListedColormap([_BLUE, _ORANGE, "#808080"])
            extent = (x[0], x[-1], y[0], y[-1])
            ax.imshow(
                arrays[f"region {name}"], cmap=fill, vmin=0, vmax=2, alpha=0.22, origin="lower",
                extent=extent, aspect="auto", interpolation="nearest",
            )  # fmt: skip
            lead = arrays[f"lead {name}"]
            if lead.min() < 0 < lead.max():
                ax.contour(x, y, lead, levels=[0.0], colors=[INK], linewidths=1.4)
            for second, colour, marker in ((False, _BLUE, "o"), (True, _ORANGE, "s")):
                for right, mark in ((True, marker), (False, "x")):
                    some = (arrays["second"] == second) & (arrays[f"right {name}"] == right)
                    at = arrays[f"at{behind}"][some]
                    ax.scatter(at[:, 0], at[:, 1], s=16, marker=mark, color=colour, linewidths=1.0)
                at = arrays[f"train_at{behind}"][arrays["train_second"] == second]
                ax.scatter(at[:, 0], at[:, 1], s=95, marker="*", color=colour, edgecolors=INK, linewidths=0.8)
            share = 100 * float(arrays[f"right {name}"].mean())
            ax.set_title(f"{name}\n{share:.0f} % of the rows shown right", fontsize=9)
            ax.set_xlabel("axis 1: " + ("along its weights" if own else "between the class means"))
            ax.set_xlim(x[0], x[-1])
            ax.set_ylim(y[0], y[-1])
        axes[0].set_ylabel(
            f"axis 2: {'rest of the mean difference' if own else 'largest remaining variance'}"
        )
        keys = [
            axes[0].plot([], [], color=c, marker=m, linestyle="none", label=n)[0]
            for c, m, n in zip((_BLUE, _ORANGE), "os", values["pair"], strict=True)
        ]
        keys += [
            axes[0].plot([], [], color=INK, marker=m, markerfacecolor="none", linestyle="none", label=n)[0]
            for m, n in (("x", "classified wrong"), ("*", "labelled sample"))
        ]
        drawing.legend(
            handles=keys,
            frameon=False,
            fontsize=8.5,
            loc="lower center",
            ncols=4,
            bbox_to_anchor=(0.5, -0.06),
        )
        drawing.suptitle(
            f"{shots_name(values['shots'])}, seed {values['seed']} (n = {len(arrays['at'])} test rows; "
            f"{values['unit']})", fontsize=10,
        )  # fmt: skip
        drawing.tight_layout()
        return drawing


def _named(reading: Reading, pair: Sequence[str]) -> tuple[int, int]:
    for name in pair:
        if name not in reading.classes:
            raise unknown("class", name, reading.classes)
    if len(set(pair)) < 2:
        raise InputError(f"--pair names {pair[0]!r} twice; a boundary needs two classes")
    return reading.classes.index(pair[0]), reading.classes.index(pair[1])


def _confused(cells: Sequence[CellResult], labels: NDArray[np.int64], classes: int) -> tuple[int, int]:
    counts = np.zeros((classes, classes))
    for result in cells:
        np.add.at(counts, (labels, result.test_predictions), 1)
    counts = np.triu(counts + counts.T, 1)
    a, b = np.unravel_index(int(counts.argmax()), counts.shape)
    return (int(a), int(b)) if counts.max() > 0 else (0, 1)


def _scores(
    head: Head, features: NDArray[Any], labels: NDArray[np.int64], a: int, b: int
) -> dict[str, float]:
    logits = head.logits(features)
    best = logits.argmax(1)
    between = np.where(logits[:, a] > logits[:, b], a, b)
    return {
        "right_percent": 100.0 * float((best == labels).mean()),
        "right_between_two_percent": 100.0 * float((between == labels).mean()),
        "third_class_percent": 100.0 * float(((best != a) & (best != b)).mean()),
    }


def _table(records: list[dict[str, Any]], names: Sequence[str], shots: Any) -> Table:
    rows = []
    for method in dict.fromkeys(r["method"] for r in records):
        mine = [r for r in records if r["method"] == method]
        kinds = ("right_percent", "right_between_two_percent", "third_class_percent")
        rows.append([method, *(mean_std_text([r[kind] for r in mine], 1) for kind in kinds)])
    head = ["method", "right (%)", "right between the two (%)", "taken by a third class (%)"]
    caption = (
        f"Test rows of {names[0]} and {names[1]} at {shots_name(shots)}, mean ± standard deviation over seeds"
    )
    return Table(caption=caption, head=head, rows=rows)


def _said(records: list[dict[str, Any]], names: Sequence[str], shots: Any) -> list[str]:
    parts = []
    for method in dict.fromkeys(r["method"] for r in records):
        values = [r["right_between_two_percent"] for r in records if r["method"] == method]
        parts.append(f"{method} {mean_std_text(values, 1)} %")
    return [f"Between {names[0]} and {names[1]} alone at {shots_name(shots)}, right: {', '.join(parts)}."]
