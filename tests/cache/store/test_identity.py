"""A store's fingerprint is its content; its plan is how the content is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from uml_cache import store_info

Maker = Callable[..., Any]


def test_another_byte_is_another_fingerprint(maker: Maker) -> None:
    made = maker().fill()
    before = store_info(made.path).fingerprint
    made.pooled[70, 3] += 1
    made.fill([1])
    changed = store_info(made.path)
    assert changed.fingerprint != before
    assert changed.fingerprint == made.store.fingerprint
    made.pooled[70, 3] -= 1
    made.fill([1])
    assert store_info(made.path).fingerprint == before


@pytest.mark.parametrize(
    "change",
    [
        {"labels": np.zeros(300, np.int32)},
        {"splits": np.zeros(300, np.uint8)},
        {"ids": [f"other/{row}" for row in range(300)]},
        {"groups": None},
        {"failed": [7]},
        {"classes": ["dog", "cat", "Hündin"]},
        {"encoder": {"name": "hf:org/net", "pooling": "mean"}},
        {"dtype": "float32"},
    ],
)
def test_what_the_rows_mean_is_part_of_the_fingerprint(maker: Maker, change: dict[str, Any]) -> None:
    one, other = maker("one.zarr").fill(), maker("other.zarr", **change).fill()
    assert store_info(one.path).fingerprint != store_info(other.path).fingerprint


def test_the_same_bytes_made_again_are_the_same_store(maker: Maker) -> None:
    one = maker("one.zarr").fill()
    again = maker("again.zarr", versions={"torch": "3"}, device="cuda", batch_size=8).fill([4, 2, 0, 1, 3])
    assert store_info(one.path).fingerprint == store_info(again.path).fingerprint


def test_the_plan_is_not_the_list_of_samples(maker: Maker) -> None:
    one = maker("one.zarr").fill()
    longer = maker("longer.zarr", rows=400, manifest_digest="n" * 64)
    other = maker("other.zarr", batch_size=8)
    plan = store_info(one.path).plan
    assert plan == one.plan.digest == store_info(longer.path).plan
    assert plan != store_info(other.path).plan
    assert one.plan.stamp != longer.plan.stamp


def test_a_damaged_record_leaves_a_list_without_a_fingerprint(maker: Maker) -> None:
    made = maker().fill()
    record = made.path / "journal" / "2.json"
    record.write_bytes(record.read_bytes().replace(b'"rows": 64', b'"rows": 63'))
    assert store_info(made.path).summary()["fingerprint"] is None


def test_a_foreign_store_is_known_by_its_bytes(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "net.zarr")
    group.create_array("pooled", data=np.ones((300, 8), np.float32), chunks=(100, 8))
    before = store_info(tmp_path / "net.zarr").fingerprint
    assert before == store_info(tmp_path / "net.zarr").fingerprint
    group["pooled"][7, 3] = 2
    changed = store_info(tmp_path / "net.zarr").fingerprint
    group["pooled"][7, 3] = 1
    assert changed != before
    assert store_info(tmp_path / "net.zarr").fingerprint == before
