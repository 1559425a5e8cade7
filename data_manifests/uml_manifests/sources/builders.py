"""Manifests made from what people have: class folders, a CSV file, a split file, a list of texts."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import numpy as np

from uml_cache import InputError, parse_json
from uml_manifests.manifest.files import check_paths
from uml_manifests.manifest.manifest import NO_LABEL, NO_SPLIT, SPLITS, Manifest
from uml_manifests.manifest.table import Table, decode, read_table

EXTENSIONS = {
    "image": frozenset(
        ["jpg", "jpeg", "jpe", "png", "bmp", "gif", "webp", "tif", "tiff", "ppm", "pgm", "jp2", "avif"]
    ),
    "audio": frozenset(["wav", "flac", "ogg", "oga", "opus", "mp3", "aif", "aiff", "aifc", "au", "caf"]),
}
_MODALITY_OF = {extension: modality for modality, known in EXTENSIONS.items() for extension in known}
_SPLIT_FOLDERS = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}


def modality_of(name: str) -> str | None:
    """`image` or `audio` by a file name's extension, None for anything else."""
    return _MODALITY_OF.get(name.rpartition(".")[2].lower()) if "." in name else None


def from_folder(
    folder: str | Path, *, name: str | None = None, set: str | None = None, modality: str | None = None
) -> Manifest:
    """A manifest of `FOLDER/CLASS/…/file`, or of `FOLDER/train|val|test/CLASS/…/file`.

    Class names are sorted; within a class files are sorted by path. The id of a sample is its path. A class
    folder without media stays a class (`Manifest.missing_classes` names it). Hidden files are skipped.

    Raises:
        InputError: no such folder, nothing in it, no class folders or no media files in them (it says what
            was found), or images and sounds together while `modality` does not choose.
    """
    folder = Path(folder)
    top = _class_folders(folder)
    splits_of = dict.fromkeys(top, NO_SPLIT)
    if "train" in top and _are_splits(top):
        splits_of = {
            f"{part}/{sub}": _SPLIT_FOLDERS[part] for part in top for sub in _class_folders(folder / part)
        }
    files: dict[str, list[str]] = {where: sorted(_walk(folder, where)) for where in splits_of}
    modality = modality or _choose_modality(folder, [path for paths in files.values() for path in paths])
    class_of = {where: where.rpartition("/")[2] for where in splits_of}
    classes = sorted({*class_of.values()})
    index = {name: position for position, name in enumerate(classes)}
    sources: list[str] = []
    labels: list[int] = []
    splits: list[int] = []
    for where in sorted(splits_of, key=lambda where: (splits_of[where], where)):
        here = [path for path in files[where] if modality_of(path) == modality]
        sources += here
        labels += [index[class_of[where]]] * len(here)
        splits += [splits_of[where]] * len(here)
    if not sources:
        found = _kinds([path for paths in files.values() for path in paths])
        raise InputError(f"{folder}: no {modality} files in its {len(classes)} class folders; found {found}")
    return Manifest(
        name=name or folder.resolve().name,
        modality=modality,
        set=set,
        classes=tuple(classes),
        root=folder,
        ids=sources,
        sources=sources,
        labels=np.array(labels),
        splits=np.array(splits),
    )


def from_csv(
    path: str | Path,
    *,
    name: str | None = None,
    set: str | None = None,
    root: str | Path | None = None,
    modality: str | None = None,
) -> Manifest:
    """A manifest of a CSV file with the columns id, path or text, label [, split] [, group].

    Labels are class names or integers; classes are the distinct labels, sorted (integers by value). An empty
    label is none. Paths are relative to `root`, by default the CSV's folder.

    Raises:
        InputError: see `read_table`; also a mix of images and sounds, or both path and text columns, while
            `modality` does not choose.
    """
    path = Path(path)
    table = read_table(path)
    column = _source_column(table, modality)
    table.need("id", column, "label")
    sources = table.columns[column]
    if column == "text":
        modality = "text"
    else:
        check_paths(table, sources)
        modality = modality or _choose_modality(path, sources)
    cells = table.columns["label"]
    names = {*cells} - {""}
    numbers = all(re.fullmatch(r"0|[1-9][0-9]*", name) for name in names)
    classes = sorted(names, key=int) if numbers else sorted(names)
    code = {name: index for index, name in enumerate(classes)} | {"": NO_LABEL}
    return Manifest(
        name=name or path.stem,
        modality=modality,
        set=set,
        classes=tuple(classes),
        root=path.parent if root is None else Path(root),
        ids=table.ids(),
        sources=sources,
        labels=np.fromiter(map(code.__getitem__, cells), np.int32, len(cells)),
        splits=table.splits(),
        groups=table.groups(),
    )


