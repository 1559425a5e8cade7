"""Files of a run say for themselves whether they are whole.

A JSON record begins with the sha256 of all that follows:

    {"sha256": "<64 digits>",
    "…": …}

so that any changed byte is noticed when it is read, and whoever opens the file sees plain JSON. Other files
(predictions, heads, labels) have their sha256 and length in the record that speaks of them. Version 0.1 wrote
neither; its records are read as they are where `required` is not asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uml_cache import InputError, parse_json

_HEAD = b'{"sha256": "'
_AFTER = b'",\n'
_DIGITS = 64

FileSum = dict[str, Any]
"""`sha256` and `bytes` of a file; `optional` where whoever lacks the space may delete it."""


class DamagedFile(InputError):
    """A file of a run that is not what was written; `path` is the file, `why` what is wrong with it."""

    def __init__(self, path: Path, why: str, remedy: str) -> None:
        super().__init__(f"{path} {why}; {remedy}")
        self.path, self.why = path, why


def record_bytes(values: Mapping[str, Any], *, indent: int | None = None) -> bytes:
    """JSON with its own checksum. `values` must not be empty."""
    body = json.dumps(values, ensure_ascii=False, indent=indent).encode()[1:].lstrip(b"\n")
    return _HEAD + hashlib.sha256(body).hexdigest().encode() + _AFTER + body


def read_record(path: Path, remedy: str, *, required: bool = True) -> dict[str, Any]:
    """What `record_bytes` wrote.

    Args:
        remedy: what a person does about a damaged file, the end of the message.
        required: whether a record without a checksum counts as damaged.

    Raises:
        DamagedFile: another content than was written, or no JSON object.
        OSError: the file cannot be opened.
    """
    data = path.read_bytes()
    try:
        values = parse_json(data)
        if not isinstance(values, dict):
            raise TypeError(f"it holds a {type(values).__name__}")
    except (ValueError, TypeError) as error:
        why = "no text" if isinstance(error, UnicodeDecodeError) else str(error)
        raise DamagedFile(path, f"is damaged ({why})", remedy) from None
    if not data.startswith(_HEAD):
        # Its name may be what is damaged: version 0.1 wrote no record that begins with a digest.
        if required or "sha256" in values or _is_digest(next(iter(values.values()), None)):
            raise DamagedFile(path, "is damaged (its checksum is gone)", remedy)
        return values
    at = len(_HEAD) + _DIGITS
    body = data[at + len(_AFTER) :]
    if data[at : at + len(_AFTER)] != _AFTER or values.pop("sha256") != hashlib.sha256(body).hexdigest():
        raise DamagedFile(path, "is damaged (it does not match its checksum)", remedy)
    return values


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and len(value) == _DIGITS and set(value) <= set("0123456789abcdef")


def file_sum(data: bytes) -> FileSum:
    """What a record says of a file with this content."""
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def path_sum(path: Path) -> FileSum:
    """The same of a file that is too large to be held."""
    with path.open("rb") as stream:
        return {"sha256": hashlib.file_digest(stream, "sha256").hexdigest(), "bytes": path.stat().st_size}


def checked_bytes(path: Path, expected: FileSum | None, remedy: str) -> bytes:
    """A file's content, which must be what a record says of it; None: there is no such record (version 0.1).

    Raises:
        DamagedFile: it is gone, has another length or another content.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DamagedFile(path, f"cannot be read ({error.strerror})", remedy) from None
    if expected is not None and (why := difference(data, expected)):
        raise DamagedFile(path, f"is damaged ({why})", remedy)
    return data


def difference(data: bytes, expected: FileSum) -> str:
    """In what a content differs from its record; empty where it does not."""
    if len(data) != expected["bytes"]:
        return f"it has {len(data)} bytes, and {expected['bytes']} were written"
    if hashlib.sha256(data).hexdigest() != expected["sha256"]:
        return "it does not match its checksum"
    return ""
