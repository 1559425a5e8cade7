"""Class lists: read from a file or an array, and several of them brought together by name.

Shapes: C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache.errors import InputError
from uml_cache.tables.cells import strict_json, text_of
from uml_cache.tables.names import clean_name, match_names


def as_classes(value: Any, where: str) -> tuple[str, ...] | None:
    """Class names from a list, an array, or a mapping `{label: name}` or `{name: label}`; None for None.

    Raises:
        InputError: neither of these, or a name is missing or no text.
    """
    if value is None:
        return None
    if isinstance(value, dict):
        return _of_mapping(value, where)
    values = value[()] if hasattr(value, "id") else value
    if isinstance(values, str | bytes) or not hasattr(values, "__len__") or getattr(values, "ndim", 1) != 1:
        raise InputError(f"{where}: the class names are no list of names")
    try:
        names = [text_of(name) for name in values]
    except ValueError as error:
        raise InputError(f"{where}: a class name {error}; expected text") from None
    if not all(names):
        raise InputError(
            f"{where}: class {names.index(None) if None in names else names.index('')} has no name"
        )
    return tuple(map(str, names))


def class_file(path: str | Path | None) -> tuple[str, ...] | None:
    """Class names from a file: one a line, or a JSON list or mapping; None without a file.

    Raises:
        InputError: there is no such file, or it holds no class names.
    """
    if path is None:
        return None
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file of class names")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8; save the class names as UTF-8") from None
    if path.suffix.lower() == ".json":
        try:
            return as_classes(strict_json(text), str(path))
        except (ValueError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path}: is no JSON list of class names ({error})") from None
    return tuple(clean_name(line) for line in text.split("\n") if line.strip())


def merge_lists(
    lists: Sequence[tuple[str, ...] | None], where: Sequence[str], given: tuple[str, ...] | None
) -> tuple[tuple[str, ...] | None, list[np.ndarray | None], list[str]]:
    """One class list of those of several files, where each file's positions lie in it, and remarks.

    Args:
        lists: Each file's own list, or None.
        where: Each file, for people.
        given: A list that stands above the files' own (`--classes`).

    Returns the classes (None where nobody lists any), per file (C_file,) int64 places (None: this file's
    numbers have no list to count in), and sentences about what was done.

    Raises:
        InputError: lists that contradict each other, or `given`.
    """
    there = [at for at, one in enumerate(lists) if one is not None]
    places: list[np.ndarray | None] = [None] * len(lists)
    remarks: list[str] = []
    if given is not None:
        for at, own in enumerate(lists):
            places[at] = np.arange(len(given)) if own is None else _onto(own, given, where[at], remarks)
        return given, places, remarks
    if not there:
        return None, places, remarks
    first = there[0]
    merged = list(lists[first] or ())
    places[first] = np.arange(len(merged))
    agreed = True
    for at in there[1:]:
        own = lists[at] or ()
        if own == lists[first]:
            places[at] = np.arange(len(own))
            continue
        agreed = False
        if len(set(own)) < len(own) or len(set(merged)) < len(merged):
            raise InputError(
                f"{where[at]} and {where[first]} list different classes, and a name occurs twice in one; "
                "give every class a name of its own, or all files the same list"
            )
        codes = match_names(own, merged)
        if (codes < 0).all():
            raise InputError(
                f"{where[at]} and {where[first]} list no class in common ({_some(own)} / {_some(merged)}); "
                "name the right list with --classes FILE, or import them one by one"
            )
        new = np.flatnonzero(codes < 0)
        codes[new] = len(merged) + np.arange(len(new))
        merged += [own[position] for position in new]
        places[at] = codes
        how = "another order" if sorted(own) == sorted(lists[first] or ()) else "other classes"
        remarks.append(f"{where[at]} lists {how} than {where[first]}: its labels are matched by name")
    if agreed:
        places = [places[first] if place is None else place for place in places]
    return tuple(merged), places, remarks


def _onto(own: tuple[str, ...], given: tuple[str, ...], where: str, remarks: list[str]) -> np.ndarray:
    if own == given:
        return np.arange(len(given))
    codes = match_names(own, given)
    if (codes >= 0).all():
        remarks.append(f"{where} lists its classes in another way than --classes: matched by name")
        return codes
    if (codes < 0).all() and len(own) == len(given):
        remarks.append(f"{where}: its class names are replaced by those of --classes, in their order")
        return np.arange(len(given))
    lost = own[int(np.flatnonzero(codes < 0)[0])]
    raise InputError(
        f"{where}: its own class list has {lost!r}, which --classes lacks ({_some(given)}); leave --classes "
        "out, or list there every class"
    )


def _of_mapping(value: dict[Any, Any], where: str) -> tuple[str, ...]:
    pairs = list(value.items())
    if pairs and all(isinstance(number, int) and not isinstance(number, bool) for _, number in pairs):
        pairs = [(number, name) for name, number in pairs]
    numbered: dict[int, str] = {}
    for label, name in pairs:
        try:
            number, called = int(label), text_of(name)
        except (ValueError, TypeError):
            raise InputError(f"{where}: class names are a mapping, but not from label to name") from None
        if not called:
            raise InputError(f"{where}: class {number} has no name")
        if numbered.setdefault(number, called) != called:
            raise InputError(
                f"{where}: label {number} has two names, {numbered[number]!r} and {called!r}; keep one"
            )
    if len(numbered) != len(pairs) or sorted(numbered) != list(range(len(numbered))):
        raise InputError(f"{where}: class names are not for the labels 0 to {len(numbered) - 1}")
    return tuple(numbered[label] for label in range(len(numbered)))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f", … {len(names)} in all" if len(names) > 3 else "")
