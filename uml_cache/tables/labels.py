"""Labels: from the cells of any format to codes and class names, by the rules of `uml_cache.tables`.

Shapes: N samples of all sources together, C classes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from uml_cache.errors import InputError, unknown
from uml_cache.tables.cells import NOTHING, text_of, uniques
from uml_cache.tables.class_lists import merge_lists
from uml_cache.tables.names import folded_name, near_equal_remark

NO_LABEL = -1
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_WHOLE = re.compile(r"-?\d+")
_INTEGER = re.compile(r"0|[1-9][0-9]*")
_SHOWN = 3


@dataclass(frozen=True)
class Labels:
    """(N,) int32 `codes` into `classes` (-1: no label); `missing` counts how no label was written."""

    codes: np.ndarray
    classes: tuple[str, ...]
    missing: Mapping[str, int]
    remarks: tuple[str, ...]


@dataclass
class _Column:
    """The labels of one source: distinct cells with their text, and which one each row has."""

    where: str
    cells: list[Any]
    texts: list[str | None]
    inverse: np.ndarray
    whole: bool  # nothing but whole numbers, at least one
    places: np.ndarray | None

    def row(self, at: int) -> int:
        return int(np.argmax(self.inverse == at))


def read_labels(
    columns: Sequence[Any],
    rows: Sequence[int],
    lists: Sequence[tuple[str, ...] | None],
    where: Sequence[str],
    *,
    given: tuple[str, ...] | None = None,
) -> Labels:
    """The labels of all sources, one after the other.

    Args:
        columns: Per source an array or list of cells, or None for no labels.
        rows: Per source its number of samples.
        lists: Per source the class list that it holds, or None.
        where: Per source its name, for people.
        given: The class list that a person named; it stands above the sources' own.

    Raises:
        InputError: real numbers, lists or records as labels, a name that the class list lacks, a position
            beyond it, class lists that contradict each other. It names the row.
    """
    known, places, remarks = merge_lists(lists, where, given)
    read = [
        _read(column, count, name, place)
        for column, count, name, place in zip(columns, rows, where, places, strict=True)
    ]
    missing: Counter[str] = Counter()
    by_position: list[_Column] = []
    by_name: list[_Column] = []
    for column, own in zip(read, lists, strict=True):
        if known is not None and column.whole:
            if column.places is None:
                raise InputError(
                    f"{column.where}: its labels are numbers, it lists no classes, and the other files list "
                    "different ones; add its class list, or name one with --classes FILE"
                )
            by_position.append(column)
            if own is None and given is None and any(one is not None for one in lists):
                remarks.append(
                    f"{column.where} lists no classes: its numbers count in the list of the others"
                )
            continue
        by_name.append(column)
    _drop_missing(by_name, set(known or ()), missing)
    if known is None:
        _refuse_mixture(by_name)
        _settle_numbers(by_name, missing, remarks)
        classes = _sorted_names({text for column in by_name for text in column.texts if text is not None})
    else:
        classes = known
    codes = []
    for column in read:
        if any(column is one for one in by_position):
            codes.append(_positions(column, lists, known or (), missing, remarks))
        else:
            codes.append(_by_name(column, classes))
    _tell(read, classes, missing, remarks)
    return Labels(np.concatenate(codes).astype(np.int32), classes, dict(missing), tuple(remarks))


def _read(column: Any, count: int, where: str, places: np.ndarray | None) -> _Column:
    if column is None:
        return _Column(where, [None], [None], np.zeros(count, np.int64), False, places)
    cells, inverse = uniques(column, where)
    texts: list[str | None] = []
    for at, cell in enumerate(cells):
        try:
            texts.append(text_of(cell))
        except ValueError as error:
            row = int(np.argmax(inverse == at))
            raise InputError(_unfit(where, cell, row, str(error))) from None
    whole = [not isinstance(cell, str | bytes) for cell in cells if cell is not None]
    return _Column(where, cells, texts, inverse, bool(whole) and all(whole), places)


def _unfit(where: str, cell: Any, row: int, problem: str) -> str:
    if isinstance(cell, float):
        return (
            f"{where}: label {cell} of row {row} is no class index and no name but a real number; regression "
            "is not offered: cut the values into classes"
        )
    return f"{where}: the label of row {row} {problem} ({str(cell)[:40]!r}); expected text or a whole number"


def _drop_missing(columns: Sequence[_Column], known: set[str], missing: Counter[str]) -> None:
    """Set texts that stand for no label to None, and count their rows."""
    names = {folded_name(name) for name in known}
    for column in columns:
        counts = np.bincount(column.inverse, minlength=len(column.texts))
        for at, text in enumerate(column.texts):
            if text is None:
                missing[_written(column.cells[at])] += int(counts[at])
            elif folded_name(text) not in names and (text.casefold() in NOTHING or text == str(NO_LABEL)):
                column.texts[at] = None
                missing[text or "empty"] += int(counts[at])


def _written(cell: Any) -> str:
    return "nan" if isinstance(cell, float) else "empty"


def _refuse_mixture(columns: Sequence[_Column]) -> None:
    """Where one file names its classes, another one's whole numbers may be positions among these."""
    numbers = [column for column in columns if column.whole]
    truths = [column.where for column in numbers if _is_truth(column)]
    others = [column.where for column in numbers if not _is_truth(column)]
    if truths and others:
        raise InputError(
            f"{truths[0]}: its labels are true and false, those of {others[0]} whole numbers; write the "
            "same in both"
        )
    named = [
        column
        for column in columns
        if any(text is not None and not _NUMBER.fullmatch(text) for text in column.texts) and not column.whole
    ]
    if numbers and named and not truths:
        raise InputError(
            f"{numbers[0].where}: its labels are whole numbers and those of {named[0].where} are names; "
            "name the classes in their order with --classes FILE, or write names in both"
        )


