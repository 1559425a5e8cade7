"""Manifests on disk: `dataset.toml` (what the data set is) beside `samples.csv` (its rows).

`dataset.toml` is written last and removed first: where it stands, the folder is complete.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache import GIVEN, InputError, folder_lock, parse_toml, unknown, whole_file
from uml_manifests.manifest.manifest import MODALITIES, NO_LABEL, SPLITS, Manifest, bad_paths
from uml_manifests.manifest.table import Table, decode, read_table, write_table

HEADER, SAMPLES = "dataset.toml", "samples.csv"
_KEYS = ("name", "modality", "set", "classes", "labels", "root", "licence", "source", "prompts", "options",
         "ids")  # fmt: skip


def load_manifest(path: str | Path) -> Manifest:
    """Read the manifest in a folder (or name its `dataset.toml`).

    Labels in `samples.csv` are class names, or class indices throughout (`labels = "index"` says so where
    class names are numbers themselves); an empty cell is no label. `ids` says what the ids are: `shared`
    declares that they name the same samples in every modality of the data set, `own` that they do not.
    `root` is taken relative to the folder.

    Raises:
        InputError: a file is absent or malformed; the line says which one, where, and what is expected.
    """
    path = Path(path)
    folder = path.parent if path.suffix == ".toml" else path
    header_path = path if path.suffix == ".toml" else path / HEADER
    with folder_lock(folder, shared=True):
        header = _read_header(header_path)
        table = read_table(folder / SAMPLES)
    table.check_names()
    modality = header["modality"]
    column = "text" if modality == "text" else "path"
    table.need("id", column, "label")
    sources = table.columns[column]
    if modality != "text":
        check_paths(table, sources)
    classes = tuple(header["classes"])
    return Manifest(
        name=header["name"],
        modality=modality,
        set=header.get("set"),
        classes=classes,
        root=folder / header.get("root", ""),
        ids=table.ids(),
        sources=sources,
        labels=_labels(table, classes, header.get("labels", "name")),
        splits=table.splits(),
        groups=table.groups(),
        licence=header.get("licence"),
        source=header.get("source"),
        prompts=tuple(header.get("prompts", ())),
        options=tuple(header.get("options", ())),
        id_kind=header.get("ids", GIVEN),
    )


def write_manifest(manifest: Manifest, folder: str | Path) -> Path:
    """Write a manifest into a folder, which is made if need be; returns the folder.

    A reader never meets half of it: at every moment the folder holds the old manifest, the new one, or none
    that counts as complete. Of two that write at once one comes after the other.
    """
    folder = Path(folder)
    by_name = len(set(manifest.classes)) == len(manifest.classes)
    names = [*manifest.classes, ""] if by_name else [*map(str, range(len(manifest.classes))), ""]
    split_names = dict(enumerate(SPLITS))
    columns: dict[str, Any] = {
        "id": manifest.ids,
        "text" if manifest.modality == "text" else "path": manifest.sources,
        "label": (names[label] for label in manifest.labels.tolist()),
        "split": (split_names.get(code, "") for code in manifest.splits.tolist()),
    }
    if manifest.groups is not None:
        columns["group"] = manifest.groups
    header: dict[str, Any] = {
        "name": manifest.name,
        "modality": manifest.modality,
        "set": manifest.set,
        "root": None if manifest.modality == "text" else _root_entry(manifest.root, folder),
        "licence": manifest.licence,
        "source": manifest.source,
        "labels": None if by_name else "index",
        "ids": None if manifest.id_kind == GIVEN else manifest.id_kind,
        "prompts": list(manifest.prompts) or None,
        "options": list(manifest.options) or None,
        "classes": list(manifest.classes),
    }
    text = toml_text({k: v for k, v in header.items() if v is not None})
    with folder_lock(folder), whole_file(folder / HEADER) as header_new:
        header_new.write(text.encode())
        with whole_file(folder / SAMPLES) as samples_new:
            write_table(samples_new, columns)
            for written in (header_new, samples_new):  # while the old manifest still stands
                written.flush()
                os.fsync(written.fileno())
            (folder / HEADER).unlink(missing_ok=True)
    return folder


def check_paths(table: Table, sources: Sequence[str]) -> None:
    """Raise for the first path of a table that is empty or leaves the root."""
    if bad := next(bad_paths(sources), None):
        raise table.error(*bad)


def toml_text(values: dict[str, Any]) -> str:
    """Strings and lists of strings as TOML; one list item a line."""
    lines = []
    for key, value in values.items():
        if isinstance(value, str):
            lines.append(f"{key} = {_toml_string(value)}")
        else:
            lines += [f"{key} = [", *(f"    {_toml_string(item)}," for item in value), "]"]
    return "\n".join(lines) + "\n"


def _toml_string(value: str) -> str:
    # A TOML basic string is a JSON string, except that DEL has to be escaped as well.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _read_header(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path.parent}: no {path.name} there, so it is not a manifest folder")
    try:
        header = parse_toml(decode(path))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not valid TOML ({error})") from None
    for key, value in header.items():
        if key not in _KEYS:
            raise InputError(f"{path}: {unknown('key', key, _KEYS)}")
        kind = list if key in ("classes", "prompts", "options") else str
        if not isinstance(value, kind) or (kind is list and not all(isinstance(v, str) for v in value)):
            raise InputError(f"{path}: {key} must be {'a list of strings' if kind is list else 'a string'}")
    for key in ("name", "modality", "classes"):
        if key not in header:
            raise InputError(f"{path}: {key} is missing")
    if header["modality"] not in MODALITIES:
        raise InputError(f"{path}: {unknown('modality', header['modality'], MODALITIES)}")
    if header.get("labels", "name") not in ("name", "index"):
        raise InputError(f'{path}: labels must be "name" or "index", got {header["labels"]!r}')
    return header


def _labels(table: Table, classes: tuple[str, ...], kind: str) -> np.ndarray:
    """(N,) int32 class indices; the whole column holds names, or the whole column holds indices."""
    cells = table.columns["label"]
    by_name = {name: index for index, name in enumerate(classes)} | {"": NO_LABEL}
    by_index = {str(index): index for index in range(len(classes))} | {"": NO_LABEL}
    if kind == "name" and len(set(classes)) != len(classes):
        kind = "index"  # a repeated name does not say which class is meant
    codes = by_name if kind == "name" else by_index
    used = set(cells)
    # Indices, if all cells are and none is a class name too: such a cell would have two readings.
    if not used <= codes.keys() and used <= by_index.keys() and not used & codes.keys() - {""}:
        codes = by_index
    try:
        return np.fromiter(map(codes.__getitem__, cells), np.int32, len(cells))
    except KeyError:
        row = next(i for i, cell in enumerate(cells) if cell not in codes)
        if codes is by_index:
            problem = f"label {cells[row]!r} is not a class index below {len(classes)}"
        else:
            problem = f"label {cells[row]!r} is not one of the {len(classes)} classes in {HEADER}"
        raise table.error(row, problem) from None


def _root_entry(root: Path, folder: Path) -> str | None:
    folder = Path(os.path.abspath(folder))
    if root == folder:
        return None
    if root == folder.parent:
        return ".."  # arrays beside the manifests that share them: the whole may be moved
    return root.relative_to(folder).as_posix() if root.is_relative_to(folder) else str(root)
