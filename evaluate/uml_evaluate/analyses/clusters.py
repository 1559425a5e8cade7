"""Do classes form clusters? Silhouette and Davies–Bouldin of the true classes (paper F.3).

Shapes: N rows, D features of a space, C classes.

The paper gives both for SUN397 (its Figures 45 and 46) and does not say of which vectors. Frozen features
are the same for every method, so it cannot be those; here are the raw features, what the head reads and the
logits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from uml_evaluate.analyses.cluster_scores import davies_bouldin, silhouette
from uml_evaluate.analyses.finding import Finding, NotPossible, Table
from uml_evaluate.analyses.reading import (
    Reading,
    cell_fields,
    finite,
    mean_std_text,
    seeds_text,
    stratified,
)
from uml_evaluate.comparing.rows import arm_name
from uml_evaluate.comparing.shown.figures import GREY, INK, arm_style, canvas, style
from uml_evaluate.comparing.shown.tables import shots_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERSION = 1
TITLE = "Clusters"
PAPER = "F.3"
ROWS = 4_000
"""Test rows that are looked at, the same in every space; more are thinned out, classes in proportion."""

_SCORES = (("silhouette", 3), ("davies_bouldin", 2))
_RAW, _SHARED, _LOGITS = "raw features", "projection", "logits"


def analyse(reading: Reading) -> Finding:
    """Both scores of the test rows in the raw features, the shared space and the logits of every cell.

    Raises:
        NotPossible: the test rows are of one class.
    """
    features, labels = reading.test
    some = stratified(labels, ROWS, np.random.default_rng(0))
    features, labels = features[some], labels[some]
    if len(np.unique(labels)) < 2:
        raise NotPossible(
            f"the {len(labels)} test rows are of one class alone, {reading.classes[labels[0]]!r}; clusters "
            f"need "
            "two classes or more"
        )
    raw = _both(features, labels)
    records: list[dict[str, Any]] = [{"method": "–", "shots": None, "seed": None, "space": _RAW, **raw}]
    for result in reading.cells:
        about = {
            **cell_fields(result),
        }
        if reading.shared(result).projection is not None:
            shared = reading.target_space(result, features)
            records.append({**about, "space": _SHARED, **_both(shared, labels)})
        logits = reading.head(result).logits(features)
        records.append({**about, "space": _LOGITS, **_both(logits, labels)})
    notes = [
        (
            f"Of {len(labels)} of the {len(reading.run.test_labels)} rows, thinned out per class"
            if len(labels) < len(reading.run.test_labels)
            else f"Of all {len(labels)} test rows"
        )
        + f"; the raw features are {reading.problem.target.encoder}'s, the projection is what heads read, "
        "the logits are the head's outputs.",
        "Silhouette: −1 to 1, larger is better, 0 for classes that overlap altogether. Davies–Bouldin: "
        "smaller is better. Neither changes when a space is scaled, so methods compare within one "
        "space, but not between spaces of different width. Logits are trained to tell the classes apart, the "
        "raw features are not.",
    ]
    return Finding(
        analysis="silhouette",
        title=TITLE,
        paper=PAPER,
        auxiliaries=reading.auxiliaries,
        said=_said(reading, records),
        notes=notes,
        tables=[_table(reading, records)],
        values={"rows": len(labels), "spaces": records},
        caption=(
            "Silhouette (left, larger is better) and Davies–Bouldin index (right, smaller is better) of the "
            f"true classes, {len(labels)} test rows, mean over {seeds_text(reading)}, bars: standard "
            "deviation. Filled: logits; hollow: projection; dotted line: raw features, which no method "
            "changes."
        ),
    )


def figure(finding: Finding) -> Figure | None:
    """Both scores against the shots, of the methods without controls."""
    records = finding.values["spaces"]
    raw, others = records[0], [r for r in records[1:] if "[" not in r["method"]]
    names = list(dict.fromkeys(r["method"] for r in others))
    shots = list(dict.fromkeys(r["shots"] for r in others))
    with style():
        drawing, first = canvas(8.6, 3.7)
        first.remove()
        for ax, score, title in zip(
            drawing.subplots(1, 2),
            ("silhouette", "davies_bouldin"),
            ("silhouette", "Davies–Bouldin index"),
            strict=True,
        ):
            for i, name in enumerate(names):
                colour, marker, _ = arm_style((name, None))
                for space, face, line in ((_LOGITS, colour, "-"), (_SHARED, "none", "--")):
                    values = [_of(others, name, k, space, score) for k in shots]
                    points = [(x, v) for x, v in enumerate(values) if v]
                    if points:
                        ax.errorbar(
                            [x + 0.07 * (i - (len(names) - 1) / 2) for x, _ in points],
                            [np.mean(v) for _, v in points],
                            yerr=[np.std(v, ddof=1) if len(v) > 1 else 0.0 for _, v in points],
                            color=colour, marker=marker, markerfacecolor=face, linestyle=line,
                            linewidth=1.2, markersize=5, elinewidth=0.9, capsize=2,
                            label=f"{name}, {space}",
                        )  # fmt: skip
            ax.axhline(
                np.nan if raw[score] is None else raw[score],
                color=INK,
                linestyle=":",
                linewidth=1.2,
                label=_RAW,
            )
            ax.set_xticks(range(len(shots)), [str(k) for k in shots])
            ax.set_xlabel("labelled samples per class")
            ax.set_ylabel(title)
            ax.grid(axis="y", color=GREY, alpha=0.25, linewidth=0.6)
            ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=7.5, loc="center left", bbox_to_anchor=(1.0, 0.5))
        seeds = len({r["seed"] for r in others})
        drawing.suptitle(
            f"True classes as clusters (n = {finding.values['rows']} test rows, {seeds} seeds)", fontsize=10
        )
        drawing.tight_layout()
        return drawing


def _both(features: NDArray[Any], labels: NDArray[np.integer]) -> dict[str, float | None]:
    return {
        "silhouette": finite(silhouette(features, labels).mean()),
        "davies_bouldin": finite(davies_bouldin(features, labels)),
    }


def _of(records: list[dict[str, Any]], name: str, shots: Any, space: str, score: str) -> list[float]:
    same = (name, shots, space)
    found = [r[score] for r in records if (r["method"], r["shots"], r["space"]) == same]
    return [value for value in found if value is not None]


def _table(reading: Reading, records: list[dict[str, Any]]) -> Table:
    raw = records[0]
    scores = [mean_std_text([v for v in [raw[k]] if v is not None], d) for k, d in _SCORES]
    rows = [["–", "–", _RAW, *scores]]
    for arm in reading.arms:
        for k in reading.shots:
            for space in (_SHARED, _LOGITS):
                name = arm_name(arm)
                if values := _of(records, name, k, space, "silhouette"):
                    index = _of(records, name, k, space, "davies_bouldin")
                    rows.append([name, str(k), space, mean_std_text(values, 3), mean_std_text(index)])
    head = ["method", "k", "space", "silhouette", "Davies–Bouldin"]
    return Table(caption="Test rows, mean ± standard deviation over seeds", head=head, rows=rows)


def _said(reading: Reading, records: list[dict[str, Any]]) -> list[str]:
    raw = records[0]
    scores = [mean_std_text([v for v in [raw[k]] if v is not None], d) for k, d in _SCORES]
    said = [f"The raw features have a silhouette of {scores[0]} and a Davies–Bouldin index of {scores[1]}."]
    for space in (_SHARED, _LOGITS):
        parts = []
        for k in reading.shots:
            deep = _of(records, "unimodal-deep", k, space, "silhouette")
            uml = _of(records, "uml", k, space, "silhouette")
            if deep and len(deep) == len(uml):
                parts.append(f"{mean_std_text(np.subtract(uml, deep).tolist(), 3)} at {shots_name(k)}")
        if parts:
            said.append(
                f"Silhouette of the {space}, uml − unimodal-deep, paired by seed: {', '.join(parts)}."
            )
    return said
