"""JSON and TOML that others wrote: whatever is wrong with it is a `ValueError`, however it is wrong."""

from __future__ import annotations

import json
import tomllib
from typing import Any

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
