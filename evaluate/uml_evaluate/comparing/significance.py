"""A test for paired draws, and its correction for many of them.

Shapes: S draws.

Were the two sides of a difference exchangeable, every draw's difference could as well have the other sign:
p is the share of the 2^S sign patterns whose mean is at least as far from 0 as the one seen. It is exact for
any distribution. With S draws it cannot fall below 2/2^S: 0.0625 for 5 draws, 0.002 for 10.

`scipy.stats.permutation_test` gives the same p and takes 30 times as long (1.0 s against 0.035 s for 16 draws
on one core), once for every pair of a table.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from uml_evaluate.comparing.statistics import generator_for

_EXACT = 16  # draws up to which all sign patterns are counted
_FLIPS = 65_536


def sign_flip_p(differences: NDArray[np.floating]) -> float:
    """Two-sided p in (0, 1] of differences (S,), any floating type: all sign patterns of up to 16 draws,
    else 65,536 of them.
    """
    draws = len(differences)
    if draws <= _EXACT:
        patterns = np.arange(2**draws)[:, None] >> np.arange(draws) & 1
    else:
        patterns = generator_for("sign flips", draws).integers(0, 2, (_FLIPS, draws))
        patterns[0] = 0  # the pattern that was seen
    means = (1 - 2 * patterns) @ differences
    # A little slack: sums in another order differ in the last digits.
    return float((np.abs(means) >= abs(differences.sum()) - 1e-12).mean())


def smallest_p(draws: int) -> float:
    """The smallest value that `sign_flip_p` can give with so many draws, in (0, 1]."""
    return 2.0 / 2**draws if draws <= _EXACT else 1.0 / _FLIPS


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down: p values in [0, 1] that hold for all comparisons together, in the order given."""
    corrected = [0.0] * len(p)
    worst = 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        worst = max(worst, min(1.0, (len(p) - rank) * p[i]))
        corrected[i] = worst
    return corrected
