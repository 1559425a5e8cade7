"""What each row of a store was made from, so that a changed sample is found without being read.

    FEATS/<dataset>/<modality>/<encoder>.stamps

Stamps are a hint and no part of the store: four words that say which store they are of, then one of uint64
for each row. A file that was copied has a new stamp: then its sample is encoded once more, and compared.
Without stamps a sample with a known id counts as unchanged.

Shapes: N rows of a store.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import cast

import numpy as np

from uml_cache.files.disk import write_atomic
from uml_cache.remote import RemotePath

UNKNOWN = 0
_HEAD = 4  # words of the sha256 that says which store they are of


def write_stamps(store: Path, stamp: str, stamps: np.ndarray) -> None:
    """Keep the stamps (N,) uint64 of the rows of `store`, whose plan has this `stamp`."""
    data = np.concatenate([_head(stamp), stamps.astype("<u8")]).tobytes()
    place = cast("Path | RemotePath", _beside(store))
    if isinstance(place, RemotePath):
        place.replace(data)
    else:
        write_atomic(place, data)


def read_stamps(store: Path, stamp: str, rows: int) -> np.ndarray | None:
    """The stamps (N,) uint64; None where none were kept, or those of another store."""
    try:
        words = np.frombuffer(_beside(store).read_bytes(), "<u8")
    except (OSError, ValueError):
        return None
    if len(words) != _HEAD + rows or not np.array_equal(words[:_HEAD], _head(stamp)):
        return None
    return words[_HEAD:].astype(np.uint64)


def _beside(store: Path) -> Path:
    return store.parent / f"{store.name.removesuffix('.zarr')}.stamps"


def _head(stamp: str) -> np.ndarray:
    return np.frombuffer(hashlib.sha256(stamp.encode()).digest(), "<u8")
