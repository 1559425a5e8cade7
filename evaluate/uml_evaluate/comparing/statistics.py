"""Means, paired differences and their intervals.

Shapes: S draws (seeds), N test samples, R replicates of the bootstrap, P distinct columns, K data sets.
Scores are bool or of any numeric type, differences of any floating type.

Two methods trained on the same draw and scored on the same test rows are compared pair by pair. Both the draw
and the test rows are samples of something larger, so both are resampled; resampling one alone would call the
other one's luck an effect. Every function is pure: arrays and a generator in, numbers out.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from uml_evaluate.comparing.verdict import MIN_DRAWS, SMALL, Word, verdict

REPLICATES = 2000
LEVEL = 0.95
_BLOCK_VALUES = 4_000_000  # counts held at once: 32 MB of int64
_EXACT = 1 << 24  # whole numbers up to here are exact in single precision
_AT_ONCE = 8  # replicates that are drawn while as many are counted


@dataclass(frozen=True)
class Unit:
    """What a difference is counted in.

    A difference inside ±`small` is none that matters; `digits` are shown behind the point.
    """

    name: str
    small: float = SMALL
    digits: int = 1
    lower_is_better: bool = False


POINTS = Unit("points")


@dataclass(frozen=True)
class Interval:
    """A difference and its interval, in the units of the input; `low` and `high` are None below 3 draws.

    `rows_reach` is half the width that the test rows alone give it, which stays however many draws there are
    (0 where the test rows are not resampled). `unit` is that of a difference which was `scaled` to it.
    """

    delta: float
    low: float | None
    high: float | None
    draws: int
    rows_reach: float = field(default=0.0, compare=False)
    unit: Unit = field(default=POINTS, compare=False)

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval and 0 lies outside it."""
        return self.low is not None and self.high is not None and (self.low > 0.0 or self.high < 0.0)

    @property
    def verdict(self) -> Word:
        """What a difference in its unit says: `helps` is a better value, whichever way that is."""
        if self.low is not None and self.high is not None and self.unit.lower_is_better:
            return verdict(-self.high, -self.low, small=self.unit.small)
        return verdict(self.low, self.high, small=self.unit.small)

    def scaled(self, factor: float, unit: Unit = POINTS) -> Interval:
        """The same in other units; `factor` is positive."""
        low = None if self.low is None else factor * self.low
        high = None if self.high is None else factor * self.high
        return Interval(factor * self.delta, low, high, self.draws, factor * self.rows_reach, unit)


