"""Names: one Unicode form, and when two spellings are the same class."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

_SHOWN = 3
_NUMBER = re.compile(r"0*(\d+)(?:\.0*)?")


def clean_name(name: str) -> str:
    """The name in NFC, without blanks at its ends."""
    return unicodedata.normalize("NFC", name).strip()


def folded_name(name: str) -> str:
    """The name without regard to case, blanks, underscores and unseen signs (zero-width space)."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    folded = "".join(sign for sign in folded if unicodedata.category(sign) != "Cf") or folded
    return " ".join(folded.replace("_", " ").split())


def match_names(theirs: Sequence[str], ours: Sequence[str]) -> np.ndarray:
    """(len(theirs),) int64: which of our names each of theirs is, -1 for none.

    Equal names come first (in NFC); a name that both lists have equally often is paired in order. Then
    blanks, underscores and case are disregarded, where that fits one of ours only, and one that no other of
    theirs equals.
    """
    own, other = [clean_name(name) for name in ours], [clean_name(name) for name in theirs]
    places: dict[str, list[int]] = {}
    for at, name in enumerate(own):
        places.setdefault(name, []).append(at)
    counts = Counter(other)
    met: Counter[str] = Counter()
    found = np.full(len(theirs), -1, np.int64)
    for at, name in enumerate(other):
        here = places.get(name, ())
        if len(here) == 1:
            found[at] = here[0]
        elif here and len(here) == counts[name]:
            found[at] = here[met[name]]
            met[name] += 1
    taken = set(found.tolist())
    folded: dict[str, list[int]] = {}
    for at, name in enumerate(own):
        folded.setdefault(folded_name(name), []).append(at)
    for at in np.flatnonzero(found < 0).tolist():
        here = folded.get(folded_name(other[at]), ())
        if len(here) == 1 and other[at] not in places and here[0] not in taken:
            found[at] = here[0]
    return found


def near_equal(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of different names that differ in blanks, case, unseen signs, compatible forms or zeros only."""
    groups: dict[str, dict[str, None]] = {}
    for name in names:
        key = folded_name(unicodedata.normalize("NFKC", name))
        if number := _NUMBER.fullmatch(key):
            key = number[1]
        groups.setdefault(key, {})[name] = None
    return [tuple(group) for group in groups.values() if len(group) > 1]


def near_equal_remark(names: Iterable[str]) -> str | None:
    """One sentence about names that are nearly equal and yet classes of their own; None without any."""
    groups = near_equal(names)
    if not groups:
        return None
    shown = "; ".join(", ".join(map(repr, group)) for group in groups[:_SHOWN])
    more = f"; … {len(groups)} such groups" if len(groups) > _SHOWN else ""
    return f"these names are nearly equal, but count as different classes: {shown}{more}"
