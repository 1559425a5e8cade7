"""Columns of values: labels, splits, ids and class names from whatever spelling a file has.

Shapes: N samples.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache.errors import InputError, unknown
from uml_cache.exchange.numpy_files import read_array
from uml_cache.store.layout import NO_SPLIT, SPLIT_NAMES

_MOST_CLASSES = 1_000_000  # that nobody names

SPLIT_CODES = {
    **{name: code for code, name in enumerate(SPLIT_NAMES)},
    "training": 0,
    "valid": 1,
    "validation": 1,
    "dev": 1,
    "testing": 2,
    "none": NO_SPLIT,
    "": NO_SPLIT,
}


def read_column(path: Path) -> list[str] | np.ndarray:
    """A column from a file of its own: a 1-d .npy, or a text file with one value a line."""
    if path.suffix.lower() == ".npy":
        values = np.asarray(read_array(path))
        if values.ndim != 1:
            raise InputError(f"{path}: has shape {values.shape}; expected one value a sample")
        return values.tolist() if values.dtype.kind in "SU" else values
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path}: is neither a .npy nor a UTF-8 text file of one value a line") from None


def as_labels(
    columns: Sequence[Any], rows: Sequence[int], classes: Sequence[str] | None, where: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """(N,) int32 and the class names, from integers, or from names (sorted, unless `classes` are given)."""
    values = [[-1] * count if part is None else list(part) for part, count in zip(columns, rows, strict=True)]
    cells = [cell.item() if hasattr(cell, "item") else cell for part in values for cell in part]
    if any(isinstance(cell, str | bytes) for cell in cells):
        names = ["" if cell in (-1, None) else strings([cell])[0] for cell in cells]  # type: ignore[index]
        if all(name.lstrip("-").isdecimal() for name in names if name):
            cells = [int(name) if name else -1 for name in names]
        else:
            known = list(classes) if classes is not None else sorted({*names} - {""})
            code = {name: at for at, name in enumerate(known)} | {"": -1}
            wrong = next((name for name in names if name not in code), None)
            if wrong is not None:
                raise InputError(f"{where}: {unknown('class', wrong, known)}")
            return np.array([code[name] for name in names], np.int32), tuple(known)
    cells = [-1 if cell is None else cell for cell in cells]
    numbers = np.asarray(cells, np.float64)
    wrong = np.flatnonzero(~np.isfinite(numbers) | (numbers != np.rint(numbers)) | (numbers < -1))
    if wrong.size:
        row = int(wrong[0])
        raise InputError(f"{where}: label {cells[row]} of row {row} is no class index (0, 1, …, or -1)")
    if classes is None and numbers.max(initial=-1) >= max(_MOST_CLASSES, len(cells)):
        row = int(np.argmax(numbers))
        raise InputError(
            f"{where}: label {cells[row]} of row {row} would make {numbers[row] + 1:,.0f} classes "
            f"of {len(cells)} rows; give the class names with --classes, or mend the label"
        )
    labels = numbers.astype(np.int64)
    top = int(labels.max(initial=-1))
    if classes is None:
        classes = tuple(str(number) for number in range(top + 1))
    if top >= len(classes):
        raise InputError(f"{where}: label {top} occurs, and there are {len(classes)} class names")
    return labels.astype(np.int32), tuple(classes)


def as_splits(column: Any, rows: int, where: str) -> np.ndarray:
    """(N,) uint8 codes, from codes, names, one code for all, or nothing."""
    if column is None:
        return np.full(rows, NO_SPLIT, np.uint8)
    if isinstance(column, int):
        return np.full(rows, column, np.uint8)
    if isinstance(column, list):
        cells = ["" if cell is None else str(cell).lower() for cell in strings(column) or []]
        wrong = next((cell for cell in cells if cell not in SPLIT_CODES), None)
        if wrong is not None:
            raise InputError(f"{where}: {unknown('split', wrong, SPLIT_NAMES)}")
        return np.array([SPLIT_CODES[cell] for cell in cells], np.uint8)
    codes = np.asarray(column)
    if codes.dtype.kind not in "iu" or not np.isin(codes, [0, 1, 2, NO_SPLIT]).all():
        raise InputError(f"{where}: splits are {', '.join(SPLIT_NAMES)}, or 0, 1, 2 and {NO_SPLIT} for none")
    return codes.astype(np.uint8)


def as_classes(value: Any, where: str) -> tuple[str, ...] | None:
    """Class names from a list, an array or a mapping `{label: name}`."""
    if value is None:
        return None
    if isinstance(value, dict):
        try:
            numbered = {int(label): str(name) for label, name in value.items()}
        except (ValueError, TypeError):
            raise InputError(f"{where}: class names are a mapping, but not from label to name") from None
        if sorted(numbered) != list(range(len(numbered))):
            raise InputError(f"{where}: class names are not for the labels 0 to {len(numbered) - 1}")
        return tuple(numbered[label] for label in range(len(numbered)))
    values = value[()] if hasattr(value, "id") else value
    return tuple(strings(list(values)) or ())


def class_file(path: str | Path | None) -> tuple[str, ...] | None:
    """Class names from a file: one a line, or a JSON list or mapping; None without a file."""
    if path is None:
        return None
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file of class names")
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    if path.suffix.lower() == ".json":
        try:
            return as_classes(json.loads(text), str(path))
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}: is no JSON list of class names ({error})") from None
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def strings(values: Any) -> list[str] | None:
    """The values as strings; None for no column."""
    if values is None:
        return None
    items: Sequence[Any] = values if isinstance(values, list) else values.tolist()
    return [item.decode(errors="replace") if isinstance(item, bytes) else str(item) for item in items]


def unique(ids: list[str]) -> list[str]:
    """The ids, with `#2`, `#3`, … behind those that occurred before (views of one picture share its path)."""
    seen: dict[str, int] = {}
    taken = set(ids)
    found = []
    for name in ids:
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            new = f"{name}#{seen[name]}"
            while new in taken:
                seen[name] += 1
                new = f"{name}#{seen[name]}"
            taken.add(new)
            name = new
        found.append(name)
    return found
