"""How alike two unpaired modalities are, before and after training.

Shapes: C classes, n rows, D features or W shared width, K neighbours.

No sample of one modality belongs to one of the other. What can be laid side by side are the **class means**:
CKA and mutual neighbours here are over C points, not over samples.

The paper says that training aligns the modalities (section 4.2) and shows it by head rows against mean texts
(F.3) and by neurons whose activations correlate over paired clips (4.5, F.1). These measures are ours; they
need no pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from uml_evaluate.analyses.alignment import gradient_course
from uml_evaluate.analyses.alignment.alignment_measures import (
    effective_rank,
    head_gradient,
    linear_cka,
    modality_gap,
    mutual_knn,
    separability,
)
from uml_evaluate.analyses.finding import Finding, NotPossible, Table
from uml_evaluate.analyses.reading import (
    Reading,
    cell_fields,
    class_means,
    mean_std_text,
    seeds_text,
    stratified,
)
from uml_evaluate.comparing.shown.figures import GREY, INK, arm_style, canvas, style
from uml_evaluate.comparing.shown.tables import shots_name
from uml_train import LINEAR

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from uml_train import CellResult

VERSION = 2
TITLE = "Alignment between modalities"
PAPER = "4.2"
_ROWS = 1_000  # of each modality, for effective rank, separability and gap
_GRADIENT_ROWS = 4_000  # of each modality
_OF_CLASSES = (
    ("cka", "CKA", 2),
    ("cka_debiased", "CKA, debiased", 2),
    ("mutual_knn", "mutual neighbours", 2),
    ("gradient_cosine", "gradient cosine", 2),
)
_OF_ROWS = (
    ("separability", "separability (%)", 1),
    ("gap", "gap", 2),
    ("rank_target", "rank, target", 1),
    ("rank_auxiliary", "rank, auxiliary", 1),
)


def analyse(reading: Reading) -> Finding:
    """How target and first auxiliary lie to each other, in their raw features and in every shared space.

    Raises:
        NotPossible: the run has one modality only, too few common classes, or no shared space.
    """
    if not reading.auxiliaries:
        raise NotPossible(f"{reading.run.path} has one modality only; alignment takes two")
    label = reading.auxiliaries[0]
    source = reading.problem.auxiliaries[label]
    features, labels = reading.test
    classes = len(reading.classes)
    theirs = np.arange(len(source.rows))
    present = np.intersect1d(np.unique(labels), np.unique(source.labels))
    if len(present) < 4:
        raise NotPossible(
            f"alignment over class means takes 4 classes that both modalities have, not {len(present)}"
        )
    neighbours = max(1, min(10, (len(present) - 1) // 4))
    rng = np.random.default_rng(0)
    few, their_few = (stratified(v, _ROWS, rng) for v in (labels, source.labels))
    records: list[dict[str, Any]] = []
    raw = source.values(theirs).numpy()
    our_means, their_means = (
        class_means(v, c, classes)[present] for v, c in ((features, labels), (raw, source.labels))
    )
    before = {
        **_of_means(our_means, their_means, neighbours),
        "rank_target": effective_rank(features[few]),
        "rank_auxiliary": effective_rank(raw[their_few]),
    }
    ranks: dict[bytes, float] = {}  # the first auxiliary reaches the head as it is, the same in every cell
    for result in reading.cells:
        if result.cell.method in LINEAR:
            continue
        texts = reading.auxiliary_space(result, label, theirs)
        assert texts is not None  # the first auxiliary always reaches the head
        some = texts[their_few]
        if (same := some.tobytes()) not in ranks:
            ranks[same] = effective_rank(some)
        ours = reading.target_space(result, features)
        our_means, their_means = (
            class_means(v, c, classes)[present] for v, c in ((ours, labels), (texts, source.labels))
        )
        records.append(
            {
                **cell_fields(result),
                **_of_means(our_means, their_means, neighbours),
                "rank_target": effective_rank(ours[few]),
                "rank_auxiliary": ranks[same],
                "separability": separability(ours[few], some),
                "gap": modality_gap(ours[few], some),
                "gradient_cosine": _gradient_cosine(reading, result, label),
            }
        )
    if not records:
        raise NotPossible(f"{reading.run.path} has no method with a shared space, only unimodal")
    chance = neighbours / (len(present) - 1)
    courses = gradient_course.courses_of(reading, label)
    return Finding(
        analysis="alignment",
        title=TITLE,
        paper=PAPER,
        auxiliaries=reading.auxiliaries,
        said=_said(reading, before, records, chance),
        notes=_notes(reading, label, len(present), neighbours, len(few), len(their_few), bool(courses)),
        tables=[*_tables(reading, before, records), *gradient_course.course_table(reading, courses)],
        values={
            "raw": before, "cells": records, "courses": courses, "classes": len(present),
            "neighbours": neighbours, "mutual_knn_chance": chance, "label": label,
            "rows": [len(few), len(their_few)],
        },
        caption=(
            f"Target and {label} in the shared space, mean over {seeds_text(reading)}, bars: standard "
            "deviation; dotted: the encoders' raw features; dashed: chance."
        ),
    )  # fmt: skip


def _notes(
    reading: Reading, label: str, classes: int, neighbours: int, few: int, their_few: int, has_courses: bool
) -> list[str]:
    """How the numbers came about."""
    source, chance = reading.problem.auxiliaries[label], neighbours / (classes - 1)
    return [
        f"CKA and mutual neighbours are over the means of {classes} classes, because the modalities "
        f"are unpaired: {reading.problem.target.label} means of the test rows, {label} means of all its "
        f"{len(source.rows)} rows (which training used). Mutual neighbours: share of the {neighbours} "
        f"nearest by cosine, {chance:.2f} by chance. Biased CKA is high for few points in wide spaces "
        "whatever they are; the debiased one is about 0 for unrelated data.",
        f"Effective rank and separability are of {few} and {their_few} rows. Separability: "
        "balanced accuracy in % of a linear probe that tells the modalities apart in the shared space, "
        "50 by chance.",
        "Gradient cosine: between the losses of target and auxiliary with respect to the shared head, "
        f"over a cell's training rows (at most {_GRADIENT_ROWS} of each), at the selected step. "
        + gradient_course.NOTES[has_courses],
        "Only uml can turn its projection of the target towards the texts; unimodal-deep never saw one.",
    ]


def figure(finding: Finding) -> Figure | None:
    """Debiased CKA, mutual neighbours, separability and gradient cosine, against the shots.

    Where the run recorded it also the course of the cosine over training, at the most shots.
    """
    values = finding.values
    cells = [c for c in values["cells"] if gradient_course.is_drawn(c["method"])]
    names = list(dict.fromkeys(c["method"] for c in cells))
    shots = list(dict.fromkeys(c["shots"] for c in cells))
    chance = {
        "cka_debiased": 0.0,
        "mutual_knn": values["mutual_knn_chance"],
        "separability": 50.0,
        "gradient_cosine": 0.0,
    }
    titles = {name: title for name, title, _ in (*_OF_CLASSES, *_OF_ROWS)}
    with style():
        columns = 3 if values["courses"] else 2
        drawing, first = canvas(4.3 * columns, 5.6)
        first.remove()
        grid = drawing.add_gridspec(2, columns)
        if values["courses"]:
            gradient_course.draw_course(drawing.add_subplot(grid[0, 2]), values["courses"], shots[-1])
        for place, measure in zip([(0, 0), (0, 1), (1, 0), (1, 1)], chance, strict=True):
            ax = drawing.add_subplot(grid[place])
            for i, name in enumerate(names):
                method, _, control = name.partition("[")
                colour, marker, line = arm_style((method, control.rstrip("]") or None))
                found = [[c[measure] for c in cells if (c["method"], c["shots"]) == (name, k)] for k in shots]
                found = [[v for v in part if v is not None] for part in found]
                points = [(x, part) for x, part in enumerate(found) if part]
                ax.errorbar(
                    [x + 0.06 * (i - (len(names) - 1) / 2) for x, _ in points],
                    [np.mean(p) for _, p in points],
                    yerr=[np.std(p, ddof=1) if len(p) > 1 else 0.0 for _, p in points],
                    color=colour, marker=marker, linestyle=line, label=name, linewidth=1.3, markersize=4.5,
                    elinewidth=0.9, capsize=2,
                )  # fmt: skip
            if measure in values["raw"]:
                ax.axhline(
                    values["raw"][measure], color=INK, linestyle=":", linewidth=1.2, label="raw features"
                )
            ax.axhline(chance[measure], color=GREY, linestyle="--", linewidth=1.0, label="chance")
            ax.set_xticks(range(len(shots)), [str(k) for k in shots])
            ax.set_xlabel("labelled samples per class")
            ax.set_ylabel(titles[measure])
            ax.spines[["top", "right"]].set_visible(False)
        handles, labels = ax.get_legend_handles_labels()
        if not any(line.get_label() == "raw features" for line in ax.lines):
            handles, labels = drawing.axes[-4].get_legend_handles_labels()
        at, edge = ((0.7, 0.28), 1.0) if values["courses"] else ((0.84, 0.5), 0.84)
        drawing.tight_layout(rect=(0, 0, edge, 0.96))
        drawing.legend(handles, labels, frameon=False, fontsize=8, loc="center left", bbox_to_anchor=at)
        seeds = len({c["seed"] for c in cells})
        drawing.suptitle(
            f"Target and {values['label']} (n = {values['classes']} classes, {seeds} seeds)", fontsize=10
        )
        return drawing


def _of_means(x: NDArray[Any], y: NDArray[Any], neighbours: int) -> dict[str, float | None]:
    found = {
        "cka": linear_cka(x, y),
        "cka_debiased": linear_cka(x, y, debiased=True),
        "mutual_knn": mutual_knn(x, y, neighbours),
    }
    return {name: value if np.isfinite(value) else None for name, value in found.items()}


def _gradient_cosine(reading: Reading, result: CellResult, label: str) -> float | None:
    """Cosine of the two losses' gradients with respect to the head's rows (C, W)."""
    head = reading.shared(result)
    target, source = reading.problem.target, reading.problem.auxiliaries[label]
    rng = np.random.default_rng(0)
    drawn, texts = (
        rows[stratified(of.labels[rows], _GRADIENT_ROWS, rng)]
        for of, rows in ((target, reading.draw(result)), (source, reading.texts(result, label)))
    )
    spaces = [
        reading.target_space(result, target.values(drawn).numpy()),
        reading.auxiliary_space(result, label, texts),
    ]
    gradients = []
    for space, labels in zip(spaces, (target.labels[drawn], source.labels[texts]), strict=True):
        assert space is not None
        gradients.append(head_gradient(space, labels, head.rows, head.scale).ravel())
    size = float(np.linalg.norm(gradients[0]) * np.linalg.norm(gradients[1]))
    return float(gradients[0] @ gradients[1]) / size if size > 0 else None


def _tables(reading: Reading, before: dict[str, Any], records: list[dict[str, Any]]) -> list[Table]:
    return [
        _table(reading, before, records, "Over class means", _OF_CLASSES),
        _table(reading, before, records, "Over rows", _OF_ROWS),
    ]


def _table(
    reading: Reading,
    before: dict[str, Any],
    records: list[dict[str, Any]],
    what: str,
    measures: Sequence[tuple[str, str, int]],
) -> Table:
    raw = [mean_std_text([before[m]] if before.get(m) is not None else [], d) for m, _, d in measures]
    rows = [["raw features", "–", *raw]]
    for name in dict.fromkeys(r["method"] for r in records):
        for k in reading.shots:
            mine = [r for r in records if (r["method"], r["shots"]) == (name, k)]
            if mine:
                cells = [mean_std_text([r[m] for r in mine if r[m] is not None], d) for m, _, d in measures]
                rows.append([name, str(k), *cells])
    caption = f"{what} in the shared space, mean ± standard deviation over seeds"
    return Table(caption=caption, head=["method", "k", *(title for _, title, _ in measures)], rows=rows)


def _said(
    reading: Reading, before: dict[str, Any], records: list[dict[str, Any]], chance: float
) -> list[str]:
    k = reading.shots[-1]

    def of(name: str, measure: str) -> str:
        values = [
            r[measure] for r in records if (r["method"], r["shots"]) == (name, k) and r[measure] is not None
        ]
        return mean_std_text(values)

    names = [n for n in ("unimodal-deep", "uml") if any(r["method"] == n for r in records)]
    raw = mean_std_text([v for v in [before["cka_debiased"]] if v is not None])
    said = [
        f"Before training, over class means: debiased CKA {raw}, mutual neighbours "
        f"{before['mutual_knn']:.2f} (chance {chance:.2f})."
    ]
    said += [
        f"In the shared space of {name} at {shots_name(k)}: debiased CKA {of(name, 'cka_debiased')}, mutual "
        f"neighbours {of(name, 'mutual_knn')}; a linear probe tells the modalities apart with "
        f"{of(name, 'separability')} %."
        for name in names
    ]
    return said
