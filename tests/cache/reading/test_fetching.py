"""The disk is asked at once for few rows that are going to be read: for their pages, and for no others."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from toy_stores import write_store
from uml_cache import open_features
from uml_cache.reading import mapping, sources

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mapping needs Linux")
PAGE = mmap.PAGESIZE


def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    calls: list[tuple[int, int, int]] = []
    monkeypatch.setattr(
        mapping, "_libc", lambda: SimpleNamespace(madvise=lambda *call: calls.append(call) or 0)
    )
    return calls


@pytest.mark.parametrize("row_bytes", [2, 768, 4096, 6144, 10_000])
def test_pages_of_rows_and_no_others(row_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = asked(monkeypatch)
    rows = np.random.default_rng(row_bytes).integers(0, 3_000, size=200)
    mapping.fetch(7 * PAGE, rows, row_bytes)
    wanted = {
        page
        for row in rows
        for page in range(row * row_bytes // PAGE, ((row + 1) * row_bytes - 1) // PAGE + 1)
    }
    found = [
        page for start, size, _ in calls for page in range(start // PAGE - 7, (start + size) // PAGE - 7)
    ]
    assert all(start % PAGE == 0 and size % PAGE == 0 and how == 3 for start, size, how in calls)
    assert sorted(found) == sorted(wanted)  # each once
    assert len(calls) <= len(set(rows.tolist()))


def test_few_rows_of_a_store_are_fetched_and_are_what_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(0).normal(size=(2_000, 64)).astype(np.float16)
    path = write_store(tmp_path, "image", values, np.arange(2_000) % 5, np.zeros(2_000))
    features = open_features(path)
    assert features.access == "mapped"
    rows = np.array([1_999, 3, 3, 700])
    assert np.array_equal(features.pooled_of(rows)[rows].numpy(), values[rows])
    calls = asked(monkeypatch)
    features.pooled_of(rows)
    assert sum(size for _, size, _ in calls) == 3 * PAGE
    features.pooled_of(np.zeros(0, np.int64))
    monkeypatch.setattr(sources, "_FEW_ROWS", 3)
    features.pooled_of(rows)  # of many rows the system reads ahead by itself
    assert len(calls) == 3
