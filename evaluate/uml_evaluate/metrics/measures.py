"""The metrics by name, each as one number per test row whose mean is the metric.

Shapes: N test rows, C classes.

Accuracy, top-5 and log-loss are means over rows as they stand. The others are no means, but a small change
of how much each row counts changes them by a mean of one number per row (the row's influence). A row's number
is the metric plus its influence: their mean is the metric itself, and what resampling the rows does to that
mean is what it does to the metric, to first order. So one paired bootstrap serves all metrics.

Classes without a test row are left out of the means over classes. Scores are log-probabilities (N, C).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uml_cache import InputError, unknown
from uml_evaluate.comparing.statistics import POINTS, Unit

BINS = 15
"""Bins of equal width between 0 and 1 that the calibration error sorts confidences into."""
_TOP = 5
_SMALLEST = float(np.finfo(np.float64).eps)  # scikit-learn's: a probability of 0 counts as this

Labels = NDArray[np.integer]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """A metric: its name, what it is called in a caption, and how a row's number comes about.

    `rows` takes labels (N,), predictions (N,) and scores (N, C), and gives (N,); `scores` is None where
    `needs_scores` is False and a run has none. The mean times `factor` is in the metric's unit. With
    `more_than` classes or fewer it says nothing.
    """

    name: str
    title: str
    rows: Callable[[Labels, Labels, NDArray[np.floating] | None], NDArray[np.generic]]
    needs_scores: bool = True
    factor: float = 100.0
    unit: Unit = POINTS
    more_than: int = 0


def metrics_named(text: str) -> list[str]:
    """Names out of `auroc,log-loss`, each once. Raises `InputError` for an unknown one."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in METRICS and name not in TABLES:
            raise unknown("metric", name, [*METRICS, *TABLES])
    if not names:
        raise InputError(f"--metric is {text!r}; name some of {', '.join([*METRICS, *TABLES])}")
    return names


def _correct(labels: Labels, predictions: Labels, scores: object) -> NDArray[np.bool_]:
    return labels == predictions


def _balanced(labels: Labels, predictions: Labels, scores: object) -> Values:
    """Mean over classes of the share of a class's rows that are found."""
    right = (labels == predictions).astype(np.float64)
    present, class_n, count_c = np.unique(labels, return_inverse=True, return_counts=True)
    recall_c = np.bincount(class_n, right) / count_c
    weight_n = len(labels) / (len(present) * count_c[class_n])
    return recall_c.mean() + weight_n * (right - recall_c[class_n])


def _macro_f1(labels: Labels, predictions: Labels, scores: object) -> Values:
    """Mean over classes of 2 · hits / (rows of the class + rows taken for it)."""
    rows, present = len(labels), np.unique(labels)
    size = int(max(labels.max(), predictions.max())) + 1
    hits, own, taken = (
        np.bincount(part, minlength=size) for part in (labels[labels == predictions], labels, predictions)
    )
    both = np.maximum(own + taken, 1)
    f1 = 2.0 * hits / both
    # d F1 = (2 · hit − F1 · (own + taken)) / both for each row; rows taken for an absent class count nowhere.
    share = np.isin(np.arange(size), present) * rows / (len(present) * both)
    influence = (
        2.0 * share[labels] * (labels == predictions)
        - share[labels] * f1[labels]
        - share[predictions] * f1[predictions]
    )
    return f1[present].mean() + influence


def _top(labels: Labels, predictions: Labels, scores: NDArray[np.floating] | None) -> NDArray[np.bool_]:
    first = np.argsort(_needed(scores), axis=1, kind="stable")[:, ::-1][:, :_TOP]
    return (first == labels[:, None]).any(1)


def _log_loss(labels: Labels, predictions: Labels, scores: NDArray[np.floating] | None) -> Values:
    own = _probabilities(scores)[np.arange(len(labels)), labels]
    return -np.log(np.clip(own, _SMALLEST, 1.0 - _SMALLEST))


def _calibration(labels: Labels, predictions: Labels, scores: NDArray[np.floating] | None) -> Values:
    """Mean over rows of |confidence − share that is right| of the row's bin."""
    probabilities = _probabilities(scores)
    confidence = probabilities.max(1)
    # The predictions are those of full precision, which a rounded score may tie with another.
    surplus = confidence - (labels == predictions)
    bin_n = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    sign_b = np.sign(np.bincount(bin_n, surplus, BINS))
    return sign_b[bin_n] * surplus


def _auroc(labels: Labels, predictions: Labels, scores: NDArray[np.floating] | None) -> Values:
    """Mean over classes of the probability that a row of the class scores above one of the others.

    A row's influence is that of DeLong et al. (1988): of a class's row the share of others below it, of
    another row the share of the class's above it.
    """
    found, rows = _needed(scores), len(labels)
    present, class_n, count_c = np.unique(labels, return_inverse=True, return_counts=True)
    if len(present) < 2:
        raise InputError("auroc takes test rows of two classes or more; these have one")
    total, influence = 0.0, np.zeros(rows)
    for c, count in enumerate(count_c):
        own = class_n == c
        score, others = found[:, present[c]], rows - count
        share = np.empty(rows)
        share[own] = _share_below(score[own], score[~own])
        share[~own] = 1.0 - _share_below(score[~own], score[own])
        area = share[own].mean()
        total += area
        influence += rows * (share - area) / np.where(own, count, others)
    return (total + influence) / len(present)


def _share_below(of: NDArray[np.floating], among: NDArray[np.floating]) -> Values:
    """For each of some numbers the share of others that are smaller; equal ones count half."""
    ordered = np.sort(among)
    sides = np.searchsorted(ordered, of, "left") + np.searchsorted(ordered, of, "right")
    return sides / (2.0 * len(among))


def _needed(scores: NDArray[np.floating] | None) -> NDArray[np.floating]:
    if scores is None:
        raise ValueError("this metric needs scores")
    return scores


def _probabilities(scores: NDArray[np.floating] | None) -> Values:
    """(N, C) float64; rows sum to 1 again, which rounded logarithms do not give to the last digit."""
    found = np.exp(_needed(scores).astype(np.float64))
    return found / found.sum(1, keepdims=True)


ACCURACY = Metric("accuracy", "test accuracy in %", _correct, needs_scores=False)

METRICS = {
    metric.name: metric
    for metric in (
        ACCURACY,
        Metric(
            "balanced-accuracy",
            "balanced accuracy in % (mean over classes of the share of a class's test rows that is found)",
            _balanced,
            needs_scores=False,
        ),
        Metric("macro-f1", "macro-F1 in % (mean of the classes' F1)", _macro_f1, needs_scores=False),
        Metric("top-5", "top-5 accuracy in % (the class is among the five likeliest)", _top, more_than=_TOP),
        Metric(
            "log-loss",
            "log-loss in nats (lower is better; mean of −log of the probability of the true class)",
            _log_loss,
            factor=1.0,
            unit=Unit("nats", small=0.01, digits=3, lower_is_better=True),
        ),
        Metric(
            "calibration-error",
            f"calibration error in % (lower is better; ECE: mean gap between confidence and accuracy, {BINS} "
            "bins of equal width)",
            _calibration,
            unit=Unit("points", lower_is_better=True),
        ),
        Metric("auroc", "AUROC in % (each class against the rest, mean over classes)", _auroc),
    )
}

PER_CLASS, CONFUSION = "per-class", "confusion"
TABLES = (PER_CLASS, CONFUSION)
"""What `--metric` shows as tables of their own; predictions are enough for them."""
