"""How rows are cut into tasks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uml_cache.store.plans.layout import SHARD_BYTES, plan_layout


@pytest.mark.parametrize(
    ("rows", "dtype", "dim", "task_rows"),
    [
        (1_000_000, "float16", 384, 8192),
        (65_536, "float16", 384, 8192),
        (57_345, "float16", 384, 8192),  # the eighth task holds one row
        (57_344, "float16", 384, 4096),  # seven tasks of 8192 are too few
        (1_000_000, "float16", 4096, 4096),
        (1_000_000, "float32", 4096, 2048),
        (449, "float16", 8, 64),
        (100, "float16", 8, 64),  # fewer than eight tasks only where there is no smaller size
        (1, "float16", 8, 64),
        (1_000_000, "float32", 1_000_000, 64),  # nor a smaller shard
    ],
)
def test_task_size(rows: int, dtype: str, dim: int, task_rows: int) -> None:
    assert plan_layout(rows, dtype, dim, None, None).task_rows == task_rows


def test_tokens_bound_the_task_size() -> None:
    layout = plan_layout(100_000, "float16", 384, 384, np.full(100_000, 257, np.int32))
    assert layout.task_rows == 256
    assert layout.token_rows * 384 * 2 <= SHARD_BYTES < 2 * layout.token_rows * 384 * 2


@given(counts=st.lists(st.integers(0, 40), min_size=1, max_size=700))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_token_places(counts: list[int]) -> None:
    lengths = np.array(counts, np.int32)
    layout = plan_layout(len(counts), "float16", None, 4, lengths)
    start = layout.token_start
    assert start is not None
    size, room = layout.task_rows, layout.token_rows
    assert room % min(size, 1024) == 0
    for task in range(layout.tasks):
        here = slice(task * size, (task + 1) * size)
        before = np.concatenate([[0], np.cumsum(lengths[here])])
        assert start[here].tolist() == (task * room + before[:-1]).tolist()
        assert before[-1] <= room
    largest = max(lengths[at : at + size].sum() for at in range(0, len(counts), size))
    assert room - largest < min(size, 1024) or room == min(size, 1024)
