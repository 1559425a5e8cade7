"""How many rows were used and why the others were not: one count and one wording for every command.

Shapes: N rows that a command was given.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache.files.disk import write_atomic


@dataclass(frozen=True)
class Used:
    """`used` of `total` rows; `left_out` counts the others by reason, so that the numbers add up.

    Raises:
        ValueError: numbers that do not add up.
    """

    used: int
    total: int
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.used + sum(self.left_out.values()) != self.total:
            raise ValueError(f"{self.used} used and {dict(self.left_out)} left out are not {self.total} rows")

    def text(self) -> str:
        """`90 of 100 used; left out: no label (8), unreadable (2)`; without the rest where all are used."""
        reasons = ", ".join(f"{reason} ({count:,})" for reason, count in self.left_out.items())
        return f"{self.used:,} of {self.total:,} used" + (f"; left out: {reasons}" if reasons else "")

    def to_json(self) -> dict[str, Any]:
        """The same numbers for `--json` and for the record of a run."""
        return {"used": self.used, "of": self.total, "left_out": dict(self.left_out)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Used:
        """What `to_json` made."""
        return cls(values["used"], values["of"], values["left_out"])


class Tally:
    """Why each of `rows` rows is left out. A row has the first reason that it was given."""

    def __init__(self, rows: int) -> None:
        self._reason_of = np.zeros(rows, dtype=np.uint8)  # 0: used
        self._reasons: list[str] = []

    def leave_out(self, rows: np.ndarray, reason: str) -> None:
        """Leave out `rows`, (N,) bool or row numbers; those that are left out already keep their reason."""
        if reason not in self._reasons:
            self._reasons.append(reason)
        chosen = np.zeros(len(self._reason_of), dtype=bool)
        chosen[rows] = True
        self._reason_of[chosen & (self._reason_of == 0)] = self._reasons.index(reason) + 1

    @property
    def kept(self) -> np.ndarray:
        """(N,) bool: the rows that nothing has left out."""
        return self._reason_of == 0

    @property
    def used(self) -> Used:
        """The counts."""
        counts = np.bincount(self._reason_of, minlength=len(self._reasons) + 1).tolist()
        found = {reason: n for reason, n in zip(self._reasons, counts[1:], strict=True) if n}
        return Used(counts[0], len(self._reason_of), found)

    def left_out(self) -> Iterator[tuple[int, str]]:
        """Row number and reason of every row that is left out, in order."""
        for row in np.flatnonzero(self._reason_of).tolist():
            yield row, self._reasons[self._reason_of[row] - 1]


def left_out_csv(rows: Iterable[tuple[str, str, str]]) -> str:
    """A CSV file of the rows that are left out: where they lie, their id and the reason."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["source", "id", "reason"])
    table.writerows(rows)
    return text.getvalue()


def write_left_out(path: Path, rows: Iterable[tuple[str, str, str]]) -> None:
    """Write `left_out_csv` of the rows into a file, whose folder is made if need be."""
    write_atomic(path, left_out_csv(rows).encode("utf-8", "backslashreplace"))


def used_lines(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What `to_json` made of every source, by its label, as lines for people."""
    return [f"{label}: {Used.from_json(values).text()}" for label, values in rows.items()]
