"""The four words, and how many seeds would find another one than `can't tell`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uml_evaluate.comparing.rows import interval_fields
from uml_evaluate.comparing.statistics import Interval, generator_for, paired_difference
from uml_evaluate.comparing.verdict import seeds_to_tell, tells, verdict


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.1, 0.9, "helps"),  # small, and 0 is looked at first
        (2.0, 9.0, "helps"),
        (-0.9, -0.1, "hurts"),
        (-0.9, 0.9, "no difference"),
        (-1.0, 1.0, "no difference"),
        (0.0, 0.0, "no difference"),
        (-1.1, 0.2, "can't tell"),
        (-0.2, 1.1, "can't tell"),
        (None, None, "can't tell"),
    ],
)
def test_the_word_follows_the_interval(low: float | None, high: float | None, word: str) -> None:
    assert verdict(low, high) == word
    assert Interval(0.0, low, high, 5).verdict == word
    assert (interval_fields(Interval(0.0, low, high, 5))["seeds_to_tell"] is None) == (word != "can't tell")


@given(st.floats(-50, 50), st.floats(0, 50), st.floats(0, 50))
def test_an_interval_has_one_word_and_its_mirror_the_opposite(low: float, more: float, small: float) -> None:
    opposite = {"helps": "hurts", "hurts": "helps"}
    word = verdict(low, low + more, small=small)
    assert verdict(-low - more, -low, small=small) == opposite.get(word, word)
    assert (word in opposite) == (low > 0 or low + more < 0)


@given(
    st.floats(-5, 5).filter(lambda d: abs(abs(d) - 0.5) > 1e-3), st.floats(0.1, 20), st.integers(3, 30),
    st.floats(0, 0.4),
)  # fmt: skip
def test_as_many_seeds_as_are_said_would_tell(delta: float, reach: float, draws: int, rows: float) -> None:
    interval = Interval(delta, delta - reach, delta + reach, draws, rows)
    if interval.verdict != "can't tell":
        assert tells(interval) == ""
        return
    needed = seeds_to_tell(interval)
    if needed is None:
        return
    fixed = min(rows, reach)
    then = np.sqrt(fixed**2 + (reach**2 - fixed**2) * draws / needed) * (1 - 1e-9)
    assert needed > draws
    assert verdict(delta - then, delta + then) != "can't tell"
    assert f"{needed} seeds would tell" in tells(interval)


def test_without_an_interval_it_takes_three_seeds() -> None:
    assert tells(Interval(4.0, None, None, 1)) == "an interval takes 3 seeds"
    with pytest.raises(ValueError, match="no more seeds"):
        seeds_to_tell(Interval(4.0, 3.0, 5.0, 4))


def test_test_rows_that_are_too_few_are_no_matter_of_seeds() -> None:
    """Both methods give every draw the same answers: more draws repeat them."""
    generator = np.random.default_rng(0)
    d_n = generator.choice([-1.0, 0.0, 1.0], p=[0.24, 0.5, 0.26], size=100)
    d_sn = np.repeat(d_n[None], 5, axis=0)
    found = paired_difference(d_sn, np.zeros_like(d_sn), rng=generator_for("rows")).scaled(100.0)
    assert found.verdict == "can't tell"
    assert found.rows_reach == pytest.approx((found.high - found.low) / 2, rel=0.15)
    assert seeds_to_tell(found) is None
    assert "more test rows might" in tells(found)


def test_noise_of_the_draws_is_no_part_of_the_rows() -> None:
    """Answers that have nothing to do with their rows: more draws are all it takes."""
    generator = np.random.default_rng(1)
    a_sn, b_sn = generator.random((2, 20, 400)) < 0.5
    found = paired_difference(a_sn, b_sn, rng=generator_for("noise"))
    assert found.rows_reach < 0.5 * (found.high - found.low) / 2
