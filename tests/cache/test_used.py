"""Counts of used rows add up, whatever is left out in whatever order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uml_cache.used import Tally, Used, left_out_csv


@given(
    rows=st.integers(0, 40),
    masks=st.lists(st.tuples(st.integers(0, 2**32 - 1), st.sampled_from("abcd")), max_size=6),
)
def test_numbers_add_up_and_every_row_keeps_its_first_reason(rows: int, masks: list[tuple[int, str]]) -> None:
    tally, expected = Tally(rows), [""] * rows
    for seed, reason in masks:
        mask = np.random.default_rng(seed).random(rows) < 0.3
        tally.leave_out(mask if seed % 2 else np.flatnonzero(mask), reason)
        expected = [old or (reason if new else "") for old, new in zip(expected, mask.tolist(), strict=True)]
    used = tally.used
    assert used.used + sum(used.left_out.values()) == used.total == rows
    assert used.used == expected.count("") == int(tally.kept.sum())
    assert [reason for _, reason in tally.left_out()] == [reason for reason in expected if reason]
    assert Used.from_json(used.to_json()) == used


def test_wording() -> None:
    assert Used(1_234, 1_234).text() == "1,234 of 1,234 used"
    assert Used(90, 100, {"no label": 8, "unreadable": 2}).text() == (
        "90 of 100 used; left out: no label (8), unreadable (2)"
    )
    with pytest.raises(ValueError, match="are not 100 rows"):
        Used(90, 100, {"no label": 8})
    assert left_out_csv([("image", 'a,"b"', "no label")]) == 'source,id,reason\nimage,"a,""b""",no label\n'
