"""What is known of one auxiliary at one k before training: the estimators' numbers.

Shapes: n rows, C classes, k shots.

Of the estimators that were tried these two predict best together; the others stand in the study
(`tests/benchmarks/advice_study.py`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from uml_evaluate.advice.geometry import Agreement, agreement
from uml_evaluate.advice.pilot import pilot
from uml_evaluate.advice.training_rows import Rows, shots, splits

SPLITS = 2
STUDIED = (2, 4, 8)
"""Numbers of shots at which the advice was judged; at others it gives no verdict."""


@dataclass(frozen=True)
class Evidence:
    """Numbers of the estimators; None where one cannot speak.

    Args:
        shots: k.
        spare: whether the training rows leave some to score on beyond the k that a model is trained on. Where
            they do not, nothing but the geometry speaks.
        agreement: class geometry (`geometry`), None below four common classes.
        pilot_late: gain of the pilot (`pilot`) over the second half of its training, points.
        pilot_best: gain of its best evaluation, points.
        seconds: what the pilot cost.
    """

    shots: int
    spare: bool
    agreement: Agreement | None
    pilot_late: float | None
    pilot_best: float | None
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The evidence as JSON values; None where it could not be computed."""
        a = self.agreement
        return {
            "agreement": None if a is None else round(a.alignment, 4),
            "agreement_z": None if a is None else round(a.z, 2),
            "agreement_p": None if a is None else round(a.p, 4),
            "pilot_late": None if self.pilot_late is None else round(self.pilot_late, 2),
            "pilot_best": None if self.pilot_best is None else round(self.pilot_best, 2),
        }


def compare_geometry(
    target: Rows, auxiliaries: Sequence[Rows], rng: np.random.Generator
) -> list[tuple[Agreement | None, float]]:
    """Agreement of every auxiliary with the target, and its seconds; it does not depend on k."""
    found = []
    for auxiliary in auxiliaries:
        began = time.perf_counter()
        agreed = agreement(target, auxiliary, rng)
        found.append((agreed, time.perf_counter() - began))
    return found


def gather(
    target: Rows,
    auxiliaries: Sequence[Rows],
    geometry: Sequence[tuple[Agreement | None, float]],
    k: int,
    rng: np.random.Generator,
) -> list[Evidence]:
    """Every estimator for every auxiliary; the pilots of all of them on the same draws.

    Args:
        target: the training rows that there are.
        geometry: what `compare_geometry` found.
        k: shots of which the estimate is for, no more than every class has rows.
    """
    spare = shots(target) > k
    began = time.perf_counter()
    late, best = [], []
    for number, (train, held_out) in enumerate(splits(target, k, SPLITS, rng) if spare else ()):
        piloted = pilot(target.taken(train), target.taken(held_out), auxiliaries, seed=number)
        late.append(piloted.gains(0))
        best.append(piloted.gains(1))
    each = (time.perf_counter() - began) / len(auxiliaries)
    return [
        Evidence(
            shots=k,
            spare=spare,
            agreement=agreed,
            pilot_late=float(np.mean([gains[i] for gains in late])) if spare else None,
            pilot_best=float(np.mean([gains[i] for gains in best])) if spare else None,
            seconds=each,
        )
        for i, (agreed, _) in enumerate(geometry)
    ]
