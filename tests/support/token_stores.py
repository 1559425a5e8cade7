"""Small stores of ragged sequences, with classes that the tokens tell apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from uml_cache import StorePlan, create_or_resume, store_path

CLASSES = ("rising", "falling", "level")


def write_ids(feats: Path, vocabulary: int, rows: int, *, seed: int = 0) -> Path:
    """Unlabelled texts of token ids; row i counts upwards from a number of its own."""
    rng = np.random.default_rng([seed, vocabulary])
    counts = rng.integers(2, 8, rows).astype(np.int32)
    ids = [(rng.integers(vocabulary) + np.arange(n)) % vocabulary for n in counts]
    plan = StorePlan(
        dataset="toy",
        modality="text",
        encoder={"name": "ids", "vocabulary": vocabulary},
        variant="tokens",
        manifest_digest="1" * 64,
        classes=(),
        ids=[f"text-{i}" for i in range(rows)],
        labels=np.full(rows, -1, dtype=np.int32),
        splits=np.full(rows, 255, dtype=np.uint8),
        token_dim=1,
        token_counts=counts,
        dtype="int32",
        batch_size=1,
        versions={},
        device="cpu",
    )
    store = create_or_resume(store_path(feats, "toy", "text", None, "ids", "tokens"), plan)
    for task in store.pending():
        part = store.rows_of(task)
        values = np.concatenate([ids[i] for i in part])[:, None].astype(np.int32)
        store.write_task(task, None, values, np.zeros(len(part), dtype=np.uint8), {}, 0.0)
    return store.path


def write_sequences(
    feats: Path,
    modality: str,
    dim: int,
    rows: int,
    *,
    dataset: str = "toy",
    splits: np.ndarray | None = None,
    labelled: bool = True,
    lengths: tuple[int, int] = (2, 7),
    empty: tuple[int, ...] = (),
    seed: int = 0,
) -> Path:
    """A store with pooled means and tokens; row i has class i mod 3, and a length that `lengths` allows."""
    rng = np.random.default_rng([seed, dim])
    counts = rng.integers(lengths[0], lengths[1] + 1, rows).astype(np.int32)
    counts[list(empty)] = 0
    labels = np.arange(rows, dtype=np.int32) % len(CLASSES)
    centres = np.random.default_rng(dim).standard_normal((len(CLASSES), dim))
    tokens = [centres[c] + 0.7 * rng.standard_normal((n, dim)) for c, n in zip(labels, counts, strict=True)]
    pooled = np.stack([t.mean(0) if len(t) else np.zeros(dim) for t in tokens]).astype(np.float32)
    plan = StorePlan(
        dataset=dataset,
        modality=modality,
        encoder={"name": "made-up"},
        variant="tokens",
        manifest_digest="0" * 64,
        classes=CLASSES if labelled else (),
        ids=[f"{dataset}-{modality}-{i}" for i in range(rows)],
        labels=labels if labelled else np.full(rows, -1, dtype=np.int32),
        splits=np.full(rows, 255, dtype=np.uint8) if splits is None else splits.astype(np.uint8),
        pooled_dim=dim,
        token_dim=dim,
        token_counts=counts,
        dtype="float32",
        batch_size=1,
        versions={},
        device="cpu",
    )
    store = create_or_resume(store_path(feats, dataset, modality, None, "made-up", "tokens"), plan)
    for task in store.pending():
        part = store.rows_of(task)
        values = np.concatenate([tokens[i] for i in part] or [np.zeros((0, dim))]).astype(np.float32)
        status = np.zeros(len(part), dtype=np.uint8)
        store.write_task(task, pooled[part.start : part.stop], values, status, {}, 0.0)
    return store.path
