"""What an extraction that added to a store did."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Grew:
    """What became of a store: how many samples are new, changed, removed, or missing.

    `missing` samples are gone from the data and stay in the store. `path` is the current state, which is the
    old one where nothing has changed. `rows` counts the samples that the state has a use for.
    """

    path: Path
    rows: int
    tasks: int
    new: int = 0
    changed: int = 0
    removed: int = 0
    missing: int = 0

    def to_json(self) -> dict[str, int]:
        """What `uml extract --json` says of it."""
        return {"new": self.new, "changed": self.changed, "removed": self.removed, "missing": self.missing}

    def text(self) -> str:
        """The same for the terminal: `1,020 rows, 20 new, 3 changed`."""
        kinds = [(self.new, "new"), (self.changed, "changed"), (self.removed, "removed")]
        said = [f"{count:,} {kind}" for count, kind in kinds if count]
        start = "" if said else "complete already, "
        if self.missing:
            said.append(f"{self.missing:,} gone from the data and kept (--prune flags them)")
        return start + ", ".join([f"{self.rows:,} rows", *said])