def mean_std(values: Iterable[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (ddof = 1; None for a single value). Raises ValueError for none."""
    array = np.asarray(list(values), dtype=np.float64)
    if array.size == 0:
        raise ValueError("no values to average")
    return float(array.mean()), float(array.std(ddof=1)) if array.size > 1 else None


def paired_difference(
    a_sn: NDArray[np.generic],
    b_sn: NDArray[np.generic],
    *,
    rng: np.random.Generator,
    replicates: int = REPLICATES,
    level: float = LEVEL,
) -> Interval:
    """Mean of a − b with a percentile interval from a bootstrap over draws × test samples.

    A replicate draws S of the S draws and N of the N samples with replacement; the same samples serve every
    draw and both methods.

    Columns of a − b that are equal are interchangeable, so what is drawn is how often each of the P distinct
    columns occurs: a multinomial with their frequencies, the same distribution as drawing samples one by one.
    Right-or-wrong scores of 5 draws have at most 3⁵ = 243 columns, however many test samples there are.

    How much to trust it: in simulations with 480 samples and draws that spread by 0 to 5 points, the 95 %
    intervals contained the true value in 88–99 % of simulations with 5 draws, and in 83–100 % with 3.

    Args:
        a_sn, b_sn: (S, N) scores per draw and sample, boolean (right or wrong) or real; row i of both comes
            from the same draw, column j from the same sample.
        rng: source of the resampling; the same state gives the same interval.
        replicates: R.
        level: the share of replicates inside the interval, between 0 and 1.

    Returns:
        The difference in the units of the scores (right-or-wrong: fractions), no interval if S < 3.

    Raises:
        ValueError: shapes that differ, or no rows or columns.
    """
    if a_sn.shape != b_sn.shape or a_sn.ndim != 2 or a_sn.size == 0:
        raise ValueError(f"scores are {a_sn.shape} and {b_sn.shape}; expected the same (draws, samples)")
    d_sn = a_sn.astype(np.float64) - b_sn.astype(np.float64)
    draws, samples = d_sn.shape
    delta = float(d_sn.mean())
    if draws < MIN_DRAWS:
        return Interval(delta, None, None, draws)
    # The pigeonhole bootstrap (Owen 2007, Annals of Applied Statistics 1(2):386): rows and columns of the
    # table are drawn apart. With w ~ Multinomial(S, 1/S) over draws, v ~ Multinomial(N, 1/N) over samples, a
    # replicate is wᵀ D v / (S N). Equal columns of D are summed in v first, so that D shrinks to (S, P).
    columns_sp, column_n, count_p = np.unique(d_sn, axis=1, return_inverse=True, return_counts=True)
    deltas_r = np.empty(replicates)
    block = max(1, _BLOCK_VALUES // len(count_p))
    # With nearly as many distinct columns as samples a multinomial costs more than the draws themselves.
    few = len(count_p) * 8 <= samples
    exact = bool((d_sn == np.rint(d_sn)).all()) and float(np.abs(d_sn).max()) * samples < _EXACT
    for start in range(0, replicates, block):
        size = min(block, replicates - start)
        if few:
            sample_rp = rng.multinomial(samples, count_p / samples, size=size)
            totals_rs = sample_rp.astype(np.float64) @ columns_sp.T
        elif exact:
            totals_rs = _sums_of_whole_numbers(d_sn, size, rng)
        else:
            totals_rs = _occurrences(column_n.reshape(-1), len(count_p), size, rng) @ columns_sp.T
        draw_rs = rng.multinomial(draws, np.full(draws, 1.0 / draws), size=size)
        deltas_r[start : start + size] = (totals_rs * draw_rs).sum(axis=1) / (samples * draws)
    return Interval(delta, *_percentiles(deltas_r, level), draws, _rows_reach(d_sn, level))


def _rows_reach(d_sn: NDArray[np.float64], level: float) -> float:
    """Half the interval's width that stays with ever more draws: that of the rows' own means.

    What a row's mean over S draws varies by is its own difference and 1/S of the draws' noise around it; the
    noise is what is left of the table without its rows' and draws' means.
    """
    from statistics import NormalDist

    draws, rows = d_sn.shape
    if rows < 2:
        return 0.0
    mean_n, mean_s = d_sn.mean(0), d_sn.mean(1)
    rest = d_sn - mean_n - mean_s[:, None] + d_sn.mean()
    noise = float(np.square(rest).sum()) / ((draws - 1) * (rows - 1))
    own = max(0.0, float(mean_n.var(ddof=1)) - noise / draws)
    return NormalDist().inv_cdf((1 + level) / 2) * float(np.sqrt(own / rows))


def _occurrences(
    column_n: NDArray[np.integer], columns: int, size: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(size, P): how often each distinct column occurs among N samples drawn with replacement."""
    samples = len(column_n)
    rows = [
        np.bincount(column_n[rng.integers(samples, size=samples)], minlength=columns) for _ in range(size)
    ]
    return np.stack(rows).astype(np.float64)


def _sums_of_whole_numbers(
    d_sn: NDArray[np.float64], size: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(size, S): Σ of `d_sn` over N samples drawn with replacement, as by `_occurrences`, to the last bit.

    Sums of whole numbers below 2²⁴ are exact in single precision, in whatever order they are made. One thread
    draws the next samples, which leaves Python's lock, while this one counts the last.
    """
    draws, samples = d_sn.shape
    d_ns = np.ascontiguousarray(d_sn.T, dtype=np.float32)
    counts_rn = np.empty((_AT_ONCE, samples), np.float32)
    totals_rs = np.empty((size, draws))
    with ThreadPoolExecutor(1) as thread:

        def draw(start: int) -> Future[NDArray[np.int64]]:
            return thread.submit(rng.integers, samples, size=(min(_AT_ONCE, size - start), samples))

        coming = draw(0)
        for start in range(0, size, _AT_ONCE):
            drawn_rn = coming.result()
            if start + _AT_ONCE < size:
                coming = draw(start + _AT_ONCE)
            for row, drawn_n in enumerate(drawn_rn):
                counts_rn[row] = np.bincount(drawn_n, minlength=samples)
            totals_rs[start : start + _AT_ONCE] = counts_rn[: len(drawn_rn)] @ d_ns
    return totals_rs


def student_difference(a_s: Iterable[float], b_s: Iterable[float], *, level: float = LEVEL) -> Interval:
    """Mean of a − b over S paired draws with Student's t interval; none if S < 3.

    For draws that share nothing, each with its own samples: what is resampled elsewhere is in their spread.

    Raises:
        ValueError: sides of different length, or none.
    """
    from scipy import stats

    a, b = np.asarray(list(a_s), dtype=np.float64), np.asarray(list(b_s), dtype=np.float64)
    if a.shape != b.shape or a.size == 0:
        raise ValueError(f"scores are {a.shape} and {b.shape}; expected as many of both")
    d = a - b
    if d.size < MIN_DRAWS:
        return Interval(float(d.mean()), None, None, d.size)
    reach = float(stats.t.ppf((1 + level) / 2, d.size - 1) * d.std(ddof=1) / np.sqrt(d.size))
    return Interval(float(d.mean()), float(d.mean()) - reach, float(d.mean()) + reach, d.size)


def across_data_sets(
    deltas_k: NDArray[np.floating] | Iterable[float],
    *,
    rng: np.random.Generator,
    replicates: int = REPLICATES,
    level: float = LEVEL,
) -> Interval:
    """Mean over K data sets of one difference each, `deltas_k` (K,), with an interval from a bootstrap over
    them.

    The data set is the unit: ten draws of one data set say nothing about another. No interval if K < 3.
    Raises ValueError for no data set.
    """
    array = np.asarray(list(deltas_k), dtype=np.float64)
    if array.size == 0:
        raise ValueError("no data set to average over")
    if array.size < MIN_DRAWS:
        return Interval(float(array.mean()), None, None, array.size)
    means_r = array[rng.integers(array.size, size=(replicates, array.size))].mean(axis=1)
    return Interval(float(array.mean()), *_percentiles(means_r, level), array.size)


def generator_for(*names: object) -> np.random.Generator:
    """The generator that belongs to a comparison's names: the same names always give the same interval."""
    digest = sha256("\x1f".join(map(str, names)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def _percentiles(values_r: NDArray[np.floating], level: float) -> tuple[float, float]:
    low, high = np.quantile(values_r, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)
