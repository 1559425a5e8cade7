"""What samples are made from: a digest of each text, or of each file's size and time.

Shapes: n samples of a manifest.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from uml_cache import UNKNOWN
from uml_extract.sources import file_of, is_in_memory, stamp_of

if TYPE_CHECKING:
    from uml_manifests import Manifest


def sample_stamps(manifest: Manifest) -> np.ndarray:
    """(n,) uint64: a digest of each sample's text, or of its file's size and time; 0: the file is gone."""
    if is_in_memory(manifest):
        return _digests(manifest.sources)
    known: dict[str, tuple[int, int]] = {}
    found = np.empty((len(manifest), 2), np.int64)
    for row in range(len(manifest)):
        path = file_of(manifest, row)
        if path not in known:
            known[path] = stamp_of(path)
        found[row] = known[path]
    stamps = _digests([pair.tobytes() for pair in found.astype("<i8")])
    return np.where(found[:, 0] < 0, np.uint64(UNKNOWN), stamps)


def _digests(values: list[str] | list[bytes]) -> np.ndarray:
    encoded = (value if isinstance(value, bytes) else value.encode() for value in values)
    joined = b"".join(hashlib.blake2b(value, digest_size=8).digest() for value in encoded)
    return np.maximum(np.frombuffer(joined, "<u8").astype(np.uint64), 1)
