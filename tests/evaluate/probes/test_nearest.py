"""The nearest rows: what products in bfloat16 find is what float32 finds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uml_evaluate.metrics.bfloat import with_addend, with_ones
from uml_evaluate.probes.nearest import Keys

ROWS, QUERIES, D, K = 3_000, 40, 24, 20


def _features(kind: str, rows: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, D, generator=generator)
    if kind == "offset":  # all rows share most of their length
        return x + 30.0
    if kind == "clusters":  # 300 rows are nearly the same: rounding cannot tell them apart
        centres = torch.randn(10, D, generator=torch.Generator().manual_seed(0))
        return centres[torch.arange(rows) % 10] + 0.03 * x
    if kind == "one far":
        x[0] *= 1e4
    return x


@settings(deadline=None)
@given(kind=st.sampled_from(["plain", "offset", "clusters", "one far"]), seed=st.integers(1, 100))
def test_the_fast_way_finds_the_same_rows(kind: str, seed: int) -> None:
    keys, queries = Keys.of(_features(kind, ROWS, seed)), _features(kind, QUERIES, seed + 1_000)
    plain, rows = keys.nearest(queries, K, fast=False)
    values, found = keys.nearest(queries, K, fast=True)
    torch.testing.assert_close(values, plain, rtol=0, atol=2e-6)
    # Rows may change places where their cosines differ by no more than float32's sums do.
    exact = keys.relative(queries)
    torch.testing.assert_close(exact.gather(1, found), exact.gather(1, rows), rtol=0, atol=2e-6)
    assert all(len(set(row.tolist())) == K for row in found)


def test_as_many_neighbours_as_rows() -> None:
    keys = Keys.of(_features("plain", 30, 1))
    values, rows = keys.nearest(_features("plain", 5, 2), 30, fast=True)
    assert (values.diff(dim=1) <= 0).all()
    assert (rows.sort(dim=1).values == torch.arange(30)).all()


@pytest.mark.parametrize("both", [False, True])
def test_addends_take_part_in_all_their_digits(both: bool) -> None:
    rows, others = _features("plain", 7, 1), _features("plain", 5, 2)
    mine, theirs = 1000 * torch.rand(7), 1000 * torch.rand(5)
    found = with_addend(rows, mine).float() @ with_ones(others, theirs if both else None).float().T
    wanted = rows.bfloat16().float() @ others.bfloat16().float().T + mine[:, None] + both * theirs
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
