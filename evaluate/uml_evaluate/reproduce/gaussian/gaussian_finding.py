"""What the Gaussian experiment found: errors by arm, paired differences, a sentence for each comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uml_evaluate.comparing.statistics import Interval, student_difference
from uml_evaluate.comparing.verdict import CANNOT_TELL, HELPS, HURTS, verdict
from uml_train import gaussian

PAIRS = (
    ("the claim", "uml", "x"),
    ("Y at all", "uml", "x-half"),
    ("noise for Y", "uml-noise", "x-half"),
    ("Y, not noise", "uml", "uml-noise"),
)


@dataclass(frozen=True)
class ArmErrors:
    """Held-out errors by arm, at one width and one value of the setting that is varied (None: nothing is)."""

    hidden: int
    value: float | None
    errors: dict[str, list[float]]

    def difference(self, a: str, b: str) -> Interval:
        """Mean of a − b over seeds with its 95 % interval; negative: a reconstructs better."""
        return student_difference(self.errors[a], self.errors[b])


@dataclass(frozen=True)
class GaussianFinding:
    """The finished experiment."""

    sweep: str | None
    seeds: tuple[int, ...]
    comparisons: list[ArmErrors]
    results: Path
    figures: list[Path]

    def to_json(self) -> dict[str, Any]:
        """The finding as JSON values."""
        return {
            "experiment": "gaussian",
            "sweep": self.sweep,
            "seeds": list(self.seeds),
            "table": [
                {
                    "hidden": c.hidden,
                    "value": c.value,
                    "arm": arm,
                    "mean": float(np.mean(errors)),
                    "errors": errors,
                }
                for c in self.comparisons
                for arm, errors in c.errors.items()
            ],
            "differences": [
                {
                    "hidden": c.hidden,
                    "value": c.value,
                    "role": role,
                    "a": a,
                    "b": b,
                    "delta": found.delta,
                    "ci_low": found.low,
                    "ci_high": found.high,
                }
                for c in self.comparisons
                for role, a, b in PAIRS
                for found in [c.difference(a, b)]
            ],
            "results": str(self.results),
            "figures": [str(path) for path in self.figures],
        }

    def text(self) -> str:
        """Held-out errors, differences, a sentence per comparison and where everything is."""
        heads = ["hidden", self.sweep or "", *gaussian.ARMS]
        rows = [
            [str(c.hidden), _number(c.value), *(_spread(c.errors[arm]) for arm in gaussian.ARMS)]
            for c in self.comparisons
        ]
        lines = [f"held-out squared error of X per dimension, mean ± std over {len(self.seeds)} seeds"]
        lines += [
            "",
            *_aligned([heads, *rows]),
            "",
            "differences (negative: the first is better), 95 % interval",
        ]
        names = [f"{a} − {b}" for _, a, b in PAIRS]
        rows = [
            [str(c.hidden), _number(c.value), *(_interval(c.difference(a, b)) for _, a, b in PAIRS)]
            for c in self.comparisons
        ]
        lines += ["", *_aligned([["hidden", self.sweep or "", *names], *rows]), ""]
        lines += [self._sentence(c) for c in self.comparisons]
        return "\n".join([*lines, "", f"results  {self.results}", *(f"figure   {p}" for p in self.figures)])

    def _sentence(self, comparison: ArmErrors) -> str:
        found = comparison.difference("uml", "x")
        where = f"hidden width {comparison.hidden}"
        if self.sweep:
            where += f", {self.sweep} {_number(comparison.value)}"
        if found.low is None or found.high is None:
            return f"{where}: {found.draws} seeds cannot show whether the claim holds (it takes 3)."
        bounds = f"{found.delta:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
        said = verdict(found.low, found.high, small=0.0)
        if said == HURTS:  # a smaller error
            return f"{where}: the claim holds, half X and half Y is better than X alone: {bounds}."
        if said == HELPS:
            return f"{where}: the opposite of the claim, X alone is better: {bounds}."
        return f"{where}: these seeds {CANNOT_TELL} whether the claim holds: {bounds}."


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _spread(errors: Sequence[float]) -> str:
    std = np.std(errors, ddof=1) if len(errors) > 1 else 0.0
    return f"{np.mean(errors):.3f} ± {std:.3f}"


def _interval(found: Interval) -> str:
    bounds = "" if found.low is None else f" [{found.low:+.3f}, {found.high:+.3f}]"
    return f"{found.delta:+.3f}{bounds}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return [line.rstrip() for line in lines]
