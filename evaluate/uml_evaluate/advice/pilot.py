"""Estimator (d): a pilot of the real thing, small: both methods for 300 steps on held-out splits.

Shapes: n rows, R features, C classes.

`uml` and `unimodal-deep` are trained by the head bank with the same start and batches, on the reduced
features, and scored on rows that were held out. The score is the mean accuracy over the second half of the
evaluations: no step is chosen, so that the rows which score choose nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from uml_evaluate.advice.training_rows import Rows
from uml_train import Candidate, Fitted, HeadBank, HeadModel, Samples, Schedule

STEPS = 300
_SCHEDULE = Schedule(steps=STEPS, warmup=50, eval_every=25, patience=STEPS)
_CANDIDATE = Candidate(lr=1e-2, weight_decay=0.01, batch_size=32)


@dataclass(frozen=True)
class Piloted:
    """Accuracies in percent on held-out rows of one split: (late mean, best), the auxiliaries in order."""

    alone: dict[int, tuple[float, float]]
    together: tuple[tuple[float, float], ...]
    widths: tuple[int, ...]

    def gains(self, which: int = 0) -> list[float]:
        """`uml` − `unimodal-deep` of the same width, in points, one per auxiliary."""
        pairs = zip(self.together, self.widths, strict=True)
        return [score[which] - self.alone[width][which] for score, width in pairs]


def pilot(train: Rows, held_out: Rows, auxiliaries: Sequence[Rows], seed: int) -> Piloted:
    """Train both methods on one split, for every auxiliary; methods without auxiliaries once per width."""
    widths = tuple(rows.features.shape[1] for rows in auxiliaries)
    distinct = list(dict.fromkeys(widths))
    models = [_model(train, held_out, None, width, seed) for width in distinct]
    models += [
        _model(train, held_out, rows, width, seed) for rows, width in zip(auxiliaries, widths, strict=True)
    ]
    scores = [_score(fitted) for fitted in HeadBank(models, _SCHEDULE).fit()]
    return Piloted(
        dict(zip(distinct, scores[: len(distinct)], strict=True)), tuple(scores[len(distinct) :]), widths
    )


def _model(train: Rows, held_out: Rows, auxiliary: Rows | None, width: int, seed: int) -> HeadModel:
    return HeadModel(
        target=_samples("target", train, projected=True),
        auxiliaries=() if auxiliary is None else (_samples("auxiliary", auxiliary, projected=False),),
        validation=(_tensor(held_out.features), torch.from_numpy(held_out.labels)),
        classes=train.classes,
        width=width,
        seed=seed,
        candidate=_CANDIDATE,
    )


def _samples(name: str, rows: Rows, *, projected: bool) -> Samples:
    return Samples(
        name=name,
        features=_tensor(rows.features),
        labels=torch.from_numpy(rows.labels),
        projected=projected,
    )


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _score(fitted: Fitted) -> tuple[float, float]:
    late = [record["val_acc"] for record in fitted.history if record["step"] > STEPS // 2]
    return float(np.mean(late)), fitted.val_acc
