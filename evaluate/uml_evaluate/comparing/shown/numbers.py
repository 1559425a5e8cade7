"""Percentage points as text."""

from __future__ import annotations

from uml_evaluate.comparing.statistics import Interval


def signed(points: float, digits: int = 1) -> str:
    """`+5.2`, `−0.3`, `+0.04`, `0.0`: percentage points with a true minus sign."""
    text = f"{points:+.{digits}f}"
    if float(text) == 0.0:  # an end that is not 0 must not look like it
        text = f"{points:+.{digits + 1}f}"
    return f"{0:.{digits}f}" if float(text) == 0.0 else text.replace("-", "−")


def with_bounds(interval: Interval) -> str:
    """`+5.2 [+3.1, +7.3]`; the number alone where there is no interval."""
    if interval.low is None or interval.high is None:
        return signed(interval.delta)
    return f"{signed(interval.delta)} [{signed(interval.low)}, {signed(interval.high)}]"
