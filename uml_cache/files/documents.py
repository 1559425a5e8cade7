"""JSON and TOML that others wrote: whatever is wrong with it is a `ValueError`, however it is wrong."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from pathlib import Path
from typing import Any

_CHECKSUM = "# sha256 of the lines above: "
_DIGEST_AT_THE_END = re.compile(rb"\b[0-9a-f]{64}\s*\Z")
_DEEP = "it is nested too deeply"


def parse_json(data: str | bytes) -> Any:
    """The value of a JSON document; `ValueError` for anything that is none, also a million open brackets."""
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError(_DEEP) from None


def parse_toml(text: str) -> dict[str, Any]:
    """The table of a TOML document; `tomllib.TOMLDecodeError`, a `ValueError`, for anything that is none."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise tomllib.TOMLDecodeError(_DEEP) from None


def with_checksum(text: str) -> str:
    """A TOML document with a last line that says what the lines above are."""
    return f"{text}{_CHECKSUM}{hashlib.sha256(text.encode()).hexdigest()}\n"


def is_as_written(path: Path | str) -> bool:
    """Whether a TOML document is as `with_checksum` left it; also where it has no such line."""
    data = Path(path).read_bytes()
    text, mark, digest = data.rpartition(_CHECKSUM.encode())
    if not mark:  # the words before the digest may be what is damaged
        return _DIGEST_AT_THE_END.search(data) is None
    return hashlib.sha256(text).hexdigest().encode() == digest.strip()
