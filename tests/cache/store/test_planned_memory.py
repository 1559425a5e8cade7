"""Ids are written without a second copy of each as an object of its own."""

from __future__ import annotations

import tracemalloc

from uml_cache.store.plans.layout import planned_chunks


def test_writing_ids_takes_little_more_than_their_bytes() -> None:
    ids = [f"{row:012d}" for row in range(100_000)]
    tracemalloc.start()
    (chunk,) = planned_chunks(ids, "string")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(chunk) == 4 + 16 * len(ids)
    # The buffer, which grows by an eighth at a time, and its copy; a list of pieces took ten times as much.
    assert peak < 2.5 * len(chunk) + 8 * len(ids)
