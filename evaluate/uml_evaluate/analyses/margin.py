"""Margins of the test rows (paper F.3, equation 8, 5 in v1): how far the right class is ahead of its rivals.

Shapes: N rows, C classes, D raw features, W that the head reads, Q quantile levels, M models.
Arrays of any floating type are taken, labels of any integer type; results are float64.

A model's projection, head, logit scale and normalisation are one affine map of the raw features, f(x) = W x +
b with W = scale · head · projection, so that models of any depth are compared in one space. The functional
margin

    m(x, y) = f_y(x) − max over j ≠ y of f_j(x)

is positive exactly where the model is right. It doubles when all weights do, with every decision as before,
so that between methods only its sign compares. The geometric margin

    g(x, y) = min over j ≠ y of (f_y(x) − f_j(x)) / ‖W_y − W_j‖

does not: inside its class's region it is the distance to the nearest decision boundary, in units of the raw
features; outside it is minus the distance to the hyperplane that is violated most.

What the paper calls the functional margin (equation 8) is a third: the lead over the rival with the largest
logit, divided by the distance of the two head rows. It is here as that of equation 8, with the head's rows in
the space that the head reads. That rival's boundary need not be the nearest one, and one head reads raw
features where another reads projected ones: between such methods it does not compare.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from uml_cache import InputError
from uml_evaluate.analyses.finding import Finding, Table
from uml_evaluate.analyses.reading import Reading, cell_fields, finite, mean_std_text, seeds_text
from uml_evaluate.comparing.rows import Arm, arm_name
from uml_evaluate.comparing.shown.figures import GREY, INK, arm_style, canvas, style
from uml_evaluate.comparing.shown.tables import shots_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERSION = 3
TITLE = "Margins"
PAPER = "F.3, equation 8 (5 in v1)"
_LEVELS = np.linspace(0.0, 1.0, 101)
_BLOCK = 4096
_SHOWN_CLASSES = 5


def functional_margins(logits: NDArray[Any], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """(N,) logit of the label minus the largest other one; logits (N, C), labels (N,)."""
    logits = np.asarray(logits, dtype=np.float64)
    rows = np.arange(len(labels))
    right = logits[rows, labels]
    others = logits.copy()
    others[rows, labels] = -np.inf
    return right - others.max(1)


def geometric_margins(
    logits: NDArray[Any], labels: NDArray[np.integer], weight: NDArray[Any]
) -> NDArray[np.float64]:
    """(N,) signed distances to the decision boundary in the space of the weights (C, D).

    Two classes with equal weights have no boundary: such a pair is left out.
    """
    weight = np.asarray(weight, dtype=np.float64)
    logits = np.asarray(logits, dtype=np.float64)
    # The distance from x to where classes y and j tie is (l_y − l_j) / ‖w_y − w_j‖; the nearest j counts.
    weight = weight - weight.mean(0)  # what all classes share is in no difference of two
    squares = (weight**2).sum(1)
    apart = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * weight @ weight.T, 0.0))
    found = np.empty(len(labels))
    for start in range(0, len(labels), _BLOCK):
        part = slice(start, start + _BLOCK)
        y = labels[part]
        lead = logits[part][np.arange(len(y)), y][:, None] - logits[part]
        lengths = apart[y]
        with np.errstate(divide="ignore", invalid="ignore"):
            distances = np.where(lengths > 1e-12 * np.sqrt(squares.max()), lead / lengths, np.inf)
        distances[np.arange(len(y)), y] = np.inf
        found[part] = distances.min(1)
    return found


def runner_up_margins(
    logits: NDArray[Any], labels: NDArray[np.integer], weight: NDArray[Any]
) -> NDArray[np.float64]:
    """(N,) lead over the rival with the largest logit, over the distance of the two rows of weight (C, W):
    paper equation 8. Infinite where those rows are equal and the logits are not, 0 where both are.
    """
    weight = np.asarray(weight, dtype=np.float64)
    others = np.array(logits, dtype=np.float64)
    others[np.arange(len(labels)), labels] = -np.inf
    apart = np.linalg.norm(weight[labels] - weight[others.argmax(1)], axis=1)
    lead = functional_margins(logits, labels)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(lead == 0, 0.0, lead / apart)


def class_averages(
    values: NDArray[np.float64], labels: NDArray[np.integer], classes: int
) -> NDArray[np.float64]:
    """(C,) mean of the values (N,) of each class, NaN for a class without rows."""
    sums = np.bincount(labels, weights=values, minlength=classes)
    with np.errstate(invalid="ignore"):
        return sums / np.bincount(labels, minlength=classes)


def analyse(reading: Reading) -> Finding:
    """Margins of every cell's selected model on the test rows.

    Raises:
        InputError: a head is not as right as its record says.
    """
    features, labels = reading.test
    classes = len(reading.classes)
    double = features.astype(np.float64)
    records: list[dict[str, Any]] = []
    kept: dict[str, list[NDArray[np.float64]]] = {"functional": [], "printed": [], "geometric": []}
    per_class: list[NDArray[np.float64]] = []
    units = set()
    linear = reading.run.settings.trunk == "linear"
    for result in reading.cells:
        head = reading.head(result)
        logits = head.logits(double)
        functional = functional_margins(logits, labels)
        accuracy = 100.0 * float((functional > 0).mean())
        if abs(accuracy - result.test_acc) > 100.0 * max(2.0, 0.001 * len(labels)) / len(labels):
            raise InputError(
                f"{result.head_path} is right on {accuracy:.1f} % of the test rows, but its record says "
                f"{result.test_acc:.1f} %: one of the two was changed; delete the record and train again"
            )
        geometric = geometric_margins(logits, labels, head.weight) if linear else np.full(len(labels), np.nan)
        shared = reading.shared(result)
        printed = runner_up_margins(logits, labels, shared.scale * shared.rows)
        units.add(head.unit)
        kept["functional"].append(np.quantile(functional, _LEVELS))
        kept["printed"].append(np.quantile(np.where(np.isfinite(printed), printed, np.nan), _LEVELS))
        kept["geometric"].append(np.quantile(geometric, _LEVELS))
        per_class.append(class_averages(geometric if linear else functional, labels, classes))
        records.append(
            {
                **cell_fields(result),
                "right_percent": accuracy,
                "functional_mean": float(functional.mean()),
                "functional_median": float(np.median(functional)),
                "eq5_mean": finite(printed.mean()),
                "geometric_mean": finite(geometric.mean()),
                "geometric_median": finite(np.median(geometric)),
            }
        )
    arrays = {
        "levels": _LEVELS,
        "functional": np.stack(kept["functional"]),
        "printed": np.stack(kept["printed"]),
        "geometric": np.stack(kept["geometric"]),
        "per_class": np.stack(per_class),
    }
    return Finding(
        analysis="margin",
        title=TITLE,
        paper=PAPER,
        auxiliaries=reading.auxiliaries,
        said=_said(reading, records, linear),
        notes=_notes(reading, linear, units, len(labels)),
        tables=[
            _table(reading, records, linear),
            *_class_tables(reading, records, arrays["per_class"], linear),
        ],
        values={
            "cells": records,
            "test_rows": len(labels),
            "unit": reading.unit,
            "classes": reading.classes,
            "first": reading.choice("margin"),
        },
        arrays=arrays,
        caption=(
            f"Share of the {len(labels)} test rows whose margin is below a value, at "
            f"{shots_name(reading.shots[-1])}, averaged over {seeds_text(reading)}. Where a curve crosses 0 "
            "is the model's error. Functional margins, whose scale differs between methods; the paper's "
            "(equation 8, the lead over the distance of two head rows); geometric margins, which compare."
        ),
    )


def figure(finding: Finding) -> Figure | None:
    """Distribution of both margins at the largest number of shots, a curve a method."""
    cells = finding.values["cells"]
    shots = cells[-1]["shots"] if any(c["shots"] == "all" for c in cells) else max(c["shots"] for c in cells)
    levels = 100.0 * finding.arrays["levels"]
    names = list(dict.fromkeys(c["method"] for c in cells))
    with style():
        drawing, first = canvas(11.6, 3.7)
        first.remove()
        kinds = ["functional", "printed", "geometric"]
        if finding.values.get("first") == "equation-8":
            kinds = ["printed", "functional", "geometric"]
        kinds = [k for k in kinds if k in finding.arrays and not np.isnan(finding.arrays[k]).all()]
        axes = drawing.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
        for kind, ax in zip(kinds, axes, strict=True):
            for name in names:
                rows = [i for i, c in enumerate(cells) if c["method"] == name and c["shots"] == shots]
                if rows:
                    colour, _, line = arm_style(_arm(name))
                    values = finding.arrays[kind][rows].mean(0)
                    ax.plot(values, levels, color=colour, linestyle=line, label=name, linewidth=1.5)
            ax.axvline(0.0, color=INK, linewidth=0.8)
            ax.set_xlabel(
                {
                    "functional": "functional margin (logits)",
                    "printed": "margin of equation 8",
                    "geometric": f"geometric margin\n({finding.values['unit']})",
                }[kind]
            )
            ax.grid(color=GREY, alpha=0.25, linewidth=0.6)
            ax.spines[["top", "right"]].set_visible(False)
        axes[0].set_ylabel("test rows below (%)")
        axes[-1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
        seeds = len({c["seed"] for c in cells})
        drawing.suptitle(
            f"Margins, {shots_name(shots)} (n = {finding.values['test_rows']} test rows, {seeds} seeds)",
            fontsize=10,
        )
        drawing.tight_layout()
        return drawing


def _arm(name: str) -> Arm:
    method, _, control = name.partition("[")
    return method, control.rstrip("]") or None


def _of(records: list[dict[str, Any]], name: str, shots: Any, value: str) -> list[float]:
    return [r[value] for r in records if (r["method"], r["shots"]) == (name, shots) and r[value] is not None]


def _table(reading: Reading, records: list[dict[str, Any]], linear: bool) -> Table:
    names = [arm_name(arm) for arm in reading.arms]
    rows = []
    for name in names:
        for k in reading.shots:
            if right := _of(records, name, k, "right_percent"):
                functional = mean_std_text(_of(records, name, k, "functional_mean"))
                printed = mean_std_text(_of(records, name, k, "eq5_mean"), 3)
                geometric = mean_std_text(_of(records, name, k, "geometric_mean"), 3) if linear else "–"
                rows.append([name, str(k), functional, printed, geometric, mean_std_text(right, 1)])
    head = ["method", "k", "functional margin", "margin of equation 8", "geometric margin", "margin > 0 (%)"]
    return Table(
        caption="Mean margin of the test rows, mean ± standard deviation over seeds", head=head, rows=rows
    )


def _class_tables(
    reading: Reading, records: list[dict[str, Any]], per_class: NDArray[np.float64], linear: bool
) -> list[Table]:
    shots = reading.shots[-1]
    names = [arm_name(a) for a in reading.arms if a[1] is None]
    means = {}
    for name in names:
        rows = [i for i, r in enumerate(records) if (r["method"], r["shots"]) == (name, shots)]
        if rows:
            means[name] = per_class[rows].mean(0)
    last = "uml" if "uml" in means else names[-1]
    order = [int(c) for c in np.argsort(means[last]) if np.isfinite(means[last][c])]
    shown = order if len(order) <= 2 * _SHOWN_CLASSES else order[:_SHOWN_CLASSES] + order[-_SHOWN_CLASSES:]
    some = "" if len(shown) == len(order) else f", the {_SHOWN_CLASSES} lowest and highest of {last}"
    kind = "geometric" if linear else "functional"
    lines = [[reading.classes[c], *(f"{means[n][c]:.3f}".replace("-", "−") for n in means)] for c in shown]
    caption = f"Mean {kind} margin per class at {shots_name(shots)}{some}"
    return [Table(caption=caption, head=["class", *means], rows=lines)]


def _said(reading: Reading, records: list[dict[str, Any]], linear: bool) -> list[str]:
    value = "geometric_mean" if linear else "functional_mean"
    said = []
    for a, b in (("uml", "unimodal-deep"), ("uml", "unimodal"), ("uml-init", "init-only")):
        parts = []
        for k in reading.shots:
            theirs = {r["seed"]: r[value] for r in records if (r["method"], r["shots"]) == (b, k)}
            ours = {r["seed"]: r[value] for r in records if (r["method"], r["shots"]) == (a, k)}
            both = sorted(set(ours) & set(theirs))
            if both:
                differences = [ours[s] - theirs[s] for s in both]
                parts.append(f"{mean_std_text(differences, 3)} at {shots_name(k)}")
        if parts and linear:
            said.append(f"Mean geometric margin, {a} − {b}, paired by seed: {', '.join(parts)}.")
    return said or ["No two methods here have margins that compare."]


def _notes(reading: Reading, linear: bool, units: set[bool], rows: int) -> list[str]:
    notes = [
        f"On all {rows} test rows. The effective weights are scale · head · projection with the "
        "normalisation folded in, so that every method is one affine map of the raw features.",
        "Functional margins grow with the weights' norm while decisions stay: between methods compare their "
        "sign (the share above 0 is the accuracy), not their size. Geometric margins are divided by the norm "
        "of the difference of two classes' weights and compare between methods on one encoder, not between "
        "encoders. The margin of equation 8 is the paper's: the lead over the best rival, over the distance "
        "of the two head rows in the space that the head reads, which differs between methods.",
    ]
    if not linear:
        notes.append(
            "With --trunk mlp a model is not linear in the features and has no geometric margin here."
        )
    if units == {True}:
        notes.append("Features are brought to unit length first: margins are those of unit vectors.")
    elif len(units) > 1:
        notes.append(
            "Some models bring features to unit length and some do not: their margins do not compare."
        )
    return notes
