"""Cells of tables: from the value of any format to text, and what stands for nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from uml_cache.errors import InputError
from uml_cache.tables.names import clean_name

NOTHING = frozenset({"", "nan", "none", "null", "<na>"})  # words for a missing value, in lower case


def text_of(cell: Any) -> str | None:
    """A cell as text: NFC without outer blanks; digits of a whole number; None for None and NaN.

    Raises:
        ValueError: a real number, a list, a record, a date, or bytes that are not UTF-8.
    """
    if isinstance(cell, str):
        return clean_name(cell)
    if cell is None:
        return None
    if hasattr(cell, "item"):
        cell = cell.item()
        if isinstance(cell, str):
            return clean_name(cell)
    if isinstance(cell, bool | int):
        return str(cell)
    if isinstance(cell, float):
        if math.isnan(cell):
            return None
        if cell.is_integer():
            return str(int(cell))
        raise ValueError("is a real number")
    if isinstance(cell, bytes):
        try:
            return clean_name(cell.decode())
        except UnicodeDecodeError:
            raise ValueError("is not UTF-8") from None
    raise ValueError(f"is a {type(cell).__name__}")


def as_texts(values: Any, where: str = "", kind: str = "column") -> list[str] | None:
    """The values of a column as text, "" where there is none; None for no column.

    Raises:
        InputError: a value that is no text and no whole number; it names the row.
    """
    if values is None:
        return None
    items: Sequence[Any] = values if isinstance(values, list) else values.tolist()
    found = []
    for row, item in enumerate(items):
        if isinstance(item, str):  # ids are paths: their form is the file system's
            found.append(item)
            continue
        try:
            found.append(text_of(item) or "")
        except ValueError as error:
            if isinstance(item, float):
                found.append(str(item))
                continue
            raise InputError(f"{where}: {kind} of row {row} {error}; expected text or a number") from None
    return found


def uniques(column: Any, where: str, kind: str = "label") -> tuple[list[Any], np.ndarray]:
    """The distinct cells of a column in order, and (N,) int64 which one each row has.

    Raises:
        InputError: cells that are lists or records, or an array of another type than text and numbers.
    """
    if isinstance(column, np.ndarray) and column.dtype.kind != "O":
        if column.dtype.kind not in "iufbSU":
            raise InputError(
                f"{where}: the {kind}s are of type {column.dtype}; expected text or whole numbers"
            )
        values, inverse = np.unique(column, return_inverse=True)
        return values.tolist(), inverse.reshape(-1).astype(np.int64)
    seen: dict[Any, int] = {}
    values_: list[Any] = []
    places = np.empty(len(column), np.int64)
    for row, cell in enumerate(column):
        if hasattr(cell, "item") and not isinstance(cell, np.ndarray):
            cell = cell.item()
        nan = isinstance(cell, float) and math.isnan(cell)  # one NaN is not equal to the next
        try:
            key = "nan" if nan else (type(cell), cell)
            at = seen.setdefault(key, len(values_))
        except TypeError:
            raise InputError(
                f"{where}: the {kind} of row {row} is a {type(cell).__name__} ({str(cell)[:40]}); "
                f"expected one {kind} a sample, as text or a whole number"
            ) from None
        if at == len(values_):
            values_.append(cell)
        places[row] = at
    return values_, places


def strict_json(text: str | bytes) -> Any:
    """The value of a JSON text. `ValueError` if it is none, or if an object has a key twice."""
    try:
        return json.loads(text, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found and found[key] != value:
            raise ValueError(f"key {key!r} occurs twice, with different values")
        found[key] = value
    return found
