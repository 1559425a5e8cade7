"""What unpaired data adds to the best that can be done without it: the verdicts of a recipe.

Shapes: S draws (seeds), N test samples.

The baseline of a number of shots is the one among the recipe's that has the highest mean test accuracy over
the draws. That choice favours the baseline: whatever is better than it is better than every other.
(Validation cannot choose: a method that tries more candidates validates higher.) A verdict is the paired
difference of a method to it, with the interval of `paired_difference` (draws and test samples), and the p of
`sign_flip_p` (draws alone), corrected by Holm's step-down for all verdicts of the recipe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from uml_evaluate.comparing.rows import Arm, arm_name, interval_fields
from uml_evaluate.comparing.shown.numbers import signed
from uml_evaluate.comparing.shown.tables import WIDTH, marked_points, plain_table, shots_name
from uml_evaluate.comparing.significance import holm, sign_flip_p, smallest_p
from uml_evaluate.comparing.statistics import Interval, generator_for, paired_difference
from uml_evaluate.comparing.verdict import MIN_DRAWS

if TYPE_CHECKING:
    from uml_evaluate.comparing.comparison import Comparison
    from uml_train import CellResult, Shots

_LEVEL = 0.05


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A method against the best baseline at one number of shots.

    Args:
        baseline, value, without: the baseline's name, and mean test accuracies of the method and of it, in %.
        interval: the difference in points.
        p, corrected: the test's, and Holm's; None for one draw.
        counts: whether it is one of those that Holm counts: controls are shown and not counted.
    """

    dataset: str
    variant: str
    shots: Shots
    method: str
    baseline: str
    value: float
    without: float
    interval: Interval
    p: float | None
    corrected: float | None = None
    counts: bool = True

    def to_json(self) -> dict[str, Any]:
        """The verdict as JSON values."""
        return {
            "dataset": self.dataset, "variant": self.variant or None, "shots": self.shots,
            "method": self.method, "baseline": self.baseline, "value": self.value, "without": self.without,
            **interval_fields(self.interval), "p": self.p, "p_holm": self.corrected,
        }  # fmt: skip


def verdicts(
    comparisons: Sequence[tuple[str, Comparison]], methods: Sequence[str], baselines: Sequence[str]
) -> list[Verdict]:
    """Every method, and each of its controls, against the best baseline; what a run lacks is left out."""
    found = [
        _verdict(variant, comparison, arm, name, k)
        for variant, comparison in comparisons
        for k in comparison.shots
        if (name := best_baseline(comparison, baselines, k)) is not None
        for arm in comparison.arms
        if arm[0] in methods and comparison.results(arm, k)
    ]
    tested = [i for i, one in enumerate(found) if one.counts and one.p is not None]
    corrected = holm([p for i in tested if (p := found[i].p) is not None])
    for i, p in zip(tested, corrected, strict=True):
        found[i] = replace(found[i], corrected=p)
    return found


def best_baseline(comparison: Comparison, names: Sequence[str], shots: Shots) -> str | None:
    """The method of highest mean test accuracy at a number of shots; None where none was run."""
    means = {
        name: np.mean([cell.test_acc for cell in cells])
        for name in names
        if (cells := comparison.results((name, None), shots))
    }
    return max(means, key=lambda name: means[name]) if means else None


def text(found: Sequence[Verdict]) -> str:
    """The verdicts as a table for each data set and variant, with what the test can show."""
    parts = []
    for name in dict.fromkeys((one.dataset, one.variant) for one in found):
        rows = [
            [
                shots_name(one.shots),
                one.method,
                f"{one.value:.1f}",
                f"{one.baseline}, {one.without:.1f}",
                marked_points(one.interval),
                _bounds(one.interval),
                "" if one.corrected is None else f"{one.corrected:.3f}",
            ]
            for one in found
            if (one.dataset, one.variant) == name
        ]
        head = ["shots", "method", "%", "strongest without, %", "adds", "95 % interval", "p, Holm"]
        parts.append(f"{', '.join(filter(None, name))}\n{plain_table(head, rows)}")
    draws = max(one.interval.draws for one in found)
    count = sum(one.counts for one in found)
    parts.append(
        fill(
            "The baseline is the strongest on the test rows. p: two-sided sign-flip test over "
            f"{draws} seeds, at least {smallest_p(draws):.2g}; Holm corrects for {count} verdicts, controls "
            "aside.",
            WIDTH,
        )
    )
    return "\n\n".join(parts)


def _bounds(interval: Interval) -> str:
    low, high = interval.low, interval.high
    return "" if low is None or high is None else f"{signed(low)} to {signed(high)}"


def smallest_effect(deviation: float, draws: int, count: int, power: float = 0.8) -> float:
    """The smallest difference that a test of `draws` draws finds with probability `power`, in the unit of the
    standard deviation of the draws' differences, at Holm's strictest level for `count` verdicts.

    By Student's t: (t(1 − 0.05 / (2 · count)) + t(power)) · deviation / √draws, draws − 1 degrees of freedom.
    Raises `ValueError` for fewer than three draws.
    """
    from scipy import stats

    if draws < MIN_DRAWS:
        raise ValueError(f"{draws} draws; expected {MIN_DRAWS} or more")
    quantiles = stats.t.ppf(1 - _LEVEL / (2 * count), draws - 1) + stats.t.ppf(power, draws - 1)
    return float(quantiles * deviation / np.sqrt(draws))


def _verdict(variant: str, comparison: Comparison, arm: Arm, baseline: str, shots: Shots) -> Verdict:
    ours = {cell.cell.seed: cell for cell in comparison.results(arm, shots)}
    theirs = {cell.cell.seed: cell for cell in comparison.results((baseline, None), shots)}
    seeds = sorted(ours.keys() & theirs.keys())
    a, b = _right(comparison, ours, seeds), _right(comparison, theirs, seeds)
    rng = generator_for("verdict", comparison.title, variant, arm_name(arm), baseline, shots, seeds)
    return Verdict(
        dataset=comparison.dataset,
        variant=variant,
        shots=shots,
        method=arm_name(arm),
        baseline=baseline,
        value=100 * float(a.mean()),
        without=100 * float(b.mean()),
        interval=paired_difference(a, b, rng=rng).scaled(100.0),
        p=sign_flip_p(a.mean(1) - b.mean(1)) if len(seeds) > 1 else None,
        counts=arm[1] is None,
    )


def _right(comparison: Comparison, cells: dict[int, CellResult], seeds: Sequence[int]) -> np.ndarray:
    """(S, N): which test samples are named right."""
    return np.stack([comparison.values(cells[seed]) for seed in seeds])
