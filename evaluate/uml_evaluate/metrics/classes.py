"""Where a classifier is right and wrong: its confusion matrix, and precision, recall and F1 of every class.

Shapes: C classes.

Counts are those of all seeds together: each seed has the same test rows. Predictions are enough, so that runs
of every version have them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from uml_evaluate.comparing.comparison import Comparison
from uml_evaluate.comparing.rows import TRAINED_ON_DATA, Arm, arm_name
from uml_evaluate.comparing.shown.tables import WIDTH, plain_table, shots_name, wide_table
from uml_evaluate.metrics.values import checked_predictions

if TYPE_CHECKING:
    from uml_train import CellResult, Run, Shots

_MATRIX = 12  # classes up to which a matrix fits the terminal
_MISTAKES = 15


@dataclass(frozen=True, eq=False)
class Confusion:
    """How often rows of each class were taken for which, by one method at one number of shots.

    `counts` is (C, C) int64: true classes down, predicted ones across, all `seeds` together.
    """

    arm: Arm
    shots: Shots
    seeds: int
    classes: tuple[str, ...]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, run: Run, results: Sequence[CellResult]) -> Confusion:
        """Of the cells of one method at one number of shots. Raises `InputError` for damaged files."""
        classes = tuple(run.config["classes"])
        counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
        for result in results:
            np.add.at(counts, (run.test_labels, checked_predictions(run, result)), 1)
        cell = results[0].cell
        return cls((cell.method, cell.control), cell.shots, len(results), classes, counts)

    @property
    def rows(self) -> NDArray[np.int64]:
        """(C,) test rows of each class."""
        return self.counts.sum(1) // self.seeds

    @property
    def recall(self) -> NDArray[np.float64]:
        """(C,) share of a class's rows that is found, in percent; nan for a class without rows."""
        return _percent(np.diag(self.counts), self.counts.sum(1))

    @property
    def precision(self) -> NDArray[np.float64]:
        """(C,) share that is right of the rows taken for a class, in percent; nan where none was."""
        return _percent(np.diag(self.counts), self.counts.sum(0))

    @property
    def f1(self) -> NDArray[np.float64]:
        """(C,) in percent; nan for a class without rows that none was taken for."""
        return _percent(2 * np.diag(self.counts), self.counts.sum(0) + self.counts.sum(1))

    def mistakes(self) -> list[tuple[str, str, int, float]]:
        """True class, the class it was taken for, how often and in percent of its rows; the most first."""
        wrong = self.counts * (1 - np.eye(len(self.classes), dtype=np.int64))
        order = np.argsort(-wrong, axis=None, kind="stable")[: np.count_nonzero(wrong)]
        found = zip(*np.unravel_index(order, wrong.shape), strict=True)
        total = self.counts.sum(1)
        return [
            (self.classes[t], self.classes[p], int(wrong[t, p]), 100.0 * float(wrong[t, p] / total[t]))
            for t, p in found
        ]


def _percent(part: NDArray[np.integer], whole: NDArray[np.integer]) -> NDArray[np.float64]:
    return np.where(whole > 0, 100.0 * part / np.maximum(whole, 1), np.nan)


@dataclass(frozen=True, eq=False)
class ClassTables:
    """The confusion matrices of a comparison, controls aside, in the order of its table."""

    comparison: Comparison
    found: list[Confusion]

    @classmethod
    def of(cls, run: Run, comparison: Comparison) -> ClassTables:
        """Raises `InputError` for damaged files."""
        found = [
            Confusion.of(run, results)
            for k in comparison.shots
            for arm in comparison.arms
            if arm[1] is None and (results := comparison.results(arm, k))
        ]
        return cls(comparison, found)

    def per_class_json(self) -> list[dict[str, Any]]:
        """One entry per method, shots and class."""
        return [
            {
                **self._about(one),
                "class": name,
                "rows": int(one.rows[c]),
                "recall": _number(one.recall[c]),
                "precision": _number(one.precision[c]),
                "f1": _number(one.f1[c]),
            }
            for one in self.found
            for c, name in enumerate(one.classes)
        ]

    def confusion_json(self) -> list[dict[str, Any]]:
        """One entry per method and shots: `counts[true][predicted]`."""
        return [
            {**self._about(one), "classes": list(one.classes), "counts": one.counts.tolist()}
            for one in self.found
        ]

    def _about(self, one: Confusion) -> dict[str, Any]:
        return {
            "dataset": self.comparison.dataset,
            "target": self.comparison.target,
            "auxiliaries": list(self.comparison.auxiliaries),
            "method": one.arm[0],
            "shots": one.shots,
            "seeds": one.seeds,
        }

    def per_class_text(self) -> str:
        """For every number of shots: the classes, and what share of their rows each method finds."""
        parts = []
        for k in self.comparison.shots:
            here = [one for one in self.found if one.shots == k]
            title = (
                f"{self.comparison.title}, {shots_name(k)}: share of each class's test rows that is found in "
                "%, all seeds together (--json: precision and F1, too)"
            )
            names = ["rows", *(arm_name(one.arm) for one in here)]
            parts.append(f"{fill(title, WIDTH)}\n\n{wide_table('class', names, per_class_rows(here))}")
        return "\n\n\n".join(parts)

    def confusion_text(self) -> str:
        """The matrices of the method that trains on the data and of its baseline, or their mistakes."""
        return "\n\n\n".join(
            _confusion_text(f"{self.comparison.title}, {shots_name(one.shots)}, {arm_name(one.arm)}", one)
            for one in self.main()
        )

    def main(self) -> list[Confusion]:
        """Those of the baseline and of `uml` (or `uml-init`); of all methods where none trains on data."""
        methods = {one.arm[0] for one in self.found}
        data = next((method for method in TRAINED_ON_DATA if method in methods), None)
        return [one for one in self.found if data is None or one.arm[0] in (self.comparison.baseline, data)]


def per_class_rows(found: Sequence[Confusion]) -> list[list[str]]:
    """A line per class: its name, its test rows, and every method's recall."""
    return [
        [name, str(int(found[0].rows[c])), *(_text(one.recall[c]) for one in found)]
        for c, name in enumerate(found[0].classes)
    ]


def _confusion_text(title: str, one: Confusion) -> str:
    if len(one.classes) <= _MATRIX:
        what = "true classes down, predicted across, % of the class's test rows"
        shares = 100.0 * one.counts / np.maximum(one.counts.sum(1, keepdims=True), 1)
        rows = [
            [name, *(f"{share:.0f}" if share else "·" for share in shares[c])]
            for c, name in enumerate(one.classes)
        ]
        table = wide_table("true", list(one.classes), rows)
    else:
        what = f"the most frequent mistakes, all {one.seeds} seeds together (--json: the whole matrix)"
        table = plain_table(["true", "taken for", "times", "% of its rows"], mistake_rows(one))
    return f"{fill(f'{title}: {what}', WIDTH)}\n\n{table}"


def mistake_rows(one: Confusion) -> list[list[str]]:
    """Lines of the most frequent mistakes."""
    return [[t, p, str(n), f"{share:.0f}"] for t, p, n, share in one.mistakes()[:_MISTAKES]]


def _text(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.0f}"


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
