"""In which fields two descriptions differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def different_fields(
    a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = ""
) -> list[tuple[str, Any, Any]]:
    """Fields, with dots for inner ones, in which two descriptions differ, and both values."""
    found: list[tuple[str, Any, Any]] = []
    for key in sorted({*a, *b}):
        one, other = a.get(key), b.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += different_fields(one, other, f"{prefix}{key}.")
        elif one != other:
            found.append((f"{prefix}{key}", one, other))
    return found
