"""Small stores made through the store's own writing path, for any test that needs features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from uml_cache import StorePlan, create_or_resume, store_path

CLASSES = ("red circle", "blue circle", "red square", "blue square", "green star")


def write_store(
    feats: Path,
    modality: str,
    features: np.ndarray,
    labels: Sequence[int],
    splits: Sequence[int],
    *,
    dataset: str = "toy",
    set: str | None = None,
    encoder: str = "made-up",
    variant: str | None = None,
    classes: Sequence[str] = CLASSES,
    failed: Sequence[int] = (),
    groups: Sequence[str] | None = None,
    tasks: int | None = None,
    joint_space: str | None = None,
    tokens: Sequence[np.ndarray] | None = None,
    ids: Sequence[str] | None = None,
    id_kind: str = "given",
    spec: Mapping[str, str] | None = None,
) -> Path:
    """Write features (N, D) as a store; `tasks` leaves it unsealed after so many of them.

    `tokens` are N arrays (T_i, D'), each of its own length; `spec` says more of the encoder.
    """
    path = store_path(feats, dataset, modality, set, encoder, variant)
    plan = StorePlan(
        dataset=dataset,
        modality=modality,
        set=set,
        encoder={"name": encoder, "joint_space": joint_space, **(spec or {})},
        variant=variant,
        manifest_digest="0" * 64,
        classes=classes,
        ids=ids or [f"{modality}-{i}" for i in range(len(features))],
        id_kind=id_kind,
        labels=np.asarray(labels, dtype=np.int32),
        splits=np.asarray(splits, dtype=np.uint8),
        groups=groups,
        pooled_dim=features.shape[1],
        token_dim=None if tokens is None else tokens[0].shape[1],
        token_counts=None if tokens is None else np.array([len(t) for t in tokens], dtype=np.int32),
        batch_size=1,
        versions={},
        device="cpu",
    )
    store = create_or_resume(path, plan)
    status = np.zeros(len(features), dtype=np.uint8)
    status[list(failed)] = 1
    for task in store.pending()[:tasks]:
        rows = store.rows_of(task)
        part = slice(rows.start, rows.stop)
        reasons = {row: "unreadable" for row in rows if status[row]}
        packed = None if tokens is None else np.concatenate(tokens[part]).astype(np.float32)
        store.write_task(task, features[part].astype(np.float32), packed, status[part], reasons, 0.0)
    return path


def clusters(seed: int, labels: np.ndarray, dim: int, noise: float) -> np.ndarray:
    """Features (N, dim) around class centres that depend on `dim` alone."""
    centres = np.random.default_rng(dim).standard_normal((int(labels.max()) + 1, dim))
    return centres[labels] + noise * np.random.default_rng(seed).standard_normal((len(labels), dim))