def from_lines(path: str | Path, *, name: str | None = None, set: str | None = None) -> Manifest:
    """A manifest of unlabelled texts, one a line (blank lines are skipped); the id is the line number."""
    path = Path(path)
    lines = [(number, line.strip()) for number, line in enumerate(decode(path).split("\n"), 1)]
    lines = [(number, line) for number, line in lines if line]
    if not lines:
        raise InputError(f"{path}: the file is empty; expected one text a line")
    return Manifest(
        name=name or path.stem,
        modality="text",
        set=set,
        classes=(),
        root=path.parent,
        ids=[str(number) for number, _ in lines],
        sources=[line for _, line in lines],
        labels=np.full(len(lines), NO_LABEL),
        splits=np.full(len(lines), NO_SPLIT),
    )


def from_coop(
    split_file: str | Path,
    image_root: str | Path,
    name: str,
    *,
    licence: str | None = None,
    source: str | None = None,
    prompts: tuple[str, ...] = (),
) -> Manifest:
    """A manifest of a CoOp split file `{"train": [[path, label, classname], …], "val": …, "test": …}`.

    Rows are train, val, test in the file's order (the few-shot draws depend on it); the id is the path. The
    image files are not looked at.

    Raises:
        InputError: malformed file, a label with two names, a label in 0…C-1 that never occurs.
    """
    split_file = Path(split_file)
    try:
        content = parse_json(decode(split_file))
        rows = [
            (str(p), int(y), str(c), code) for code, part in enumerate(SPLITS) for p, y, c in content[part]
        ]
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{split_file}: not a split file; expected train, val, test, each of [path, label, class]"
        ) from None
    names: dict[int, str] = {}
    for path, label, class_name, _ in rows:
        if names.setdefault(label, class_name) != class_name:
            raise InputError(
                f"{split_file}: label {label} is {names[label]!r} and, at {path!r}, {class_name!r}"
            )
    if sorted(names) != list(range(len(names))):
        raise InputError(f"{split_file}: the labels are not 0 to {len(names) - 1} without gaps")
    paths = [path for path, *_ in rows]
    return Manifest(
        name=name,
        modality="image",
        classes=tuple(names[label] for label in range(len(names))),
        root=Path(image_root),
        ids=paths,
        sources=paths,
        labels=np.array([label for _, label, _, _ in rows]),
        splits=np.array([code for *_, code in rows]),
        licence=licence,
        source=source,
        prompts=prompts,
    )


def _are_splits(names: list[str]) -> bool:
    """Whether all these folder names are split names, two or more of them."""
    return len(names) > 1 and all(name in _SPLIT_FOLDERS for name in names)


def _class_folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise InputError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}")
    with os.scandir(folder) as entries:
        visible = [(entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith(".")]
    if not visible:
        raise InputError(f"{folder}: the folder is empty; expected one folder a class")
    folders = sorted(name for name, is_folder in visible if is_folder)
    if not folders:
        raise InputError(
            f"{folder}: no class folders; found {_kinds([name for name, _ in visible])}. "
            "Put each class into a folder of its own, or list the files in a CSV (id,path,label)"
        )
    return folders


def _walk(root: Path, where: str) -> list[str]:
    found, pending = [], [where]
    while pending:
        here = pending.pop()
        with os.scandir(root / here) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    pending.append(f"{here}/{entry.name}")
                elif not entry.is_dir():
                    found.append(f"{here}/{entry.name}")
    return found


def _choose_modality(where: Path, paths: list[str]) -> str:
    kinds = Counter(kind for path in paths if (kind := modality_of(path)) is not None)
    if not kinds:
        raise InputError(f"{where}: no image or audio files; found {_kinds(paths)}")
    if len(kinds) > 1:
        counts = " and ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        raise InputError(f"{where}: {counts} files together; say which modality is meant, or separate them")
    return next(iter(kinds))


def _source_column(table: Table, modality: str | None) -> str:
    has_path, has_text = "path" in table.columns, "text" in table.columns
    if has_path and has_text and modality is None:
        raise InputError(f"{table.path}: has both a path and a text column; say which modality is meant")
    if not has_path and not has_text:
        table.need("path or text")
    return "text" if has_text and (modality == "text" or not has_path) else "path"


def _kinds(names: list[str]) -> str:
    """What a list of files consists of, for an error: `3 .npy, 1 .md`."""
    if not names:
        return "no files"
    counts = Counter(os.path.splitext(name)[1].lower() or "without extension" for name in names)
    return ", ".join(f"{count} {extension}" for extension, count in counts.most_common(4))