def _is_truth(column: _Column) -> bool:
    return all(cell is None or isinstance(cell, bool) for cell in column.cells)


def _settle_numbers(columns: Sequence[_Column], missing: Mapping[str, int], remarks: list[str]) -> None:
    """Where all labels are numbers: `1.0` is 1, real numbers are refused, and so are numbers below 0."""
    texts = [text for column in columns for text in column.texts if text is not None]
    if not texts or not all(_NUMBER.fullmatch(text) for text in texts):
        return
    if set(texts) == {"1"} and str(NO_LABEL) in missing:
        raise InputError(
            f"{columns[0].where}: the labels are -1 and 1, and -1 stands for no label; write 0 and 1, or "
            "names"
        )
    pointed = any(not _WHOLE.fullmatch(text) for text in texts)
    for column in columns:
        for at, text in enumerate(column.texts):
            if text is None:
                continue
            number = float(text)
            if not number.is_integer():
                raise InputError(_unfit(column.where, number, column.row(at), ""))
            if number < 0:
                raise InputError(
                    f"{column.where}: label {text} of row {column.row(at)} is no class index: numbers count "
                    "from 0 on, and -1 is no label"
                )
            if pointed and not _WHOLE.fullmatch(text):
                column.texts[at] = str(int(number))
    if pointed:
        remarks.append("labels such as 1.0 are read as whole numbers")


def _sorted_names(names: set[str]) -> tuple[str, ...]:
    if all(_INTEGER.fullmatch(name) for name in names):
        return tuple(sorted(names, key=lambda name: (len(name), name)))  # as numbers, however long
    return tuple(sorted(names))


def _positions(
    column: _Column,
    lists: Sequence[tuple[str, ...] | None],
    classes: tuple[str, ...],
    missing: Counter[str],
    remarks: list[str],
) -> np.ndarray:
    """Codes of whole numbers, which count in a class list (at most as long as `column.places`)."""
    places = column.places
    assert places is not None
    counts = np.bincount(column.inverse, minlength=len(column.texts))
    codes = np.empty(len(column.texts), np.int64)
    both: list[str] = []
    for at, text in enumerate(column.texts):
        number = NO_LABEL if text is None else int(column.cells[at])
        if number == NO_LABEL:
            missing[_written(column.cells[at]) if text is None else text] += int(counts[at])
            codes[at] = NO_LABEL
        elif number < 0:
            raise InputError(
                f"{column.where}: label {number} of row {column.row(at)} is no class index (0, 1, …, or -1)"
            )
        elif number >= len(places):
            raise InputError(
                f"{column.where}: label {number} occurs, and there are {len(places)} class names; "
                "numbers beside a class list are positions in it, from 0 on"
            )
        else:
            codes[at] = places[number]
            if str(number) in classes and classes[codes[at]] != str(number):
                both.append(str(number))
    if both:
        remarks.append(
            f"{column.where}: labels are positions in the class list, which has numbers for names: label "
            f"{both[0]} is the class {classes[places[int(both[0])]]!r}"
        )
    return codes[column.inverse]


def _by_name(column: _Column, classes: tuple[str, ...]) -> np.ndarray:
    exact: dict[str, list[int]] = {}
    folded: dict[str, list[int]] = {}
    for at, name in enumerate(classes):
        exact.setdefault(name, []).append(at)
        folded.setdefault(folded_name(name), []).append(at)
    codes = np.full(len(column.texts), NO_LABEL, np.int64)
    for at, text in enumerate(column.texts):
        if text is None:
            continue
        here = exact.get(text) or folded.get(folded_name(text), [])
        if len(here) > 1:
            raise InputError(
                f"{column.where}: label {text!r} of row {column.row(at)} fits {len(here)} classes of the "
                "class list; give each class a name of its own, or write positions as whole numbers"
            )
        if not here:
            raise InputError(_not_listed(column, text, classes))
        codes[at] = here[0]
    return codes[column.inverse]


def _not_listed(column: _Column, text: str, classes: tuple[str, ...]) -> str:
    said = f"{column.where}: {unknown('class', text, classes)}"
    if _WHOLE.fullmatch(text) and all(t is None or _WHOLE.fullmatch(t) for t in column.texts):
        said += "; labels that are text are names: positions must be stored as whole numbers"
    return said


def _tell(
    read: Sequence[_Column], classes: tuple[str, ...], missing: Mapping[str, int], remarks: list[str]
) -> None:
    words = {how: n for how, n in missing.items() if how != "empty"}
    if words:
        shown = ", ".join(f"{how!r} ({n:,})" for how, n in list(words.items())[:_SHOWN])
        remarks.append(f"labels read as no label: {shown}")
    raw: dict[str, dict[str, None]] = {}
    for column in read:
        for cell, text in zip(column.cells, column.texts, strict=True):
            if isinstance(cell, str) and text is not None and cell != text:
                raw.setdefault(text, {})[cell] = None
    if raw:
        shown = "; ".join(
            f"{', '.join(map(repr, cells))} as {text!r}" for text, cells in list(raw.items())[:_SHOWN]
        )
        remarks.append(f"labels are read without outer blanks and in one Unicode form: {shown}")
    if near := near_equal_remark(classes):
        remarks.append(near)
    if twice := [name for name, count in Counter(classes).items() if count > 1]:
        shown = ", ".join(map(repr, twice[:_SHOWN]))
        remarks.append(f"the class list has {shown} more than once: classes of their own, by position")
