"""A small sealed store to read, and the values that it must give back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uml_cache import FeatureStore, StorePlan, create_or_resume


@dataclass
class Made:
    """A store and what was written to it: pooled (N, D), tokens (sum of counts, E), both float32."""

    path: Path
    plan: StorePlan
    store: FeatureStore
    pooled: np.ndarray | None
    tokens: np.ndarray | None
    status: np.ndarray

    def arguments(self, task: int) -> tuple[Any, ...]:
        """What the extractor would pass to `write_task`."""
        rows = self.store.rows_of(task)
        here = slice(rows.start, rows.stop)
        tokens = None
        if self.tokens is not None:
            ends = np.concatenate([[0], np.cumsum(self.plan.token_counts)])
            tokens = self.tokens[ends[rows.start] : ends[rows.stop]]
        pooled = None if self.pooled is None else self.pooled[here]
        reasons = {row: "cannot read" for row in rows if self.status[row]}
        return task, pooled, tokens, self.status[here], reasons, 0.5

    def fill(self, tasks: list[int] | None = None) -> Made:
        for task in self.store.pending() if tasks is None else tasks:
            self.store.write_task(*self.arguments(task))
        return self


def make(
    path: Path, rows: int = 300, dim: int | None = 32, token_dim: int | None = 32, **changes: Any
) -> Made:
    generator = np.random.default_rng(rows)
    counts = changes.pop("token_counts", None)
    failed = changes.pop("failed", ())
    if token_dim is not None and counts is None:
        counts = generator.integers(0, 6, rows).astype(np.int32)
    fields: dict[str, Any] = {
        "dataset": "pets",
        "modality": "image",
        "encoder": {"name": "hf:org/net", "pooling": "cls", "transform": {"size": 224}},
        "manifest_digest": "m" * 64,
        "classes": ["cat", "dog", "Hündin"],
        "ids": [f"Bild/{row}ß" for row in range(rows)],
        "labels": generator.integers(-1, 3, rows).astype(np.int32),
        "splits": generator.choice(np.array([0, 1, 2, 255], np.uint8), rows),
        "groups": [f"g{row % 7}" for row in range(rows)],
        "pooled_dim": dim,
        "token_dim": token_dim,
        "token_counts": counts,
        "batch_size": 16,
        "versions": {"torch": "2"},
        "device": "cpu",
    }
    plan = StorePlan(**{**fields, **changes})
    pooled = None if dim is None else generator.normal(size=(rows, dim)).astype(np.float32)
    tokens = None
    if token_dim is not None:
        tokens = generator.normal(size=(int(counts.sum()), token_dim)).astype(np.float32)
    status = np.zeros(rows, np.uint8)
    status[list(failed)] = 1
    return Made(path, plan, create_or_resume(path, plan), pooled, tokens, status)


@pytest.fixture
def maker(tmp_path: Path) -> Callable[..., Made]:
    """`maker(rows=…, dim=…, …)`: a store in the test's folder, planned and not yet filled."""
    return lambda name="store.zarr", **options: make(tmp_path / name, **options)


@pytest.fixture(scope="session")
def make_at() -> Callable[..., Made]:
    """`make_at(path, …)`, for tests that make many stores."""
    return make


@pytest.fixture(scope="session")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A sealed store of 300 rows with pooled features and tokens; rows 5 and 290 failed. Only for reading."""
    folder = tmp_path_factory.mktemp("feats") / "pets" / "image"
    return make(folder / "hf_org_net.zarr", failed=(5, 290)).fill()
