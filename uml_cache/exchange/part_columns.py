"""Columns of all parts of an import together: ids, groups, views, and columns in files of their own.

Shapes: N samples of all parts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache.errors import InputError
from uml_cache.exchange.table import Columns, Part
from uml_cache.exchange.values import read_column, unique_ids
from uml_cache.tables.cells import as_texts
from uml_cache.tables.splits import as_groups
from uml_cache.tables.views import GIVEN, ID_KINDS, MADE, sample_keys, without_view_numbers


def whole_column(
    option: str | None, columns: list[Any], rows: list[int], kind: str
) -> tuple[list[Any], list[int]]:
    """The column of each part, or the one that a file of its own holds for all of them.

    Raises:
        InputError: a file of another number of values than there are samples.
    """
    if option is None or not Path(option).is_file():
        return columns, rows
    column = read_column(Path(option))
    if len(column) != sum(rows):
        raise InputError(f"{option}: has {len(column)} {kind}, there are {sum(rows)} samples")
    return [column], [sum(rows)]


def cut_column(column: Any, rows: list[int]) -> list[Any]:
    """The column of each part, of one that holds them all."""
    ends = np.cumsum(rows).tolist()
    return [column[end - count : end] for end, count in zip(ends, rows, strict=True)]


def groups_of(parts: list[Part], option: str | None, rows: list[int]) -> list[str] | None:
    """The groups of all parts, or of the file that holds them; rows of a part without any have none ("")."""
    whole, _ = whole_column(option, [], rows, "groups")
    if whole:
        return as_groups(whole[0], str(option))
    # What export wrote comes back as it was; other files' groups are read by the rules for tables.
    found = [
        as_texts(part.groups, part.where, "group") if part.attributes else as_groups(part.groups, part.where)
        for part in parts
    ]
    if all(one is None for one in found):
        return None
    return [
        group
        for part, groups in zip(parts, found, strict=True)
        for group in (groups if groups is not None else [""] * part.rows)
    ]


def ids_of(parts: list[Part], columns: Columns, rows: list[int], total: int) -> list[str]:
    """The ids of all rows, unique; row numbers where a part has none.

    Raises:
        InputError: a value that is no id.
    """
    if columns.ids is not None and Path(columns.ids).is_file():
        whole, _ = whole_column(columns.ids, [], rows, "ids")
        return unique_ids(as_texts(whole[0], columns.ids, "id") or [])
    if any(part.ids is None for part in parts):
        return [str(row) for row in range(total)]
    ids = [name for part in parts for name in part.ids or ()]
    for name in ids:
        if not name or re.search("[\ud800-\udfff]", name):
            raise InputError(f"{parts[0].where}: {name!r} is no id; ids are non-empty Unicode strings")
    return unique_ids(ids)


def samples_of(parts: list[Part], ids: list[str]) -> np.ndarray:
    """(N,) uint64: what the files say (as exported), else views are rows with the same id, which are
    numbered."""
    if all(part.samples is not None for part in parts):
        return np.concatenate([part.samples for part in parts])  # type: ignore[misc]
    return sample_keys(without_view_numbers(ids))


def without_ids(parts: Sequence[Part]) -> list[str]:
    """A remark where some parts have ids and others do not: then the rows of all are numbered."""
    lacking = [part.where for part in parts if part.ids is None]
    if not 0 < len(lacking) < len(parts):
        return []
    return [f"{', '.join(lacking)} has no ids: those of the others are not used, all rows are numbered"]


def id_kind_of(parts: list[Part], columns: Columns) -> str:
    """What the ids are, see `uml_cache.tables.views`."""
    if columns.ids is not None and Path(columns.ids).is_file():
        return GIVEN
    if any(part.ids is None for part in parts):
        return MADE
    told = parts[0].attributes.get("ids")
    return told if told in ID_KINDS else GIVEN
