"""From the columns of a table, whatever its format, to a manifest, by the rules of `uml_cache.tables`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache import (
    GIVEN,
    MADE,
    Choice,
    InputError,
    as_groups,
    as_splits,
    as_texts,
    choose_column,
    option_of,
    read_labels,
)
from uml_manifests.manifest.manifest import Manifest, first_repeat


def source_column(
    names: Sequence[str], choice: Choice, where: str, modality: str | None, remarks: list[str]
) -> tuple[str, bool] | None:
    """The column of paths or texts, and whether it holds texts; None where there is neither.

    Raises:
        InputError: both are there while `modality` does not choose, or see `choose_column`.
    """
    if (choice.path is None) != (choice.text is None):
        role = "text" if choice.path is None else "path"
        found = choose_column(role, names, choice.text or choice.path, where, remarks)
        return None if found is None else (found, role == "text")
    path = choose_column("path", names, choice.path, where, remarks)
    if modality == "text" or path is None:
        text = choose_column("text", names, choice.text, where, remarks)
        if text is not None:
            return text, True
        return None if modality == "text" or path is None else (path, False)
    texts = choose_column("text", names, choice.text, where, [], usual=())
    if texts is not None and modality is None:
        raise InputError(f"{where}: has both a path and a text column; say which modality is meant")
    return path, False


def table_manifest(
    columns: Mapping[str, Sequence[Any]],
    choice: Choice,
    where: str,
    *,
    name: str,
    modality: str,
    set: str | None,
    root: Path,
    sources: list[str],
    made_ids: list[str],
    made_kind: str = MADE,
    remarks: list[str],
    splits: Any = None,
    label: str | None = None,
    lists: Mapping[str, tuple[str, ...]] | None = None,
    left_out: Sequence[tuple[str, str]] = (),
) -> Manifest:
    """The manifest of a table whose sources are known already.

    Args:
        columns: All columns of the table that may hold labels, splits, ids and groups, each of N cells.
        sources: N paths or texts.
        made_ids: N ids for the rows that the table gives none, and `made_kind`: what these are.
        remarks: What was said so far; it grows.
        splits: The splits where something else than a column tells them.
        label: The label column, where it is chosen already.
        lists: Class lists of columns that have one.

    Raises:
        InputError: see `choose_column`, `read_labels`, `as_splits`.
    """
    rows, names = len(sources), list(columns)
    label = label or choose_column("label", names, choice.label, where, remarks)
    own = None if label is None else (lists or {}).get(label)
    labels = read_labels([None if label is None else columns[label]], [rows], [own], [where])
    if splits is None:
        column = choose_column("split", names, choice.split, where, remarks)
        splits = None if column is None else columns[column]
    ids, are_made = _ids(columns, choice, where, made_ids, remarks)
    group = choose_column("group", names, choice.group, where, remarks)
    return Manifest(
        name=name,
        modality=modality,
        set=set,
        classes=labels.classes,
        root=root,
        ids=ids,
        id_kind=made_kind if are_made else GIVEN,
        sources=sources,
        labels=labels.codes,
        splits=splits if isinstance(splits, np.ndarray) else as_splits(splits, rows, where),
        groups=None if group is None else as_groups(list(columns[group]), where),
        remarks=(*remarks, *labels.remarks),
        left_out=tuple(left_out),
    )


def _ids(
    columns: Mapping[str, Sequence[Any]], choice: Choice, where: str, made: list[str], remarks: list[str]
) -> tuple[list[str], bool]:
    """The ids of the table, and whether any is made: a row without one gets the one made for it."""
    column = choose_column("id", list(columns), choice.id, where, remarks)
    if column is None:
        return made, True
    given = as_texts(list(columns[column]), where, "id") or []
    ids = [one or new for one, new in zip(given, made, strict=True)]
    if len({*ids}) < len(ids):
        value, first, again = first_repeat(ids)
        raise InputError(
            f"{where}: id {value!r} occurs twice (rows {first} and {again}) in column {column!r}; ids must "
            f"be unique: fix them, or name another column with {option_of('id')}"
        )
    return ids, not all(given)
