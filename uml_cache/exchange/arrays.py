"""Features that are in memory become a store.

Shapes: N samples, D features.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache.store.plans.plan import StorePlan, store_path
from uml_cache.store.plans.planning import create_or_resume
from uml_cache.tables.views import MADE, sample_keys


def store_arrays(
    out: Path,
    features: np.ndarray,
    *,
    dataset: str,
    modality: str,
    encoder: Mapping[str, Any],
    labels: np.ndarray,
    classes: Sequence[str],
    splits: np.ndarray,
    set: str | None = None,
    variant: str | None = None,
    groups: Sequence[str] | None = None,
    samples: Sequence[str] | None = None,
    reasons: Mapping[int, str] | None = None,
    dtype: str = "float32",
) -> Path:
    """Write a sealed store below `out`; the same call again changes nothing.

    Args:
        features: (N, D).
        labels, splits: (N,) codes as in `StorePlan`.
        samples: N texts, equal where rows are views of one sample; None: each row is one.
        reasons: why rows have no features, by row.

    Raises:
        InputError: another store is there, or see `StorePlan`.
        WorkError: a value that is not finite, or too large for `dtype`.
    """
    ids = [str(row) for row in range(len(features))]
    values = np.ascontiguousarray(features)
    digest = hashlib.sha256(f"{values.dtype.str} {values.shape}".encode())
    for part in (values, labels, splits):
        digest.update(np.ascontiguousarray(part).data)
    digest.update(json.dumps([list(classes), list(groups or ()), sorted(reasons or ())]).encode())
    plan = StorePlan(
        dataset=dataset,
        modality=modality,
        set=set,
        encoder=dict(encoder),
        variant=variant,
        manifest_digest=digest.hexdigest(),
        classes=list(classes),
        ids=ids,
        labels=labels,
        splits=splits,
        groups=groups,
        samples=sample_keys(ids if samples is None else samples),
        id_kind=MADE,
        pooled_dim=int(values.shape[1]),
        dtype=dtype,
        compute_dtype=dtype,
        batch_size=1,
        versions={"uml-cache": version("uml-cache"), "numpy": np.__version__},
        device="memory",
    )
    path = store_path(out, dataset, modality, set, str(encoder["name"]), variant)
    store = create_or_resume(path, plan)
    status = np.zeros(len(values), np.uint8)
    status[list(reasons or ())] = 1
    with store.lock():
        for task in store.pending():
            rows = slice(store.rows_of(task).start, store.rows_of(task).stop)
            store.write_task(task, values[rows], None, status[rows], dict(reasons or {}), 0.0)
    return path
