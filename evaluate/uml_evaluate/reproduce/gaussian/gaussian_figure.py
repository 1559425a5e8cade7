"""Figures of the Gaussian experiment: held-out errors by arm, and differences with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from uml_evaluate.comparing.shown.figures import new_figure, style
from uml_evaluate.reproduce.gaussian.gaussian_finding import PAIRS, ArmErrors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = {"x": "#0072B2", "uml": "#D55E00", "x-half": "#56B4E9", "uml-noise": "#808080"}
_MARKERS = {"x": "s", "uml": "o", "x-half": "D", "uml-noise": "x"}
_LABELS = {
    "x": "X, whole budget",
    "uml": "half X + half Y",
    "x-half": "half X",
    "uml-noise": "half X + noise",
}


def main_figure(comparisons: Sequence[ArmErrors]) -> Figure:
    """A row per width: left the error of every seed and arm, right the paired differences."""
    with style():
        figure = new_figure(8.6, 2.7 * len(comparisons))
        grid = figure.subplots(len(comparisons), 2, squeeze=False)
        for (left, right), comparison in zip(grid, comparisons, strict=True):
            for y, (arm, errors) in enumerate(comparison.errors.items()):
                left.plot(
                    errors, [y] * len(errors), _MARKERS[arm], color=_COLOURS[arm], alpha=0.55, markersize=5
                )
                left.plot([np.mean(errors)] * 2, [y - 0.3, y + 0.3], color=_COLOURS[arm], linewidth=2)
            left.set_yticks(range(len(comparison.errors)), [_LABELS[a] for a in comparison.errors])
            left.set_ylim(len(comparison.errors) - 0.5, -0.5)
            left.set_xlabel("held-out squared error of X per dimension (bar: mean)")
            left.set_title(f"hidden width {comparison.hidden}", fontsize=10)
            for y, (_, a, b) in enumerate(PAIRS):
                found = comparison.difference(a, b)
                reach = 0.0 if found.high is None else found.high - found.delta
                right.errorbar(found.delta, y, xerr=reach, fmt="o", color="#D55E00", elinewidth=1.3)
            right.axvline(0.0, color="#0b0c0e", linewidth=0.9)
            right.set_yticks(range(len(PAIRS)), [f"{a} − {b}" for _, a, b in PAIRS])
            right.set_ylim(len(PAIRS) - 0.5, -0.5)
            right.set_xlabel("difference, 95 % interval (left of 0: the first is better)")
            seeds = len(next(iter(comparison.errors.values())))
            right.set_title(f"paired by seed, n = {seeds}", fontsize=10)
        _tidy(figure)
        return figure


def sweep_figure(comparisons: Sequence[ArmErrors], sweep: str) -> Figure:
    """A panel per width: the error of every arm along the values, evenly spaced; bars: standard deviation."""
    widths = list(dict.fromkeys(c.hidden for c in comparisons))
    with style():
        figure = new_figure(8.6, 3.2)
        panels = figure.subplots(1, len(widths), squeeze=False)[0]
        for axes, hidden in zip(panels, widths, strict=True):
            shown = [c for c in comparisons if c.hidden == hidden]
            for i, arm in enumerate(_LABELS):
                errors = [c.errors[arm] for c in shown]
                axes.errorbar(
                    np.arange(len(shown)) + 0.05 * (i - 1.5),
                    [np.mean(e) for e in errors],
                    yerr=[np.std(e, ddof=1) if len(e) > 1 else 0.0 for e in errors],
                    label=_LABELS[arm],
                    color=_COLOURS[arm],
                    marker=_MARKERS[arm],
                    markersize=5,
                    capsize=2.5,
                )
            axes.set_xticks(range(len(shown)), [f"{c.value:g}" for c in shown])
            axes.set_xlabel(sweep)
            axes.set_ylabel("held-out squared error of X")
            axes.set_title(f"hidden width {hidden}", fontsize=10)
        panels[-1].legend(frameon=False, fontsize=8.5, loc="center left", bbox_to_anchor=(1.0, 0.5))
        _tidy(figure)
        return figure


def _tidy(figure: Figure) -> None:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
