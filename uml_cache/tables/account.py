"""What became of the samples that a command was given: used, left out (by reason), or lacking something."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache.layout import NO_SPLIT


@dataclass(frozen=True, kw_only=True)
class Account:
    """`used` of `found` samples; `left_out` are pairs of what and why; `lacking` counts used ones by what
    they lack (`have no label`)."""

    used: int
    left_out: tuple[tuple[str, str], ...] = ()
    lacking: Mapping[str, int] = field(default_factory=dict)
    noun: str = "samples"

    @property
    def found(self) -> int:
        return self.used + len(self.left_out)

    @property
    def reasons(self) -> dict[str, int]:
        """How many were left out for each reason, the most frequent first."""
        return dict(Counter(reason for _, reason in self.left_out).most_common())

    def line(self) -> str:
        """`6 of 13 samples used; left out: 5 unreadable format (.heic); of those used 2 have no label`."""
        said = f"{self.used:,} of {self.found:,} {self.noun} used"
        if self.left_out:
            said += "; left out: " + ", ".join(f"{n:,} {reason}" for reason, n in self.reasons.items())
        lacking = {what: n for what, n in self.lacking.items() if n}
        if lacking:
            said += "; of those used " + ", ".join(f"{n:,} {what}" for what, n in lacking.items())
        return said

    def to_json(self) -> dict[str, Any]:
        """The same numbers for `--json`."""
        return {
            "found": self.found,
            "used": self.used,
            "left_out": self.reasons,
            "lacking": {what: n for what, n in self.lacking.items() if n},
        }


def lacking(labels: np.ndarray, splits: np.ndarray, used: np.ndarray | None = None) -> dict[str, int]:
    """How many used samples have no label, and no split where others have one.

    Args:
        labels: (N,) class indices, -1 for none.
        splits: (N,) split codes, 255 for none.
        used: (N,) which ones count; all by default.
    """
    use = np.ones(len(labels), bool) if used is None else used
    labels, splits = np.asarray(labels)[use], np.asarray(splits)[use]
    without = splits == NO_SPLIT
    return {
        "have no label": int((labels < 0).sum()),
        "have no split, beside others that have one": 0 if without.all() else int(without.sum()),
    }


def write_left_out(path: str | Path, left_out: Iterable[tuple[str, str]]) -> None:
    """Write what was left out as CSV with the columns sample, reason."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(("sample", "reason"))
        out.writerows(left_out)
