"""The plane under the exchange rate, and what its slopes say.

Shapes: K numbers of target samples per class, T numbers of auxiliary samples per class, S seeds.
Arrays have any floating type; all is computed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_SEEDS = 3
MIN_FIT = 0.8
"""A plane that explains less of the variance of the cells' means than this describes no exchange."""


@dataclass(frozen=True)
class PlaneFit:
    """accuracy = intercept + slope_k · log2 k + slope_n · log2 n, in percent; `r2` is of the cells' means.

    `by_seed` (S, 2) are each seed's slopes; the fit's own are their means.
    """

    intercept: float
    slope_k: float
    slope_n: float
    r2: float
    by_seed: NDArray[np.float64]


@dataclass(frozen=True)
class Rate:
    """Auxiliary samples that are worth one target sample, at `k` and `n`; `ratio` is slope_k / slope_n.

    Intervals are Fieller's over seeds, 95 %. `refusal` says why there is no rate; then all are None.
    """

    refusal: str | None
    k: float
    n: float
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None

    def times(self, factor: float = 1.0) -> tuple[float, float, float] | None:
        """Rate, low and high, times a factor (words per text)."""
        if self.ratio is None or self.ratio_low is None or self.ratio_high is None:
            return None
        scale = factor * self.n / self.k
        return scale * self.ratio, scale * self.ratio_low, scale * self.ratio_high


def fit_plane(
    shots: Sequence[float], texts: Sequence[float], accuracy: NDArray[Any], *, logs: bool = True
) -> PlaneFit:
    """Least squares over the grid: accuracy (S, K, T) in percent, every cell there.

    Args:
        logs: whether the coordinates are doublings (log2), or the numbers themselves.

    Raises:
        ValueError: a grid of fewer than two by two, or another shape.
    """
    if len(shots) < 2 or len(texts) < 2 or accuracy.shape[1:] != (len(shots), len(texts)):
        raise ValueError(
            f"accuracy is {accuracy.shape}; expected (seeds, {len(shots)}, {len(texts)}), two or more each"
        )
    k, n = (np.log2(v) if logs else np.asarray(v, dtype=float) for v in (shots, texts))
    design = np.column_stack([np.ones(len(k) * len(n)), np.repeat(k, len(n)), np.tile(n, len(k))])
    flat = accuracy.reshape(len(accuracy), -1).astype(np.float64)
    coefficients, *_ = np.linalg.lstsq(design, flat.T, rcond=None)
    mean = coefficients.mean(1)
    cells = flat.mean(0)
    spread = float(((cells - cells.mean()) ** 2).sum())
    r2 = 1.0 - float(((cells - design @ mean) ** 2).sum()) / spread if spread > 0 else 0.0
    return PlaneFit(float(mean[0]), float(mean[1]), float(mean[2]), r2, coefficients[1:].T)


def constant_rate(linear: PlaneFit) -> float | None:
    """Auxiliary samples per target sample in a plane over the numbers themselves (`logs=False`); None where a
    slope is not positive."""
    return linear.slope_k / linear.slope_n if min(linear.slope_k, linear.slope_n) > 0 else None


def fieller(
    numerator: NDArray[Any], denominator: NDArray[Any], level: float = 0.95
) -> tuple[float, float] | None:
    """Fieller's interval of mean(numerator) / mean(denominator) from S ≥ 2 pairs (S,), normally distributed.

    `level` is its confidence, between 0 and 1. None where it is unbounded: the denominator's own interval
    holds 0.
    """
    from scipy.stats import t as student

    # Fieller (1954): ρ belongs to the interval where x − ρ y is within t standard errors of 0, that is where
    # (x − ρ y)² ≤ t² (var x − 2 ρ cov + ρ² var y). Its ends are the roots of a ρ² − 2 b ρ + c; they enclose
    # the ratio only for a > 0.
    count = len(numerator)
    x, y = float(np.mean(numerator)), float(np.mean(denominator))
    quantile = float(student.ppf((1 + level) / 2, count - 1))
    (vx, vxy), (_, vy) = quantile**2 * np.cov(numerator, denominator) / count
    a, b, c = y * y - vy, x * y - vxy, x * x - vx
    if a <= 0:
        return None
    root = math.sqrt(max(b * b - a * c, 0.0))
    return (b - root) / a, (b + root) / a


def rate_of(fit: PlaneFit, shots: Sequence[float], texts: Sequence[float]) -> Rate:
    """The rate of substitution at the grid's geometric centre, or why the fit supports none."""
    k, n = (float(2.0 ** np.log2(v).mean()) for v in (shots, texts))
    seeds = len(fit.by_seed)
    if seeds < MIN_SEEDS:
        return Rate(f"it takes {MIN_SEEDS} seeds to say how sure a rate is, not {seeds}", k, n)
    if fit.r2 < MIN_FIT:
        return Rate(
            f"the plane explains {100 * max(fit.r2, 0):.0f} % of the variance of the cells' means, less than "
            f"{100 * MIN_FIT:.0f} %", k, n,
        )  # fmt: skip
    if fit.slope_n <= 0:
        return Rate(f"more of the auxiliary did not help ({fit.slope_n:+.2f} points per doubling)", k, n)
    if fit.slope_k <= 0:
        return Rate(f"more of the target did not help ({fit.slope_k:+.2f} points per doubling)", k, n)
    bounds = fieller(fit.by_seed[:, 0], fit.by_seed[:, 1])
    if bounds is None:
        return Rate(
            f"the gain of {fit.slope_n:+.2f} points per doubling of the auxiliary is not beyond chance over "
            f"{seeds} seeds, so that the ratio has no finite interval", k, n,
        )  # fmt: skip
    return Rate(None, k, n, fit.slope_k / fit.slope_n, *bounds)
