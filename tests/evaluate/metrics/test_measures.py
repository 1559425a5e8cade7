"""The metrics against scikit-learn's, and their intervals against resampled rows.

The property is one for all: the mean of the rows' numbers is the metric, whatever labels, predictions and
scores are, and it moves with the rows' weights as scikit-learn's does.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn import metrics as theirs
from sklearn.calibration import calibration_curve

from uml_cache import InputError
from uml_evaluate.comparing.statistics import generator_for, paired_difference
from uml_evaluate.metrics.measures import BINS, METRICS, metrics_named

World = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


def world(
    seed: int, rows: int = 200, classes: int = 7, *, apart: float = 1.5, rounded: bool = False
) -> World:
    """Labels, predictions and log-probabilities; the last class has no row, but is predicted."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(classes - 1, size=rows)
    labels[: classes - 1] = np.arange(classes - 1)
    logits = generator.normal(size=(rows, classes))
    logits[np.arange(rows), labels] += apart
    if rounded:
        logits = np.round(logits)  # many ties
    return labels, logits.argmax(1), log_softmax(logits, axis=1)


def calibration(labels: NDArray, predictions: NDArray, weights: NDArray, p: NDArray) -> float:
    """ECE by scikit-learn's bins: the gaps of its curve, each with its share of the rows."""
    right, confidence = (labels == predictions).astype(int), p.max(1)
    right, confidence = np.repeat(right, weights), np.repeat(confidence, weights)
    true, said = calibration_curve(right, confidence, n_bins=BINS, strategy="uniform")
    counts = np.bincount(np.digitize(confidence, np.linspace(0, 1, BINS + 1)[1:-1]), minlength=BINS)
    return float((np.abs(true - said) * counts[counts > 0]).sum() / len(right))


def auroc(labels: NDArray, weights: NDArray, p: NDArray) -> float:
    present = np.unique(np.repeat(labels, weights))
    return float(
        np.mean([theirs.roc_auc_score(labels == c, p[:, c], sample_weight=weights) for c in present])
    )


