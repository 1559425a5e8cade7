"""What became of the samples that a command was given: used, left out (by reason), or lacking something."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache.store.plans.layout import NO_SPLIT
from uml_cache.used import Used, write_left_out


@dataclass(frozen=True, kw_only=True)
class Account:
    """`used` samples, and what was `left_out`, as pairs of a name and a reason; `lacking` counts used ones by
    what they lack (`no label`)."""

    used: int
    left_out: tuple[tuple[str, str], ...] = ()
    lacking: Mapping[str, int] = field(default_factory=dict)

    @property
    def counts(self) -> Used:
        """The numbers, the most frequent reason first."""
        reasons = dict(Counter(reason for _, reason in self.left_out).most_common())
        return Used(self.used, self.used + len(self.left_out), reasons)

    def text(self) -> str:
        """`6 of 11 used; left out: unreadable format .heic (5); used without a label: 2`."""
        parts = [self.counts.text()]
        parts += [f"used {what}: {count:,}" for what, count in self.lacking.items() if count]
        return "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """The same numbers for `--json`."""
        lacking = {what: count for what, count in self.lacking.items() if count}
        return {**self.counts.to_json(), "lacking": lacking}

    def write(self, path: str | Path, source: str) -> None:
        """Write what was left out as CSV: source, id, reason."""
        write_left_out(Path(path), ((source, name, reason) for name, reason in self.left_out))


def lacking(labels: np.ndarray, splits: np.ndarray, used: np.ndarray | None = None) -> dict[str, int]:
    """How many used samples have no label, and no split where others have one.

    Args:
        labels: (N,) class indices, any integer type, -1 for none.
        splits: (N,) uint8 split codes, 255 for none.
        used: (N,) bool, which ones count; all by default.
    """
    use = np.ones(len(labels), bool) if used is None else used
    labels, splits = np.asarray(labels)[use], np.asarray(splits)[use]
    without = splits == NO_SPLIT
    return {
        "without a label": int((labels < 0).sum()),
        "without a split, beside others with one": 0 if without.all() else int(without.sum()),
    }
