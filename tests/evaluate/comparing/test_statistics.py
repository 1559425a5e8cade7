"""The interval against brute force, closed forms and simulated truth."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from uml_evaluate.comparing import statistics
from uml_evaluate.comparing.statistics import (
    Interval,
    across_data_sets,
    generator_for,
    mean_std,
    paired_difference,
)


def brute_force(a_sn: np.ndarray, b_sn: np.ndarray, rng: np.random.Generator, replicates: int) -> np.ndarray:
    """Replicates of the mean difference, resampling rows and columns one by one."""
    d_sn = a_sn.astype(float) - b_sn.astype(float)
    draws, samples = d_sn.shape
    out = np.empty(replicates)
    for r in range(replicates):
        rows = rng.integers(draws, size=draws)
        columns = rng.integers(samples, size=samples)
        out[r] = d_sn[rows][:, columns].mean()
    return out


def test_mean_std_by_hand() -> None:
    assert mean_std([2.0, 4.0, 9.0]) == (5.0, pytest.approx(np.sqrt((9 + 1 + 16) / 2)))
    assert mean_std([7.0]) == (7.0, None)
    with pytest.raises(ValueError, match="no values"):
        mean_std([])


@pytest.mark.parametrize("kind", ["boolean", "real"])
def test_interval_is_that_of_resampling_one_by_one(kind: str) -> None:
    rng = np.random.default_rng(3)
    level_s = np.array([[0.55], [0.62], [0.70], [0.58]])
    a_sn = rng.random((4, 90)) < level_s
    b_sn = rng.random((4, 90)) < 0.5
    if kind == "real":
        a_sn, b_sn = a_sn + rng.normal(size=a_sn.shape), b_sn + rng.normal(size=b_sn.shape)
    found = paired_difference(a_sn, b_sn, rng=np.random.default_rng(0), replicates=20_000)
    slow = brute_force(a_sn, b_sn, np.random.default_rng(1), 20_000)
    low, high = np.quantile(slow, [0.025, 0.975])
    assert found.delta == pytest.approx(a_sn.mean() - b_sn.mean())
    width = high - low
    # The quantiles of 20,000 replicates are known to about one hundredth of the interval.
    assert found.low == pytest.approx(low, abs=0.04 * width)
    assert found.high == pytest.approx(high, abs=0.04 * width)


def test_both_draws_and_samples_are_resampled() -> None:
    """Variances in closed form: columns alone, rows alone."""
    samples = 400
    same_rows = np.tile(np.arange(samples) % 4 == 0, (3, 1))  # no spread over draws
    found = paired_difference(same_rows, np.zeros_like(same_rows), rng=np.random.default_rng(0))
    half = 1.96 * np.sqrt(0.25 * 0.75 / samples)
    assert found.low is not None
    assert found.high is not None
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.08)

    levels = np.array([0.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    same_columns = np.repeat(levels[:, None], samples, axis=1)  # no spread over samples
    found = paired_difference(same_columns, np.zeros_like(same_columns), rng=np.random.default_rng(0))
    # Six coins: the mean of 6 resampled draws; its 2.5 % quantile is at 1 of 6.
    assert found.low == pytest.approx(1 / 6)
    assert found.high == pytest.approx(5 / 6)


def test_pairing_cancels_what_both_share() -> None:
    rng = np.random.default_rng(0)
    hard_n = rng.random(500)
    b_sn = hard_n < np.array([[0.4], [0.6], [0.5]])
    a_sn = b_sn.copy()
    a_sn[:, :25] = True
    found = paired_difference(a_sn, b_sn, rng=rng)
    assert found.low is not None
    assert 0 < found.low < found.delta < found.high < 0.06


def test_none_below_three_draws() -> None:
    a_sn = np.ones((2, 5), dtype=bool)
    found = paired_difference(a_sn, ~a_sn, rng=np.random.default_rng(0))
    assert found == Interval(1.0, None, None, 2)
    assert not found.excludes_zero


def test_shapes_are_checked() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"\(3, 4\) and \(3, 5\)"):
        paired_difference(np.ones((3, 4)), np.ones((3, 5)), rng=rng)
    with pytest.raises(ValueError, match="expected the same"):
        paired_difference(np.ones((0, 4)), np.ones((0, 4)), rng=rng)


def test_repeats_with_its_generator() -> None:
    rng = np.random.default_rng(5)
    a_sn, b_sn = rng.random((5, 300)) < 0.6, rng.random((5, 300)) < 0.5
    first = paired_difference(a_sn, b_sn, rng=generator_for("toy", "uml", "unimodal"))
    again = paired_difference(a_sn, b_sn, rng=generator_for("toy", "uml", "unimodal"))
    other = paired_difference(a_sn, b_sn, rng=generator_for("toy", "um", "lunimodal"))
    assert first == again
    assert first != other


def test_coverage_on_a_simulated_case() -> None:
    """True difference 5 points, draws that spread by 2: the 95 % interval holds it about 95 % of the time."""
    rng = np.random.default_rng(7)
    truth, samples, held, trials = 0.05, 300, 0, 200
    for _ in range(trials):
        b_n = rng.random(samples)
        shift_s = rng.normal(0.0, 0.02, size=(5, 1))
        b_sn = np.tile(b_n < 0.5, (5, 1))
        a_sn = b_sn | (rng.random(samples) < (truth + shift_s) / 0.5)
        found = paired_difference(a_sn, b_sn, rng=rng, replicates=400)
        held += found.low is not None and found.low <= truth <= (found.high or 0.0)
    assert 0.88 <= held / trials <= 0.995


def test_no_difference_is_rarely_called_one() -> None:
    rng = np.random.default_rng(11)
    called = 0
    for _ in range(200):
        hard_n = rng.random(300)
        a_sn, b_sn = (hard_n + rng.normal(0, 0.05, size=(5, 300)) < 0.5 for _ in range(2))
        called += paired_difference(a_sn, b_sn, rng=rng, replicates=400).excludes_zero
    assert called <= 12


@pytest.mark.parametrize("draws", [5, 12])
def test_memory_is_bounded_at_fifty_thousand_samples(draws: int) -> None:
    """5 draws have few distinct columns, 12 have as many as samples: neither may hold (R, N) counts."""
    rng = np.random.default_rng(0)
    a_sn, b_sn = rng.random((draws, 50_000)) < 0.7, rng.random((draws, 50_000)) < 0.69
    tracemalloc.start()
    found = paired_difference(a_sn, b_sn, rng=rng, replicates=200)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.low is not None
    assert found.low < 0.01 < (found.high or 0.0)
    assert peak < 160 * 2**20


def test_across_data_sets_the_data_set_is_the_unit() -> None:
    rng = np.random.default_rng(0)
    deltas = [1.0, 2.0, 6.0]
    found = across_data_sets(deltas, rng=rng, replicates=20_000)
    assert found.delta == 3.0
    assert found.draws == 3
    # All three draws the smallest (or largest) has probability 1/27 > 2.5 %.
    assert found.low == 1.0
    assert found.high == 6.0
    assert across_data_sets([1.0, 2.0], rng=rng) == Interval(1.5, None, None, 2)
    with pytest.raises(ValueError, match="no data set"):
        across_data_sets([], rng=rng)


def test_whole_numbers_are_summed_to_the_last_bit() -> None:
    rng = np.random.default_rng(8)
    d_sn = rng.integers(-2, 3, size=(9, 700)).astype(np.float64)
    columns, column_n = np.unique(d_sn, axis=1, return_inverse=True)
    assert columns.shape[1] * 8 > 700
    whole = statistics._sums_of_whole_numbers(d_sn, 21, np.random.default_rng(1))
    count = columns.shape[1]
    drawn = statistics._occurrences(column_n.reshape(-1), count, 21, np.random.default_rng(1)) @ columns.T
    assert np.array_equal(whole, drawn)
    # Both leave the generator in the same state: what is drawn next is the same, too.
    ends = [np.random.default_rng(1) for _ in range(2)]
    statistics._sums_of_whole_numbers(d_sn, 21, ends[0])
    statistics._occurrences(column_n.reshape(-1), count, 21, ends[1])
    assert ends[0].random() == ends[1].random()
