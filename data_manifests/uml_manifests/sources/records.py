"""Manifests of files that hold many samples: JSON lines, saved data sets, arrays.

A source `FILE::PART` is a part of a file, which readers fetch without unpacking the rest: `OFFSET+SIZE` of a
tar, `COLUMN::ROW` of an arrow file, `NAME::ROW` of an array file. Texts are read while indexing.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache import (
    GIVEN,
    MADE,
    Choice,
    Columns,
    InputError,
    Part,
    as_groups,
    as_splits,
    parts_of,
    read_file,
    read_labels,
    strict_json,
    unique_ids,
    without_ids,
)
from uml_manifests.manifest.manifest import Manifest
from uml_manifests.manifest.table import decode
from uml_manifests.sources.builders import modality_of
from uml_manifests.sources.tabular import source_column, table_manifest

_UNREADABLE = "unreadable where the file was made"
ARRAYS = (".npy", ".npz", ".h5", ".hdf5")


def from_jsonl(
    path: str | Path,
    *,
    name: str | None = None,
    set: str | None = None,
    root: str | Path | None = None,
    modality: str | None = None,
    choice: Choice | None = None,
) -> Manifest:
    """A manifest of JSON objects, one a line: `text` (or `path`), and `id`, `label`, `split`, `group`.

    The keys are the columns of a table, read by the rules of `uml_cache.tables` or as `choice` says. A row
    without an id gets its line number.

    Raises:
        InputError: a line that is no JSON object, has a key twice, or lacks what the others have; it names
            the line.
    """
    path = Path(path)
    choice = choice or Choice()
    records, lines = _json_lines(path)
    names = list(dict.fromkeys(key for record in records for key in record))
    remarks: list[str] = []
    found = source_column(names, choice, str(path), modality, remarks)
    column, is_text = found or ("text", True)
    sources = []
    for record, number in zip(records, lines, strict=True):
        if not isinstance(record.get(column), str):
            there = ", ".join(map(str, record)) or "nothing"
            raise InputError(f"{path}, line {number}: has no string {column!r}; it has {there}")
        sources.append(record[column])
    kinds = {"text"} if is_text else {modality_of(source) for source in sources}
    modality = ("text" if is_text else modality) or next(iter(kinds))
    if modality is None or len(kinds) > 1:
        raise InputError(f"{path}: its paths are not all images or all sounds; say which modality is meant")
    return table_manifest(
        {name: [record.get(name) for record in records] for name in names if name != column},
        choice,
        str(path),
        name=name or path.stem,
        modality=modality,
        set=set,
        root=path.parent if root is None else Path(root),
        sources=sources,
        made_ids=[str(number) for number in lines],
        remarks=remarks,
    )


def _json_lines(path: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """The objects of a file, and the line of each."""
    records: list[dict[str, Any]] = []
    lines: list[int] = []
    for number, line in enumerate(decode(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = strict_json(line)
        except ValueError as error:
            twice = f" ({error})" if "occurs twice" in str(error) else ""
            raise InputError(f"{path}, line {number}: is no JSON{twice}") from None
        if not isinstance(record, dict):
            raise InputError(f"{path}, line {number}: is a JSON {type(record).__name__}; expected an object")
        records.append(record)
        lines.append(number)
    if not records:
        raise InputError(f"{path}: the file is empty; expected one JSON object a line")
    return records, lines


def is_saved_dataset(path: Path) -> bool:
    """Whether `path` is what `datasets` writes with `save_to_disk`."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def from_saved_dataset(
    path: str | Path,
    *,
    name: str | None = None,
    set: str | None = None,
    modality: str | None = None,
    choice: Choice | None = None,
) -> Manifest:
    """A manifest of a data set saved by Hugging Face `datasets`; its splits are those of the folder.

    Columns are chosen by the rules of `uml_cache.tables`, or as `choice` says. Needs pyarrow (the extra
    `hub`), not `datasets`.
    """
    from uml_manifests.sources.arrow import saved_rows

    path = Path(path)
    choice = choice or Choice()
    found = saved_rows(path, modality, choice)
    return table_manifest(
        found.columns,
        choice,
        str(path),
        name=name or path.resolve().name,
        modality=found.modality,
        set=set,
        root=path,
        sources=found.sources,
        made_ids=[f"{part}/{row}" if part else str(row) for part, row in found.places],
        remarks=found.remarks,
        splits=found.splits,
        label=found.label,
        lists=found.lists,
    )


def from_arrays(
    path: str | Path,
    *,
    name: str | None = None,
    set: str | None = None,
    features: str | None = None,
    choice: Choice | None = None,
) -> Manifest:
    """A manifest of modality `array`: the rows of an array in a .npy, .npz or HDF5 file.

    Labels, splits, ids, groups and class names come from the arrays beside it, as `uml cache import` finds
    them; groups `train`, `val` and `test` of the file are splits.
    """
    path = Path(path)
    choice = choice or Choice()
    columns = Columns(
        features=features, labels=choice.label, ids=choice.id, splits=choice.split, groups=choice.group
    )
    with ExitStack() as stack:
        content = read_file(path, stack)
        parts = parts_of(content, str(path), columns, deep=True)
        sources, rows = [], []
        for part in parts:
            holder = part.where.removeprefix(f"{path}").removeprefix(":")
            array = part.name if not holder else f"{holder}/{part.name}"
            sources += [f"{path.name}::{array}::{row}" for row in range(part.rows)]
            rows.append(part.rows)
        where = [part.where for part in parts]
        labels = read_labels([part.labels for part in parts], rows, [part.classes for part in parts], where)
        splits = [as_splits(part.splits, n, part.where) for part, n in zip(parts, rows, strict=True)]
        ids, kind = [str(row) for row in range(len(sources))], MADE
        if all(part.ids is not None for part in parts):
            ids, kind = unique_ids([one for part in parts for one in part.ids or ()]), GIVEN
        found = [as_groups(part.groups, part.where) or [""] * part.rows for part in parts]
        groups = [group for one in found for group in one]
        remarks = [remark for part in parts for remark in part.remarks] + without_ids(parts)
        failed = [row for part, n in zip(parts, rows, strict=True) for row in _failed(part, n)]
    manifest = Manifest(
        name=name or path.stem, modality="array", set=set, classes=labels.classes, root=path.parent, ids=ids,
        sources=sources, labels=labels.codes, splits=np.concatenate(splits),
        groups=groups if any(groups) else None, id_kind=kind,
        remarks=tuple(dict.fromkeys((*remarks, *labels.remarks))),
    )  # fmt: skip
    if not any(failed):
        return manifest
    left_out = tuple((one, _UNREADABLE) for one, out in zip(ids, failed, strict=True) if out)
    return replace(manifest.some(np.flatnonzero(~np.array(failed))), left_out=left_out)


def _failed(part: Part, rows: int) -> list[bool]:
    """Whether each row is none, as an exported store says of samples that could not be read."""
    return [False] * rows if part.status is None else (part.status != 0).tolist()
