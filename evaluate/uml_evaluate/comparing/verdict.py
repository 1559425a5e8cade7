"""What a difference with its interval says, in one of four words, wherever one is reported.

    helps           the interval lies above 0
    hurts           the interval lies below 0
    no difference   it holds 0 and lies inside ±1 point
    can't tell      it holds 0 and is wider than that, or there is no interval

0 is looked at first: a difference of half a point whose interval leaves 0 out helps, small as it is.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from uml_evaluate.comparing.statistics import Interval

Word = Literal["helps", "hurts", "no difference", "can't tell"]

HELPS: Word = "helps"
HURTS: Word = "hurts"
NO_DIFFERENCE: Word = "no difference"
CANNOT_TELL: Word = "can't tell"

SMALL = 1.0
"""Points; a difference inside ± this is none that matters."""

MARKS: dict[Word, str] = {HELPS: "*", HURTS: "*", NO_DIFFERENCE: "=", CANNOT_TELL: ""}
"""How a table marks a difference; its sign tells `helps` from `hurts`."""

MOST_SEEDS = 1000

MIN_DRAWS = 3
"""Below this many draws (or data sets) no interval is given: two numbers do not show a spread."""


def verdict(low: float | None, high: float | None, *, small: float = SMALL) -> Word:
    """The word for an interval from `low` to `high`; None for either end: there is no interval.

    Args:
        small: in the units of the ends; a difference inside ± this is none.
    """
    if low is None or high is None:
        return CANNOT_TELL
    if low > 0.0:
        return HELPS
    if high < 0.0:
        return HURTS
    return NO_DIFFERENCE if -small <= low and high <= small else CANNOT_TELL


def seeds_to_tell(interval: Interval) -> int | None:
    """About how many seeds would turn `can't tell` into another word, were the difference as it was seen.

    The part of the interval that comes from the seeds shrinks with their root; the part that comes from the
    test rows stays. None where that part alone is too wide (or it takes more than 1,000 seeds): only more
    test rows would tell. Without an interval it takes as many seeds as give one.

    Raises:
        ValueError: the verdict is another one.
    """
    if interval.low is None or interval.high is None:
        return MIN_DRAWS
    if interval.verdict != CANNOT_TELL:
        raise ValueError(f"the verdict is {interval.verdict!r}: no more seeds are needed")
    small = interval.unit.small
    delta, reach = abs(interval.delta), (interval.high - interval.low) / 2.0
    # It tells once 0 is out of reach, or the whole interval inside ± small.
    wanted = max(delta, small - delta)
    fixed = min(interval.rows_reach, reach)
    if wanted <= fixed:
        return None
    needed = ceil(interval.draws * (reach**2 - fixed**2) / (wanted**2 - fixed**2))
    # An interval that is not symmetric may ask for less than there is.
    needed = max(needed, interval.draws + 1)
    return needed if needed <= MOST_SEEDS else None


def tells(interval: Interval, *, unit: str = "seeds") -> str:
    """What would tell, where the verdict is `can't tell`: `about 14 seeds would tell`; else empty."""
    if interval.verdict != CANNOT_TELL:
        return ""
    needed = seeds_to_tell(interval)
    if needed is None:
        return f"more {unit} would not tell, more test rows might"
    if interval.low is None:
        return f"an interval takes {needed} {unit}"
    return f"about {needed} {unit} would tell"
