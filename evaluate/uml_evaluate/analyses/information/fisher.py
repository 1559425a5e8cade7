"""Fisher information of the shared head, from target and auxiliary rows (later version, C.4, Proposition 1).

Shapes: D directions, one for each pair of classes.

Information on shared parameters adds, whatever the model. How much an auxiliary adds is another question, and
it has an answer for every direction: here along those that move the rows of two classes apart by the
difference of the target's class means, and for comparison along random ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from uml_evaluate.analyses.finding import Finding, NotPossible, Table
from uml_evaluate.analyses.information.shared_space import SharedRows, class_pairs, shared_rows
from uml_evaluate.analyses.reading import Reading, cell_fields, mean_std_text
from uml_evaluate.comparing.shown.figures import GREY, INK, canvas, style
from uml_evaluate.comparing.shown.tables import shots_name
from uml_evaluate.comparing.statistics import generator_for
from uml_evaluate.theory.informed_scores import class_directions, head_fisher

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERSION = 1
TITLE = "Fisher information of the shared head"
PAPER = "later version, C.4, Proposition 1"
_KINDS = ("empirical", "model")


def analyse(reading: Reading) -> Finding:
    """Information of target and auxiliary rows on the head of every seed, by number of shots.

    Raises:
        NotPossible: no head was trained on other modalities.
    """
    records: list[dict[str, Any]] = []
    arrays: dict[str, NDArray[Any]] = {}
    for one in shared_rows(reading):
        for label in one.auxiliaries:
            record, ratios = _one(one, label)
            arrays[f"ratio.{len(records)}"] = ratios
            records.append(record)
    if not records:
        raise NotPossible("no auxiliary reaches the head in this configuration")
    return Finding(
        analysis="fisher",
        title=TITLE,
        paper=PAPER,
        auxiliaries=reading.auxiliaries,
        said=_said(reading, records),
        notes=_notes(),
        tables=[_table(reading, records)],
        values={"cells": records},
        arrays=arrays,
        caption="Information of one auxiliary row over that of one target row, along each direction that "
        "separates two of the target's classes (model's information; the first seed).",
    )


def _one(one: SharedRows, label: str) -> tuple[dict[str, Any], NDArray[np.float64]]:
    seed = one.result.cell.seed
    pairs = class_pairs(one.target.labels, seed)
    apart = class_directions(one.means, pairs)
    rng = generator_for("fisher", apart.shape, seed)
    random = rng.standard_normal(apart.shape)
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    target, other = one.target, one.auxiliaries[label]
    record: dict[str, Any] = {
        **cell_fields(one.result), "auxiliary": label, "directions": len(pairs),
        "target_rows": len(target.labels), "auxiliary_rows": len(other.labels),
    }  # fmt: skip
    ratios = np.zeros(len(pairs))
    for name, directions in (("classes", apart), ("random", random)):
        ours = head_fisher(one.head, target, pairs, directions)
        theirs = head_fisher(one.head, other, pairs, directions)
        for kind, x, y in zip(_KINDS, ours, theirs, strict=True):
            known = x > 0
            ratio = y[known] / x[known]
            record[f"{name}_{kind}_target"] = float(np.median(x))
            record[f"{name}_{kind}_auxiliary"] = float(np.median(y))
            record[f"{name}_{kind}_ratio"] = float(np.median(ratio)) if len(ratio) else None
            if (name, kind) == ("classes", "model"):
                ratios = np.divide(y, x, out=np.zeros_like(y), where=known)
    return record, ratios


def _table(reading: Reading, records: list[dict[str, Any]]) -> Table:
    rows = []
    for label in dict.fromkeys(r["auxiliary"] for r in records):
        for k in reading.shots:
            mine = [r for r in records if (r["auxiliary"], r["shots"]) == (label, k)]
            if mine:
                cells = [
                    mean_std_text([r[f"{name}_{kind}_ratio"] for r in mine if r[f"{name}_{kind}_ratio"]], 3)
                    for kind in _KINDS
                    for name in ("classes", "random")
                ]
                rows.append([label, str(k), *cells])
    head = ["auxiliary", "k", "empirical, classes", "empirical, random", "model, classes", "model, random"]
    return Table(
        caption="Information of one auxiliary row over that of one target row: median over directions, mean "
        "± standard deviation over seeds",
        head=head,
        rows=rows,
    )


def _said(reading: Reading, records: list[dict[str, Any]]) -> list[str]:
    said = []
    for label in dict.fromkeys(r["auxiliary"] for r in records):
        parts = []
        for k in reading.shots:
            mine = [r for r in records if (r["auxiliary"], r["shots"]) == (label, k)]
            values = [r["classes_model_ratio"] for r in mine if r["classes_model_ratio"] is not None]
            others = [r["random_model_ratio"] for r in mine if r["random_model_ratio"] is not None]
            if values and others:
                parts.append(
                    f"{mean_std_text(values)} at {shots_name(k)} (random directions {mean_std_text(others)})"
                )
        if parts:
            said.append(
                f"Along directions that separate the target's classes, one row of {label} has as much "
                f"information on the shared head as so many target rows: {', '.join(parts)}."
            )
    return said


def _notes() -> list[str]:
    return [
        "Rows are those that the head trained on, in the space that it reads. A direction moves two classes' "
        "rows apart by the difference of the target's class means.",
        "The empirical information uses the given labels and grows with errors, so a head that fits its few "
        "target rows has little. The model's information uses its own probabilities. "
        "Information says how well a parameter is known, not whether the modalities want the same value: an "
        "auxiliary with permuted classes has information, too.",
    ]


def figure(finding: Finding) -> Figure:
    """Ratios of all directions of the first head of each auxiliary, sorted."""
    with style():
        drawn, axes = canvas(6.4, 3.2)
        seen: set[str] = set()
        for i, record in enumerate(finding.values["cells"]):
            name = record["auxiliary"]
            if name in seen:
                continue
            seen.add(name)
            values = np.sort(finding.arrays[f"ratio.{i}"])
            axes.plot(np.linspace(0, 100, len(values)), values, label=f"{name}, k = {record['shots']}")
        axes.axhline(1.0, color=GREY, linestyle="--", linewidth=0.9)
        axes.axhline(0.0, color=INK, linewidth=0.8)
        axes.set_xlabel("directions that separate two classes, % (sorted)")
        axes.set_ylabel("information, auxiliary / target")
        axes.legend(frameon=False, fontsize=8)
    return drawn
