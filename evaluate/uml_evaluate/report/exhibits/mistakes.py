"""What was taken for what, with and without the unpaired data: a picture of both matrices, and samples.

Shapes: N test rows, S seeds, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from uml_evaluate.comparing.rows import Arm, arm_name
from uml_evaluate.comparing.shown.figures import INK, new_figure, style
from uml_evaluate.metrics.classes import Confusion
from uml_evaluate.metrics.values import checked_predictions
from uml_evaluate.report.exhibits.samples import Samples, Shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from uml_evaluate.comparing.comparison import Comparison
    from uml_train import Run, Shots

MOST_CLASSES = 200
"""Above it a matrix on a page is grey."""
_NAMED = 30  # classes that have their names at the axes
_EACH = 8


@dataclass(frozen=True)
class Card:
    """A sample with its class, and what each side took it for."""

    shown: Shown | None
    truth: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """Samples of one fate: how many there are, and some of them."""

    title: str
    cards: list[Card]


def confusion_figure(run: Run, comparison: Comparison, pair: tuple[Arm, Arm], shots: Shots) -> Figure | None:
    """Both confusion matrices in percent of each class's test rows; None where there are too many classes."""
    found = [Confusion.of(run, comparison.results(arm, shots)) for arm in (pair[1], pair[0])]
    classes = found[0].classes
    if len(classes) > MOST_CLASSES:
        return None
    with style():
        named = len(classes) <= _NAMED
        side = max(2.6, 0.2 * len(classes)) if named else 4.2
        figure = new_figure(2 * side + (2.4 if named else 0.8), side + (1.6 if named else 0.8))
        both = figure.subplots(1, 2, sharey=True)
        for axes, one, what in zip(both, found, ("without", "with"), strict=True):
            shares = 100.0 * one.counts / np.maximum(one.counts.sum(1, keepdims=True), 1)
            image = axes.imshow(shares, cmap="viridis", vmin=0, vmax=100)
            axes.set_title(f"{what} unpaired data ({arm_name(one.arm)})", fontsize=9.5)
            axes.set_xlabel("taken for")
            if named:
                axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=8)
                axes.set_yticks(range(len(classes)), classes, fontsize=8)
            else:
                axes.set_xticks([])
                axes.set_yticks([])
        both[0].set_ylabel("true class")
        bar = figure.colorbar(image, ax=list(both), shrink=0.8, pad=0.02)
        bar.set_label("% of the class's test rows", color=INK)
        return figure


def groups(
    run: Run, comparison: Comparison, pair: tuple[Arm, Arm], shots: Shots, samples: Samples
) -> list[Group]:
    """Test samples that are right more often with the data, more often without it, and never."""
    sides = [
        np.stack([checked_predictions(run, one) for one in comparison.results(arm, shots)]) for arm in pair
    ]
    truth = run.test_labels
    right_n = [(side == truth).mean(0) for side in sides]
    gain = right_n[0] - right_n[1]
    never = (right_n[0] == 0) & (right_n[1] == 0)
    order = np.argsort(-gain, kind="stable")
    better, worse = order[gain[order] > 0], order[::-1][gain[order[::-1]] < 0]
    wrong = np.flatnonzero(never)
    wrong = wrong[np.linspace(0, len(wrong) - 1, min(_EACH, len(wrong))).astype(int)]  # from all classes
    found = [
        (f"Right more often with the unpaired data: {len(better):,} of {len(truth):,} test samples", better),
        (f"Right more often without it: {len(worse):,}", worse),
        (f"Never right, neither with nor without: {int(never.sum()):,}", wrong),
    ]
    return [
        Group(title, [_card(run, sides, int(at), samples) for at in rows[:_EACH]]) for title, rows in found
    ]


def _card(run: Run, sides: Sequence[NDArray[np.int32]], at: int, samples: Samples) -> Card:
    classes, truth = run.config["classes"], int(run.test_labels[at])
    rows = samples.test_rows
    shown = None if rows is None else samples.show(run.config["target"], rows[at])
    lines = []
    for what, side in zip(("with", "without"), sides, strict=True):
        seen = np.bincount(side[:, at], minlength=len(classes))
        right, seeds = int(seen[truth]), len(side)
        seen[truth] = 0
        wrong = "" if right == seeds else f", else {classes[int(seen.argmax())]}"
        lines.append(f"{what}: right in {right} of {seeds}{wrong}")
    return Card(shown, str(classes[truth]), tuple(lines))
