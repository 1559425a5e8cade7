"""`share.json`: the list of what is at a shared place. It comes last, and without it nothing is there.

version, kind, fingerprint (and `name` of a run or a head)
files      path, bytes and sha256 of each
sha256     of all of this: the digest that `push` prints
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from uml_cache.errors import InputError, WorkError
from uml_cache.files.documents import parse_json
from uml_cache.sharing.kinds import Kind, Thing
from uml_cache.store import journal

LIST = "share.json"
_VERSION = 1
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"(?!\.)[A-Za-z0-9.+=@_-]{1,200}")


@dataclass(frozen=True)
class Shared:
    """A thing that was handed on: where it lies, what it is, the digest of its list, and what was moved."""

    place: str
    digest: str
    files: int
    bytes: int
    fingerprint: str
    new: bool
    kind: str

    def as_json(self) -> dict[str, Any]:
        """The answer of `uml push --json` and `uml pull --json`."""
        return dict(vars(self))


def list_of(thing: Thing) -> dict[str, Any]:
    """The content of the list of a thing."""
    return {
        "version": _VERSION,
        "kind": thing.kind.name,
        **thing.about,
        "files": [
            {"path": name, "bytes": one.size, "sha256": one.sha256}
            for name, one in sorted(thing.files.items())
        ],
    }


def summary(place: object, content: Mapping[str, Any], *, new: bool) -> Shared:
    """What `push` and `pull` answer about a list's content."""
    return Shared(
        place=str(place),
        digest=journal.digest(content),
        files=len(content["files"]),
        bytes=sum(entry["bytes"] for entry in content["files"]),
        fingerprint=content["fingerprint"],
        new=new,
        kind=content["kind"],
    )


def parse_list(data: bytes, where: str, kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """The content of a list, none of which is believed before it was looked at.

    Raises:
        InputError: of a newer version, or of a kind that is none of `kinds`.
        WorkError: it is damaged, or lists files that the kind does not have.
    """
    content = _own_checksum(data)
    if content is None:
        raise WorkError(
            f"{where} does not match its own checksum: it is damaged or was tampered with; nothing was pulled"
        )
    kind = kinds.get(str(content.get("kind")))
    if content.get("version") != _VERSION or not isinstance(content.get("kind"), str):
        raise InputError(f"{where} has a format that this version of uml does not know; update uml")
    if kind is None:
        raise InputError(f"{where} is of a {content['kind']}, not of a {' or '.join(kinds)}: see `uml pull`")
    foreign, sound = _looked_at(content, kind)
    if foreign or not sound:
        what = (
            f"lists {foreign[0]!r}, which is not a file of a {kind.name}"
            if foreign
            else "is no list of files"
        )
        raise WorkError(f"{where} {what}; nothing was pulled")
    return content


def _own_checksum(data: bytes) -> dict[str, Any] | None:
    try:
        record = parse_json(data)
        written = record.pop("sha256")
        # One spelling: a byte that changes nothing for a reader of JSON is a changed byte, too.
        if written == journal.digest(record) and journal.record_bytes(record) == data:
            return dict(record)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        pass
    return None


def _looked_at(content: Mapping[str, Any], kind: Kind) -> tuple[list[str], bool]:
    """Names that the kind does not have, and whether the rest is as it should be."""
    try:
        names = [entry["path"] for entry in content["files"]]
        foreign = [name for name in names if not kind.names.fullmatch(name)]
        sound = (
            all(
                type(entry["bytes"]) is int and entry["bytes"] >= 0 and _DIGEST.fullmatch(entry["sha256"])
                for entry in content["files"]
            )
            and 0 < len(set(names)) == len(names)
            and isinstance(content["fingerprint"], str)
            and _NAME.fullmatch(content.get("name", "none")) is not None
        )
    except (KeyError, TypeError):
        return [], False
    return foreign, sound
