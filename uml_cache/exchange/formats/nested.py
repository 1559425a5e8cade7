"""The content of a feature file as nested mappings from name to array: what every reader of one returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Nested = dict[Any, Any]
ATTRIBUTES = "attributes"  # JSON: what a store says of itself, in every format that export writes
CLASS_ATTRIBUTE = "an attribute of the file"  # where the class list of an HDF5 file may stand


def nest(flat: Mapping[str, Any]) -> Nested:
    """Names with `/` or `.` in them as nested mappings."""
    nested: Nested = {}
    for name, value in flat.items():
        *folders, leaf = name.replace(".", "/").split("/")
        here = nested
        for folder in folders:
            inner = here.setdefault(folder, {})
            if not isinstance(inner, dict):
                inner = here[folder] = {"": inner}
            here = inner
        here[leaf] = value
    return nested
