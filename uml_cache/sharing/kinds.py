"""What can be handed on: a kind of things, and one of them.

A kind says which files it may have. Other files are neither written nor taken, so that no code travels.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Content:
    """A file that is handed on: its length, its sha256, and where it lies (or what is in it)."""

    size: int
    sha256: str
    source: Path | bytes


@dataclass(frozen=True)
class Accepted:
    """A pulled thing that was found sound: what is given its name, and the place of it below the folder."""

    made: Path
    place: Path


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of things that are handed on.

    Args:
        name: such as `store`.
        folder: where its files lie at the shared place; empty: beside the list.
        names: the paths that its files may have.
        hub: the type of the hub's repositories that hold it.
        out: the folder that it is pulled into where none is named.
        accept: looks through a pulled copy (a folder) by the kind's own record, given the list. Raises
            `InputError` or `WorkError` where it is not sound.
        same: whether what is already at a path is what the list speaks of.
    """

    name: str
    folder: str
    names: re.Pattern[str]
    hub: Literal["model", "dataset"]
    out: str
    accept: Callable[[Path, Mapping[str, Any]], Accepted]
    same: Callable[[Path, Mapping[str, Any]], bool]

    def path(self, name: str) -> str:
        """Where the file `name` lies at the shared place."""
        return f"{self.folder}/{name}" if self.folder else name


@dataclass(frozen=True, kw_only=True)
class Thing:
    """A thing that is handed on.

    Args:
        about: what the list says of it beside its files: at least `fingerprint`.
        files: by their name within the thing.
        card: makes the card, given the place and the digest of the list.
    """

    kind: Kind
    about: Mapping[str, str]
    files: Mapping[str, Content]
    card: Callable[[str, str], str]
