"""Splits and groups from whatever spelling a table has.

Shapes: N samples.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from uml_cache.errors import InputError, unknown
from uml_cache.store.plans.layout import NO_SPLIT, SPLIT_NAMES
from uml_cache.tables.cells import NOTHING, as_texts, text_of, uniques
from uml_cache.tables.names import clean_name

SPLIT_CODES = {
    **{name: code for code, name in enumerate(SPLIT_NAMES)},
    "training": 0,
    "valid": 1,
    "validation": 1,
    "dev": 1,
    "testing": 2,
    **dict.fromkeys(NOTHING, NO_SPLIT),
}
_FOLDER = re.compile(
    r"(train|training|val|valid|validation|dev|test|testing)[ _-]?(set|split|data|images|imgs)?"
)


def split_of_folder(name: str) -> int | None:
    """The split that a folder's name says (`Train`, `test_set`, `val-images`), None for any other name."""
    match = _FOLDER.fullmatch(name.strip().casefold())
    return SPLIT_CODES[match[1]] if match else None


def as_splits(column: Any, rows: int, where: str) -> np.ndarray:
    """(N,) uint8 codes, from names or codes, one code for all, or nothing.

    Raises:
        InputError: another name or number; it names the row.
    """
    if column is None:
        return np.full(rows, NO_SPLIT, np.uint8)
    if isinstance(column, int):
        return np.full(rows, column, np.uint8)
    values, inverse = uniques(column, where, "split")
    codes = np.empty(len(values), np.uint8)
    for at, value in enumerate(values):
        code = _code(value)
        if code is None:
            row = int(np.argmax(inverse == at))
            if isinstance(value, str | bytes):
                said = unknown("split", str(text_of(value)), SPLIT_NAMES)
                raise InputError(f"{where}, row {row}: {said}, or leave it empty")
            raise InputError(
                f"{where}, row {row}: splits are {', '.join(SPLIT_NAMES)}, or 0, 1, 2 and {NO_SPLIT} for "
                f"none, got {value!r}"
            )
        codes[at] = code
    return codes[inverse]


def as_groups(column: Any, where: str) -> list[str] | None:
    """The groups as text, "" where a row has none (an empty cell, `nan`, `None`, …); None where no row has
    one."""
    found = as_texts(column, where, "group")
    if found is None:
        return None
    # A word for nothing is no group: its rows have nothing in common.
    found = ["" if clean_name(group).casefold() in NOTHING else clean_name(group) for group in found]
    return found if any(found) else None


def _code(value: Any) -> int | None:
    try:
        text = text_of(value)
    except ValueError:
        return None
    if text is None:
        return NO_SPLIT
    if isinstance(value, str | bytes):
        return SPLIT_CODES.get(text.casefold())
    number = int(text) if text.lstrip("-").isdecimal() else None
    return number if number in (*range(len(SPLIT_NAMES)), NO_SPLIT) else None
