"""The values of what is imported: checked and digested, then written task by task.

Shapes: N samples, D features, T tokens of all samples, E their width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from uml_cache.errors import InputError
from uml_cache.exchange.table import Part
from uml_cache.store.feature_store import FeatureStore
from uml_cache.store.plans.layout import IDS

_PIECE = 8192  # rows looked at together


def values_digest(parts: list[Part], ids: list[str], dtype: str) -> Any:
    """sha256 over all values, which are checked on the way: finite, and within the stored dtype.

    Raises:
        InputError: a value that is not finite, or too large for the dtype.
    """
    digest = hashlib.sha256()
    first = 0
    largest = float((np.iinfo if dtype == IDS else np.finfo)(dtype).max)
    for part in parts:
        failed = np.zeros(part.rows, bool) if part.status is None else part.status != 0
        for name in ("features", "tokens"):
            array = getattr(part, name)
            if array is None:
                continue
            owner = np.arange(part.rows)
            if name == "tokens" and part.lengths is not None:
                owner = np.repeat(owner, part.lengths)
            for at in range(0, len(array), _PIECE):
                values = np.ascontiguousarray(array[at : at + _PIECE])
                digest.update(values.tobytes())
                size = np.abs(values.astype(np.float64))
                good = (size <= largest).all(axis=1) | failed[owner[at : at + _PIECE]]
                if good.all():
                    continue
                row = int(owner[at + int(np.argmin(good))])
                values = np.asarray(array[at + int(np.argmin(good))], np.float64)
                who = f"{part.where}: {name} of row {row} ({ids[first + row]!r})"
                if np.isfinite(values).all():
                    advice = "import with --dtype float32" if dtype == "float16" else "scale the features"
                    raise InputError(f"{who}: {np.abs(values).max():.4g} is too large for {dtype}; {advice}")
                raise InputError(f"{who} are not finite; fix the file, or give the row a status other than 0")
        first += part.rows
    return digest


def write_parts(store: FeatureStore, parts: list[Part], progress: Callable[[int], Any] | None) -> None:
    """Write the tasks of the store that are not done yet; failed rows become zeros."""
    starts = np.concatenate([[0], np.cumsum([part.rows for part in parts])])
    for task in store.pending():
        rows = store.rows_of(task)
        pooled, tokens, status = [], [], []
        for part, start in zip(parts, starts[:-1].tolist(), strict=True):
            low, high = max(rows.start - start, 0), min(rows.stop - start, part.rows)
            if low >= high:
                continue
            status.append(np.zeros(high - low, np.uint8) if part.status is None else part.status[low:high])
            if part.features is not None:
                pooled.append(_clean(part.features[low:high], status[-1]))
            if part.tokens is not None and part.lengths is not None:
                ends = np.concatenate([[0], np.cumsum(part.lengths)])
                owners = np.repeat(status[-1], part.lengths[low:high])
                tokens.append(_clean(part.tokens[ends[low] : ends[high]], owners))
        store.write_task(
            task,
            np.concatenate(pooled) if pooled else None,
            np.concatenate(tokens) if tokens else None,
            np.concatenate(status),
            {},
            0.0,
        )
        if progress:
            progress(len(rows))


def _clean(values: Any, status: np.ndarray) -> np.ndarray:
    """The rows as floating point; failed ones are zero whatever the file held."""
    array = np.array(values)
    if array.dtype.kind != "f":
        array = array.astype(np.float64)
    array[status != 0] = 0
    return array
