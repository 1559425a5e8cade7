"""Which rows are views of one sample, and what sample ids mean outside their own store.

Shapes: N rows.

Rows that come from one sample (one id in the source, one file, one text) carry the same key, so that splits
keep them together. A key is a digest of what the rows have in common and depends on nothing else: rows that
are added later get the keys of the views that are there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy as np

GIVEN, MADE, SHARED, OWN = "given", "made", "shared", "own"
ID_KINDS = (GIVEN, MADE, SHARED, OWN)
"""What a store's ids are.

`given`: by the data (a column of ids, names of files); in one data set the same id is the same sample in
every modality. `made`: by the reader, from row numbers; they say nothing about other stores. `shared` and
`own`: as someone declared, whatever they come from.
"""

_VIEW = re.compile(r"(.+)#[2-9]\d*|(.+)#1\d+", re.DOTALL)


def names_samples(kind: str | None) -> bool:
    """Whether an id of this kind (None: a store that does not say) is the same sample in other stores,
    too."""
    return kind in (GIVEN, SHARED, None)


def sample_keys(names: Iterable[str]) -> np.ndarray:
    """(N,) uint64, equal where the names are equal."""
    digests = b"".join(blake2b(name.encode(), digest_size=8).digest() for name in names)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64, copy=False)


def without_view_numbers(ids: Sequence[str]) -> list[str]:
    """The ids, with `#2`, `#3`, … taken off where the rest is an id itself: those are its further views."""
    known = set(ids)
    found = []
    for one in ids:
        match = _VIEW.fullmatch(one) if "#" in one else None
        base = (match[1] or match[2]) if match else one
        found.append(base if base in known else one)
    return found