def scikit(name: str, labels: NDArray, predictions: NDArray, logs: NDArray, weights: NDArray) -> float:
    """The metric in its unit, rows counted as often as their weight says."""
    p, classes = np.exp(logs), np.arange(logs.shape[1])
    present = np.unique(labels[weights > 0])
    found: dict[str, Callable[[], float]] = {
        "accuracy": lambda: 100 * theirs.accuracy_score(labels, predictions, sample_weight=weights),
        "balanced-accuracy": lambda: (
            100 * theirs.balanced_accuracy_score(labels, predictions, sample_weight=weights)
        ),
        "macro-f1": lambda: (
            100
            * theirs.f1_score(
                labels, predictions, labels=present, average="macro", sample_weight=weights, zero_division=0
            )
        ),
        "top-5": lambda: (
            100 * theirs.top_k_accuracy_score(labels, p, k=5, labels=classes, sample_weight=weights)
        ),
        "log-loss": lambda: theirs.log_loss(labels, p, labels=classes, sample_weight=weights),
        "calibration-error": lambda: 100 * calibration(labels, predictions, weights, p),
        "auroc": lambda: 100 * auroc(labels, weights, p),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of predictions of a class without rows
        return float(found[name]())


def ours(name: str, labels: NDArray, predictions: NDArray, logs: NDArray) -> float:
    metric = METRICS[name]
    return metric.factor * float(metric.rows(labels, predictions, logs).mean())


@pytest.mark.parametrize("name", list(METRICS))
@given(
    seed=st.integers(0, 10_000), rows=st.integers(12, 90), classes=st.integers(6, 12), rounded=st.booleans()
)
@settings(max_examples=25, deadline=None)
def test_the_mean_of_the_rows_is_scikit_learns_metric(
    name: str, seed: int, rows: int, classes: int, rounded: bool
) -> None:
    labels, predictions, logs = world(seed, rows, classes, rounded=rounded)
    once = np.ones(len(labels), dtype=np.int64)
    if name == "top-5" and rounded:
        return  # which of equal scores is among the first five is nobody's to say
    expected = scikit(name, labels, predictions, logs, once)
    assert ours(name, labels, predictions, logs) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("name", list(METRICS))
def test_rows_that_count_a_little_more_move_it_as_they_move_scikit_learns(name: str) -> None:
    """The rows' numbers are the derivative: a row that is there 1001 times beside 1000 of each other."""
    labels, predictions, logs = world(3, 60)
    values = METRICS[name].factor * METRICS[name].rows(labels, predictions, logs).astype(np.float64)
    many = np.full(60, 1_000)
    for row in (0, 7, 23, 59):
        more = many.copy()
        more[row] += 1
        moved = scikit(name, labels, predictions, logs, more) - scikit(name, labels, predictions, logs, many)
        assert moved * 60_001 == pytest.approx(values[row] - values.mean(), rel=2e-3, abs=2e-3)


@pytest.mark.parametrize("name", ["balanced-accuracy", "macro-f1", "auroc"])
def test_intervals_are_those_of_resampled_rows(name: str) -> None:
    """Against a bootstrap that draws rows and draws and computes the metric anew each time."""
    worlds = [world(seed, 300, 6) for seed in range(4)]
    labels = worlds[0][0]
    worlds = [world_of(labels, seed, 1.2) for seed in range(4)]
    others = [world_of(labels, 100 + seed, 1.6) for seed in range(4)]
    a_sn, b_sn = (
        np.stack([METRICS[name].rows(*one) for one in side]).astype(np.float64) for side in (worlds, others)
    )
    found = paired_difference(a_sn, b_sn, rng=generator_for("one")).scaled(100.0)
    generator = np.random.default_rng(0)
    deltas = []
    for _ in range(300):
        rows = generator.integers(300, size=300)
        draws = generator.integers(4, size=4)
        pairs = [
            [ours(name, *(part[rows] for part in side[draw])) for side in (worlds, others)] for draw in draws
        ]
        deltas.append(float(np.subtract(*np.mean(pairs, axis=0))))
    low, high = np.quantile(deltas, [0.025, 0.975])
    assert found.low is not None
    assert found.high is not None
    width = high - low
    assert abs(found.low - low) < 0.15 * width
    assert abs(found.high - high) < 0.15 * width


def world_of(labels: NDArray[np.int64], seed: int, apart: float) -> World:
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(len(labels), 6))
    logits[np.arange(len(labels)), labels] += apart
    return labels, logits.argmax(1), log_softmax(logits, axis=1)


def test_scores_of_nothing_and_of_certainty_stay_finite() -> None:
    labels = np.array([0, 1, 2, 0, 1, 2])
    logs = np.full((6, 8), -np.inf)
    logs[np.arange(6), [0, 1, 2, 0, 1, 1]] = 0.0
    for name in METRICS:
        assert np.isfinite(METRICS[name].rows(labels, logs.argmax(1), logs)).all(), name
    assert ours("log-loss", labels, logs.argmax(1), logs) == pytest.approx(-np.log(2.0**-52) / 6)


def test_scores_of_half_precision_say_the_same() -> None:
    labels, predictions, logs = world(5, 2_000, 9)
    for name in METRICS:
        half = ours(name, labels, predictions, logs.astype(np.float16))
        assert half == pytest.approx(ours(name, labels, predictions, logs), abs=0.05), name


def test_names_of_metrics() -> None:
    assert metrics_named("auroc, per-class,auroc") == ["auroc", "per-class"]
    with pytest.raises(InputError, match="auroc-ovr"):
        metrics_named("auroc-ovr")
    with pytest.raises(InputError, match="name some of accuracy"):
        metrics_named(" ,")


def test_differences_of_losses_help_where_they_are_negative() -> None:
    generator = np.random.default_rng(0)
    a_sn = generator.normal(0.5, 0.1, (5, 300))
    unit = METRICS["log-loss"].unit
    found = paired_difference(a_sn, a_sn + 0.2, rng=generator_for("less")).scaled(1.0, unit)
    assert found.delta == pytest.approx(-0.2)
    assert found.verdict == "helps"
    worse = paired_difference(a_sn + 0.2, a_sn, rng=generator_for("more")).scaled(1.0, unit)
    assert worse.verdict == "hurts"
