"""Manifests made from what people have: a CSV file, a split file, a list of texts."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np

from uml_cache import MADE, Choice, InputError, choose_column, parse_json
from uml_manifests.manifest.files import check_paths
from uml_manifests.manifest.manifest import NO_LABEL, NO_SPLIT, SPLITS, Manifest
from uml_manifests.manifest.table import SEPARATORS, decode, read_table
from uml_manifests.sources.tabular import source_column, table_manifest

EXTENSIONS = {
    "image": frozenset(
        ["jpg", "jpeg", "jpe", "png", "bmp", "gif", "webp", "tif", "tiff", "ppm", "pgm", "jp2", "avif"]
    ),
    "audio": frozenset(["wav", "flac", "ogg", "oga", "opus", "mp3", "aif", "aiff", "aifc", "au", "caf"]),
}
# Formats of pictures and sounds that nothing here reads; other files beside samples are no samples.
_UNREADABLE = frozenset(
    ["heic", "heif", "jxl", "svg", "psd", "raw", "cr2", "cr3", "nef", "arw", "dng", "orf", "rw2", "raf",
     "exr", "dcm", "m4a", "aac", "wma", "amr", "ac3", "mid", "midi", "webm", "mp4", "mov", "mkv", "avi"]
)  # fmt: skip
_MODALITY_OF = {extension: modality for modality, known in EXTENSIONS.items() for extension in known}


def modality_of(name: str) -> str | None:
    """`image` or `audio` by a file name's extension, None for anything else."""
    return _MODALITY_OF.get(name.rpartition(".")[2].lower()) if "." in name else None


def reason_for(name: str) -> str:
    """Why a file that is neither picture nor sound is left out."""
    extension = os.path.splitext(name)[1].lower()
    if extension[1:] in _UNREADABLE:
        return f"unreadable format {extension}"
    return f"neither image nor audio ({extension or 'without extension'})"


def why_not(name: str) -> str:
    """Why a file is left out where others are taken: of another modality, or neither picture nor sound."""
    kind = modality_of(name)
    return reason_for(name) if kind is None else f"{kind} file, not asked for"


def from_csv(
    path: str | Path,
    *,
    name: str | None = None,
    set: str | None = None,
    root: str | Path | None = None,
    modality: str | None = None,
    choice: Choice | None = None,
) -> Manifest:
    """A manifest of a CSV or TSV file: columns path or text, label, and if it has them id, split and group.

    They are read by the rules of `uml_cache.tables`, or as `choice` says. Paths are relative to `root`, by
    default the CSV's folder.

    Raises:
        InputError: see `read_table`; also a mix of images and sounds, or both path and text columns, while
            `modality` does not choose.
    """
    path = Path(path)
    choice = choice or Choice()
    table = read_table(path)
    remarks: list[str] = []
    if table.separator != ("\t" if path.suffix.lower() == ".tsv" else ","):
        remarks.append(f"the columns are separated by {SEPARATORS[table.separator]}")
    found = source_column(list(table.columns), choice, str(path), modality, remarks)
    if found is None:
        table.need("path or text" if modality is None else "text" if modality == "text" else "path")
    assert found is not None
    column, is_text = found
    if choose_column("label", list(table.columns), choice.label, str(path), []) is None:
        table.need("label")
    sources = table.columns[column]
    if is_text:
        modality = "text"
    else:
        check_paths(table, sources)
        modality = modality or choose_modality(path, sources)
    ids = choose_column("id", list(table.columns), choice.id, str(path), [])
    if ids is not None:
        table.check_repeats(ids)
    return table_manifest(
        table.columns,
        choice,
        str(path),
        name=name or path.stem,
        modality=modality,
        set=set,
        root=path.parent if root is None else Path(root),
        sources=sources,
        made_ids=list(map(str, range(len(table)))),
        remarks=remarks,
        splits=table.splits(choose_column("split", list(table.columns), choice.split, str(path), [])),
    )


def from_lines(path: str | Path, *, name: str | None = None, set: str | None = None) -> Manifest:
    """A manifest of unlabelled texts, one a line (blank lines are skipped); the id is the line number.

    Raises:
        InputError: the file has no text in it.
    """
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
        id_kind=MADE,
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


def choose_modality(where: object, paths: list[str]) -> str:
    """The modality of all media files among `paths`; `InputError` if there are none, or several kinds."""
    kinds = Counter(kind for path in paths if (kind := modality_of(path)) is not None)
    if not kinds:
        raise InputError(f"{where}: no image or audio files; found {describe_files(paths)}")
    if len(kinds) > 1:
        counts = " and ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        raise InputError(f"{where}: {counts} files together; say which modality is meant, or separate them")
    return next(iter(kinds))


def describe_files(names: list[str]) -> str:
    """What a list of files consists of, for an error: `3 .npy, 1 .md`."""
    if not names:
        return "no files"
    counts = Counter(os.path.splitext(name)[1].lower() or "without extension" for name in names)
    return ", ".join(f"{count} {extension}" for extension, count in counts.most_common(4))
