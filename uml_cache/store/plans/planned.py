"""What planning writes of a store: its metadata, and the columns that are known before extraction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from uml_cache.store import journal
from uml_cache.store.plans.layout import empty_metadata, group_metadata, planned_chunks, planned_metadata
from uml_cache.store.plans.plan import StorePlan


def planned_contents(plan: StorePlan) -> dict[str, bytes]:
    """The files that planning writes, by their path in the store: metadata, and the columns known already."""
    layout = plan.layout
    columns: dict[str, tuple[np.ndarray | Sequence[str], str]] = {
        "label": (plan.labels, "int32"),
        "split": (plan.splits, "uint8"),
        "id": (plan.ids, "string"),
    }
    if plan.groups is not None:
        columns["group"] = (plan.groups, "string")
    if plan.samples is not None:
        columns["sample"] = (plan.samples, "uint64")
    if layout.token_start is not None and plan.token_counts is not None:
        columns["tokens/start"] = (layout.token_start, "int64")
        columns["tokens/length"] = (plan.token_counts, "int32")
    contents = {"zarr.json": _metadata(group_metadata(plan.attributes))}
    contents[f"{journal.JOURNAL}/zarr.json"] = _metadata(empty_metadata())
    if plan.token_dim is not None:
        contents["tokens/zarr.json"] = _metadata(group_metadata({}))
    for array in layout.arrays:
        contents[f"{array.name}/zarr.json"] = _metadata(array.metadata())
    for name, (values, dtype) in columns.items():
        contents[f"{name}/zarr.json"] = _metadata(planned_metadata(len(plan.ids), dtype))
        for at, chunk in enumerate(planned_chunks(values, dtype)):
            contents[f"{name}/c/{at}"] = chunk
    return contents


def _metadata(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False).encode()
