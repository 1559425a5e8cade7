"""Splits of rows that came in several goes: what came later moves nothing, and cuts no group."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from uml_manifests import grown_split, stratified_split


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    classes=st.integers(1, 5),
    kind=st.sampled_from(["rows", "groups", "views"]),
    seed=st.integers(0, 9),
)
def test_what_comes_later_moves_nothing(sizes: list[int], classes: int, kind: str, seed: int) -> None:
    ends = np.cumsum([sizes[0] + 60, *sizes[1:]]).tolist()  # enough groups for three parts
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, ends[-1])
    names = [f"g{n}" if n else "" for n in rng.integers(0, 15, ends[-1])] if kind == "groups" else None
    samples = rng.integers(0, ends[-1], ends[-1]).astype(np.uint64) if kind == "views" else None

    def draw(count: int) -> np.ndarray:
        part = [end for end in ends if end <= count]
        some = None if names is None else names[:count]
        of = None if samples is None else samples[:count]
        return grown_split(labels[:count], some, seed, samples=of, ends=part)

    first = None if names is None else names[: ends[0]]
    of_first = None if samples is None else samples[: ends[0]]
    alone = stratified_split(labels[: ends[0]], first, seed, samples=of_first)
    assert np.array_equal(draw(ends[0]), alone)
    whole = draw(ends[-1])
    for end in ends:
        assert np.array_equal(draw(end), whole[:end])
    assert set(np.unique(whole)) <= {0, 1, 2}
    if samples is not None and names is None:
        assert len(set(zip(samples.tolist(), whole.tolist(), strict=True))) == len(set(samples.tolist()))
    if names is not None and samples is None:
        pairs = {(name, code) for name, code in zip(names, whole.tolist(), strict=True) if name}
        assert len(pairs) == len({name for name in names if name})


def test_many_new_rows_reach_every_part() -> None:
    labels = np.repeat([0, 1], 100)
    codes = grown_split(labels, None, 0, ends=[100, 200])
    assert [int((codes[100:] == code).sum()) for code in (0, 1, 2)] == [60, 20, 20]
