"""Samples without labels, which someone wants to know: files, folders, tables of paths or texts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from uml_cache import MADE, Choice, InputError, choose_column
from uml_manifests.manifest.files import HEADER
from uml_manifests.manifest.manifest import NO_LABEL, NO_SPLIT, Manifest
from uml_manifests.manifest.table import read_table
from uml_manifests.resolve import resolve_data
from uml_manifests.sources.builders import EXTENSIONS
from uml_manifests.sources.folders import media_below
from uml_manifests.sources.tabular import source_column

_TABLES = (".csv", ".jsonl", ".ndjson", ".txt", ".tar", ".npy", ".npz", ".h5", ".hdf5", ".toml")


def new_samples(
    given: Sequence[str | Path], modality: str, choice: Choice | None = None
) -> tuple[Manifest, list[str]]:
    """A manifest without labels, and what each sample is called. The manifest says what was left out and how
    columns were chosen.

    Args:
        given: one folder (its files of the modality, at whatever depth, called by their path below it), one
            table (CSV with a column of paths or texts, or whatever `resolve_data` reads), or any number of
            files and folders, called by their path as it was given.
        modality: `image`, `text`, `audio` or `array`.
        choice: the columns of a table.

    Raises:
        InputError: no such file, nothing of the modality there, an unreadable table.
    """
    if not given:
        raise InputError("no file, folder or table is given")
    if len(given) == 1:
        one = Path(given[0])
        if one.is_dir():
            plain = modality in EXTENSIONS and not (one / HEADER).is_file()
            if plain and (found := media_below(one, modality)).files:
                return _files(found.files, one, found.files, modality, found.left_out)
            return _resolved(one, modality, choice)
        if one.suffix.lower() == ".csv" and one.is_file():
            return _table(one, modality, choice or Choice())
        if one.is_file() and one.suffix.lower() in _TABLES:
            return _resolved(one, modality, choice)
    if modality not in EXTENSIONS:
        raise InputError(
            f"{given[0]}: holds no {modality}; give one table (CSV, JSON lines) or one file of texts, one a "
            "line (.txt)"
            if modality == "text"
            else f"{given[0]}: holds no {modality}; give one file of arrays (.npy, .npz, HDF5)"
        )
    names: list[str] = []
    left_out: list[tuple[str, str]] = []
    for item in map(Path, given):
        if item.is_dir():
            below, here = media_below(item, modality), item.as_posix().rstrip("/")
            names += [f"{here}/{name}" for name in below.files]
            left_out += [(f"{here}/{name}", why) for name, why in below.left_out]
        elif item.exists():
            names.append(str(item))
        else:
            raise InputError(f"{item}: no such file or folder")
    if not names:
        raise InputError(f"{', '.join(map(str, given[:3]))}: no {modality} file is there")
    return _files([os.path.abspath(name) for name in names], Path.cwd(), names, modality, left_out)


def _files(
    sources: list[str],
    root: Path,
    names: list[str],
    modality: str,
    left_out: Sequence[tuple[str, str]] = (),
    remarks: Sequence[str] = (),
) -> tuple[Manifest, list[str]]:
    rows = len(sources)
    manifest = Manifest(
        name="new", modality=modality, classes=(), root=root, ids=[str(row) for row in range(rows)],
        sources=sources, labels=np.full(rows, NO_LABEL), splits=np.full(rows, NO_SPLIT), id_kind=MADE,
        left_out=tuple(left_out), remarks=tuple(remarks),
    )  # fmt: skip
    return manifest, names


def _table(path: Path, modality: str, choice: Choice) -> tuple[Manifest, list[str]]:
    """A CSV: paths are called as they stand there, texts by their id or else the number of their row."""
    table = read_table(path)
    columns = list(table.columns)
    remarks: list[str] = []
    found = source_column(columns, choice, str(path), modality, remarks)
    if found is None:
        table.need("text" if modality == "text" else "path")
    assert found is not None
    column, is_text = found
    if is_text != (modality == "text"):
        kind = "texts" if is_text else "paths"
        raise InputError(f"{path}: column {column!r} holds {kind}, and the model takes {modality}")
    cells = table.columns[column]
    if not is_text:
        return _files(list(cells), path.parent, list(cells), modality, (), remarks)
    ids = choose_column("id", columns, choice.id, str(path), remarks)
    names = [str(row + 1) for row in range(len(cells))] if ids is None else list(table.columns[ids])
    return _files(list(cells), path.parent, names, "text", (), remarks)


def _resolved(path: Path, modality: str, choice: Choice | None) -> tuple[Manifest, list[str]]:
    found = resolve_data(path, modality=modality, choice=choice)
    rows = len(found)
    # Labels that happen to be there are nobody's business here.
    return replace(found, classes=(), labels=np.full(rows, NO_LABEL)), list(found.ids)
