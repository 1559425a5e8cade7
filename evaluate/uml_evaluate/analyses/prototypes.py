"""Do head rows look like texts that nobody trained on? (paper F.3)

Shapes: C classes, W shared width, n held-out texts, P permutations.

A head's rows are the class prototypes in the space of the first auxiliary. They are compared with the mean
embedding of each class's texts **that the model did not see**; with texts that it did see the comparison
would only say that training worked. The paper shows inner products with the classes' mean texts, without
saying that training did not see them (its Figure 47).

Diagonal dominance is the mean cosine on the diagonal minus the mean cosine off it, both sides centred over
the classes first, because all texts share most of their direction. Its chance level comes from permuting
which text belongs to which class. Beside it stands how often a class's own texts are nearest, 1/C by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from uml_evaluate.analyses.finding import Finding, NotPossible, Table
from uml_evaluate.analyses.reading import Reading, cell_fields, class_means, mean_std_text, seeds_text
from uml_evaluate.comparing.shown.figures import canvas, style
from uml_evaluate.comparing.shown.tables import shots_name
from uml_train import LINEAR

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from uml_train import CellResult

VERSION = 2
TITLE = "Class prototypes and held-out texts"
PAPER = "F.3"
_PERMUTATIONS = 2000
_NAMED = 24  # more class names than this on an axis are not readable


@dataclass(frozen=True)
class Dominance:
    """How far a (C, C) table of cosines is dominated by its diagonal.

    `value` is the mean on the diagonal minus the mean off it; `chance` is the value that 95 % of the
    permutations of the columns stay below (they average 0 up to 1/C); `nearest` the share of rows whose
    largest entry is on the diagonal, 1/C by chance.
    """

    value: float
    chance: float
    nearest: float


def cosines(prototypes: NDArray[Any], means: NDArray[Any], *, centred: bool = True) -> NDArray[np.float64]:
    """(C, C) cosines of prototypes (C, W), down, and class means (C, W), across; of any floating type."""
    a, b = np.asarray(prototypes, dtype=np.float64), np.asarray(means, dtype=np.float64)
    if centred:
        a, b = a - a.mean(0), b - b.mean(0)
    a = a / np.maximum(np.linalg.norm(a, axis=1, keepdims=True), 1e-30)
    b = b / np.maximum(np.linalg.norm(b, axis=1, keepdims=True), 1e-30)
    return a @ b.T


def dominance(
    table: NDArray[np.float64], rng: np.random.Generator, permutations: int = _PERMUTATIONS
) -> Dominance:
    """Diagonal dominance of a (C, C) table, C ≥ 2."""
    classes = len(table)

    def value(diagonal: float) -> float:
        return diagonal / classes - (table.sum() - diagonal) / (classes * (classes - 1))

    shuffled = [
        value(float(table[np.arange(classes), rng.permutation(classes)].sum())) for _ in range(permutations)
    ]
    nearest = float((table.argmax(1) == np.arange(classes)).mean())
    return Dominance(value(float(np.trace(table))), float(np.quantile(shuffled, 0.95)), nearest)


def analyse(reading: Reading) -> Finding:
    """Prototypes of every cell with a shared space, against texts held out from all of training.

    Raises:
        NotPossible: there is no auxiliary, or none of its samples is held out.
    """
    if not reading.auxiliaries:
        raise NotPossible(
            f"{reading.run.path} has no auxiliary, so there are no texts to compare prototypes with"
        )
    label = reading.auxiliaries[0]
    source = reading.problem.auxiliaries[label]
    cells = [r for r in reading.cells if r.cell.method not in LINEAR]
    plain = reading.choice("prototypes") == "inner-products"
    rows_of = reading.texts if plain else partial(_held_out, reading)
    held = {r.cell.seed: rows_of(r, label) for r in cells}
    counts = {s: np.bincount(source.labels[rows], minlength=len(reading.classes)) for s, rows in held.items()}
    there = np.all([c > 0 for c in counts.values()], axis=0) if counts else np.zeros(0, bool)
    if there.sum() < 2:
        raise NotPossible(
            f"training used every {label} sample of {reading.run.path} (--texts "
            f"{reading.run.settings.texts}), so that none is held out; train with --texts N, N below the "
            "number of samples per class, which leaves the others out, or see the paper's inner products "
            "with all of them: --protocol paper"
        )
    present = np.flatnonzero(there)
    records, tables = [], []
    for result in cells:
        rows = held[result.cell.seed]
        rows = rows[np.isin(source.labels[rows], present)]
        texts = reading.auxiliary_space(result, label, rows)
        assert texts is not None  # the first auxiliary always reaches the head
        means = class_means(texts, source.labels[rows], len(reading.classes))[present]
        prototypes = reading.shared(result).rows[present]
        table = prototypes.astype(np.float64) @ means.T if plain else cosines(prototypes, means)
        found = dominance(table, np.random.default_rng(0))
        tables.append(table)
        records.append(
            {
                **cell_fields(result),
                "dominance": found.value,
                "chance_95": found.chance,
                "nearest_percent": 100.0 * found.nearest,
            }
        )
    left_out = [reading.classes[c] for c in np.flatnonzero(~there)]
    per_class = np.mean([c[present].mean() for c in counts.values()])
    arrays = _heatmaps(reading, records, tables)
    return Finding(
        analysis="prototypes",
        title=TITLE,
        paper=PAPER,
        auxiliaries=reading.auxiliaries,
        said=_said(reading, records, len(present)),
        notes=_notes(reading, label, float(per_class), len(present), left_out, plain),
        tables=[_table(reading, records)],
        values={
            "cells": records,
            "classes": [reading.classes[c] for c in present],
            "held_out_per_class": float(per_class),
            "label": label,
            "reading": reading.choice("prototypes"),
        },
        arrays=arrays,
        caption=(
            f"Inner products of head rows (down) and the mean {label} embedding of every class (across), of "
            f"texts that trained, at {shots_name(reading.shots[-1])}, mean over {seeds_text(reading)}."
            if plain
            else f"Cosines of head rows (down) and mean held-out {label} embeddings (across), both centred "
            f"over the {len(present)} classes, at {shots_name(reading.shots[-1])}, mean over "
            f"{seeds_text(reading)}."
        ),
    )


def _notes(
    reading: Reading, label: str, per_class: float, classes: int, left_out: Sequence[str], plain: bool
) -> list[str]:
    """How the numbers came about."""
    if plain:
        return [
            f"Figure 44: plain inner products of the head's rows with the class means of {label}, those that "
            "trained, not centred and not scaled. All texts share most of their direction, and training has "
            "seen them: --protocol fair compares with texts that training did not see.",
            "Dominance: mean inner product on the diagonal minus the mean off it, in units of embeddings; "
            "chance is the value that 95 % of 2,000 permutations of the classes stay below.",
        ]
    notes = [
        f"Prototypes are the head's rows. Held out: on average {per_class:.1f} {label} samples per class "
        f"that no model of the seed was trained on (--texts {reading.run.settings.texts}).",
        "Dominance: mean cosine on the diagonal minus mean cosine off it, rows and columns centred over the "
        "classes; chance is the value that 95 % of 2,000 permutations of the classes stay below. Nearest: "
        f"how often a prototype is closest to its own class's texts, {100 / classes:.1f} % by chance.",
        "init-only starts from the class means of the training texts and is not moved by texts afterwards; "
        "unimodal-deep never saw a text and should be at chance.",
    ]
    if left_out:
        notes.append(
            f"Without held-out samples and left out: {', '.join(left_out[:12])} ({len(left_out)} classes)."
        )
    return notes


def figure(finding: Finding) -> Figure | None:
    """A heatmap per method at the largest number of shots, on one scale."""
    names = [k.removeprefix("map ") for k in finding.arrays if "[" not in k]
    maps = {n: finding.arrays[f"map {n}"] for n in names}
    limit = max(float(np.abs(m).max()) for m in maps.values())
    classes = finding.values["classes"]
    plain = finding.values.get("reading") == "inner-products"
    with style():
        drawing, first = canvas(2.6 * len(maps) + 1.6, 3.4)
        first.remove()
        drawing.set_layout_engine("constrained")
        axes = drawing.subplots(1, len(maps), squeeze=False, sharey=True)[0]
        for ax, (name, table) in zip(axes, maps.items(), strict=True):
            image = ax.imshow(table, vmin=-limit, vmax=limit, cmap="PuOr_r", interpolation="nearest")
            ax.set_title(name, fontsize=9)
            if len(classes) <= _NAMED:
                ax.set_xticks(range(len(classes)), classes, rotation=90, fontsize=6.5)
                ax.set_yticks(range(len(classes)), classes, fontsize=6.5)
            ax.set_xlabel(f"{'' if plain else 'held-out '}{finding.values['label']}, by class")
        axes[0].set_ylabel("head rows, by class")
        bar = drawing.colorbar(image, ax=list(axes), shrink=0.8)
        bar.set_label("inner product" if plain else "centred cosine")
        seeds = len({c["seed"] for c in finding.values["cells"]})
        drawing.suptitle(f"Prototypes (n = {len(classes)} classes, {seeds} seeds)", fontsize=10)
        return drawing


def _held_out(reading: Reading, result: CellResult, label: str) -> NDArray[np.int64]:
    rows = np.arange(len(reading.problem.auxiliaries[label].rows))
    return np.setdiff1d(rows, reading.texts(result, label))


def _heatmaps(
    reading: Reading, records: list[dict[str, Any]], tables: list[NDArray[np.float64]]
) -> dict[str, NDArray[np.float64]]:
    maps = {}
    for name in dict.fromkeys(r["method"] for r in records):
        rows = [
            t
            for r, t in zip(records, tables, strict=True)
            if (r["method"], r["shots"]) == (name, reading.shots[-1])
        ]
        if rows:
            maps[f"map {name}"] = np.mean(rows, axis=0)
    return maps


def _of(records: list[dict[str, Any]], name: str, shots: Any, value: str) -> list[float]:
    return [r[value] for r in records if (r["method"], r["shots"]) == (name, shots)]


def _table(reading: Reading, records: list[dict[str, Any]]) -> Table:
    rows = []
    for name in dict.fromkeys(r["method"] for r in records):
        for k in reading.shots:
            if values := _of(records, name, k, "dominance"):
                chance = float(np.mean(_of(records, name, k, "chance_95")))
                nearest = mean_std_text(_of(records, name, k, "nearest_percent"), 1)
                rows.append([name, str(k), mean_std_text(values, 3), f"{chance:.3f}", nearest])
    head = ["method", "k", "dominance", "chance (95 %)", "nearest is its own (%)"]
    return Table(caption="Diagonal dominance, mean ± standard deviation over seeds", head=head, rows=rows)


def _said(reading: Reading, records: list[dict[str, Any]], classes: int) -> list[str]:
    said = []
    k = reading.shots[-1]
    for name in dict.fromkeys(r["method"] for r in records):
        values = _of(records, name, k, "dominance")
        if values:
            beyond = sum(v > c for v, c in zip(values, _of(records, name, k, "chance_95"), strict=True))
            nearest = float(np.mean(_of(records, name, k, "nearest_percent")))
            said.append(
                f"{name}: dominance {mean_std_text(values, 3)} at {shots_name(k)}, above chance in {beyond} "
                f"of {len(values)} seeds; {nearest:.0f} % of the prototypes are nearest to their own class "
                f"({100 / classes:.0f} % by chance)."
            )
    return said
