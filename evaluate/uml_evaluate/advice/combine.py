"""From the estimators' numbers to one estimate with its uncertainty, and a verdict.

The weights were fitted by `tests/benchmarks/advice_judge.py` on measured pairs; the spreads are what
predictions for left-out targets and worlds missed by, less the measurements' own errors. What the estimate
predicts is the mean over draws of `uml` − `unimodal-deep`, as `uml train` would find it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from uml_evaluate.advice.evidence import STUDIED, Evidence
from uml_evaluate.comparing.shown.numbers import signed
from uml_evaluate.comparing.verdict import CANNOT_TELL, NO_DIFFERENCE, Word, verdict

LEVEL = 0.9
DEAD_ZONE = 1.5
"""Points: a smaller difference is none that a few seeds can show."""
SURE = 0.8
"""Probability that `helps` and `hurts` need of the sign: the verdict looks at the interval whose ends each
leave out the rest."""
CLIP = 6.0
"""Points that one pilot may count at most: beyond lie features whose scales do not fit, not larger
effects."""


@dataclass(frozen=True)
class Fit:
    """Weights of the estimators, and the spread of the expected difference around the estimate, in points."""

    intercept: float
    geometry: float
    pilot: float
    spread: float


WITH_PILOT = Fit(intercept=-0.212, geometry=1.08, pilot=0.304, spread=1.17)
WITHOUT_PILOT = Fit(intercept=-0.604, geometry=1.675, pilot=0.0, spread=1.3)


@dataclass(frozen=True)
class Prediction:
    """`estimate` of `uml` − `unimodal-deep` in points, a `LEVEL` interval, and the verdict.

    The verdict is that on the interval between the quantiles 1 − `SURE` and `SURE`: `helps` or `hurts` where
    the sign has at least the probability `SURE`, else `no difference` where the interval lies inside the dead
    zone, else `can't tell`.
    """

    estimate: float
    low: float
    high: float
    verdict: Word

    def to_json(self) -> dict[str, Any]:
        """The prediction as JSON values, in points."""
        return {
            "estimate": round(self.estimate, 2),
            "ci_low": round(self.low, 2),
            "ci_high": round(self.high, 2),
            "verdict": self.verdict,
        }

    def sentence(self, auxiliary: str, shots: int) -> str:
        """`At k = 4 text (hashed-ngrams) helps: …`."""
        bounds = f"{100 * LEVEL:.0f} % interval {signed(self.low)} to {signed(self.high)}"
        numbers = f"{signed(self.estimate)} points, {bounds}"
        if self.verdict == CANNOT_TELL:
            return f"At k = {shots} these rows {CANNOT_TELL} whether {auxiliary} helps: {numbers}."
        if self.verdict == NO_DIFFERENCE:
            return f"At k = {shots} {auxiliary} makes {NO_DIFFERENCE}: {numbers}."
        return f"At k = {shots} {auxiliary} {self.verdict}: {numbers}."


def predict(evidence: Evidence) -> Prediction:
    """The estimate for one auxiliary at one k.

    Without rows to spare for a pilot, where the geometry's verdicts were no better than chance, and at a k
    that the study did not judge, the verdict is `can't tell`.
    """
    z = 0.0 if evidence.agreement is None else math.tanh(evidence.agreement.z / 5.0)
    if evidence.pilot_late is None or evidence.pilot_best is None:
        fit, pilot = WITHOUT_PILOT, 0.0
    else:
        fit, pilot = WITH_PILOT, (_clipped(evidence.pilot_late) + _clipped(evidence.pilot_best)) / 2.0
    estimate = fit.intercept + fit.geometry * z + fit.pilot * pilot
    return judged(estimate, fit.spread, speaks=fit is WITH_PILOT and evidence.shots in STUDIED)


def judged(estimate: float, spread: float, *, speaks: bool = True) -> Prediction:
    """Interval and verdict of a normal predictive distribution, in points; no verdict unless it `speaks`."""
    normal = NormalDist(estimate, spread)
    ends = normal.inv_cdf(1.0 - SURE), normal.inv_cdf(SURE)
    said = verdict(*ends, small=DEAD_ZONE) if speaks else CANNOT_TELL
    tail = (1.0 - LEVEL) / 2.0
    return Prediction(estimate, normal.inv_cdf(tail), normal.inv_cdf(1.0 - tail), said)


def _clipped(points: float) -> float:
    return max(-CLIP, min(CLIP, points))
