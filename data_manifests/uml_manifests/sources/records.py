"""Manifests of files that hold many samples: JSON lines, WebDataset tars, saved data sets, arrays.

A source `FILE::PART` is a part of a file, which readers fetch without unpacking the rest: `OFFSET+SIZE` of a
tar, `COLUMN::ROW` of an arrow file, `NAME::ROW` of an array file. Texts are read while indexing.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache import (
    SPLIT_CODES,
    Columns,
    InputError,
    as_classes,
    as_labels,
    as_splits,
    parse_json,
    parts_of,
    read_file,
    unique,
    unknown,
)
from uml_manifests.manifest.manifest import NO_SPLIT, SPARSE, Manifest
from uml_manifests.manifest.table import decode
from uml_manifests.sources.builders import modality_of

_READ = ("txt", "cls", "json")  # members that are read while indexing
ARRAYS = (".npy", ".npz", ".h5", ".hdf5")
_LABELS = ("label", "labels", "cls", "class", "target")
_TEXTS = ("text", "caption", "sentence", "sentence1", "content")


def from_jsonl(
    path: str | Path,
    *,
    name: str | None = None,
    set: str | None = None,
    root: str | Path | None = None,
    modality: str | None = None,
) -> Manifest:
    """A manifest of JSON objects, one a line: `text` (or `path`), and `id`, `label`, `split`, `group`.

    Raises:
        InputError: a line that is no JSON object or lacks what the others have; it names the line.
    """
    path = Path(path)
    records: list[dict[str, Any]] = []
    lines: list[int] = []
    for number, line in enumerate(decode(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = parse_json(line)
        except ValueError:
            raise InputError(f"{path}, line {number}: is no JSON") from None
        if not isinstance(record, dict):
            raise InputError(f"{path}, line {number}: is a JSON {type(record).__name__}; expected an object")
        records.append(record)
        lines.append(number)
    if not records:
        raise InputError(f"{path}: the file is empty; expected one JSON object a line")
    column = "path" if "path" in records[0] and (modality != "text" or "text" not in records[0]) else "text"
    sources = []
    for record, number in zip(records, lines, strict=True):
        if not isinstance(record.get(column), str):
            found = ", ".join(map(str, record)) or "nothing"
            raise InputError(f"{path}, line {number}: has no string {column!r}; it has {found}")
        sources.append(record[column])
    kinds = {modality_of(source) for source in sources} if column == "path" else {"text"}
    modality = modality or next(iter(kinds))
    if modality is None or len(kinds) > 1:
        raise InputError(f"{path}: its paths are not all images or all sounds; say which modality is meant")
    ids = [str(r.get("id", number)) for r, number in zip(records, lines, strict=True)]
    labels = [_scalar(record.get("label")) for record in records]
    splits = [str(record.get("split") or "") for record in records]
    groups = [str(record.get("group") or "") for record in records]
    return _manifest(
        name or path.stem, modality, set, path.parent if root is None else Path(root), str(path),
        ids, sources, labels, splits=splits, groups=groups if any(groups) else None,
    )  # fmt: skip


def tar_files(path: Path) -> list[Path]:
    """The tar itself, or those directly in a folder, sorted; none if it is something else."""
    if path.is_file():
        return [path] if path.suffix.lower() == ".tar" else []
    return sorted(path.glob("*.tar"))


def from_tars(
    path: str | Path, *, name: str | None = None, set: str | None = None, modality: str | None = None
) -> Manifest:
    """A manifest of WebDataset shards: members that share their name up to the first dot are one sample.

    Pictures, sounds, `txt` or the `text` or `caption` of a `json`; the label is `cls`, or in the `json`.

    Raises:
        InputError: a broken tar, a compressed one, no samples of the modality, or several modalities while
            `modality` does not choose.
    """
    path = Path(path)
    root = path if path.is_dir() else path.parent
    samples: dict[str, dict[str, Any]] = {}
    for tar in tar_files(path):
        for key, extension, member, content in _members(tar):
            sample = samples.setdefault(f"{tar.name}/{key}", {"key": key})
            kind = modality_of(f"x.{extension}")
            if kind is not None:
                size = SPARSE if member.issparse() else member.size
                sample.setdefault(kind, f"{tar.name}::{member.offset_data}+{size}")
            elif extension == "txt":
                sample["text"] = _text(content)
            elif extension == "cls":
                sample["label"] = _text(content).strip()
            elif extension == "json":
                _from_json(sample, content)
    kinds = [kind for kind in ("image", "audio", "text") if any(kind in s for s in samples.values())]
    media = [kind for kind in kinds if kind != "text"] or kinds
    if modality is None and len(media) > 1:
        raise InputError(f"{path}: holds {' and '.join(kinds)}; say which modality is meant")
    modality = modality or (media[0] if media else "image")
    chosen = {key: sample for key, sample in samples.items() if modality in sample}
    if not chosen:
        found = f"holds {' and '.join(kinds)}" if kinds else "has no samples"
        raise InputError(f"{path}: {found}; no {modality} in it")
    keys = [sample["key"] for sample in chosen.values()]
    return _manifest(
        name or path.stem, modality, set, root, str(path),
        keys if len({*keys}) == len(keys) else list(chosen),
        [sample[modality] for sample in chosen.values()],
        [sample.get("label") for sample in chosen.values()],
    )  # fmt: skip


def _members(tar: Path) -> Iterator[tuple[str, str, tarfile.TarInfo, bytes]]:
    """Key, extension, header and, of small text members, the content."""
    whole = tar.stat().st_size
    at = -1
    try:
        with tarfile.open(tar, "r:") as opened:
            for member in opened:
                if member.offset <= at or member.size < 0:  # a negative size leads back to where it began
                    raise InputError(f"{tar}: is broken: {member.name!r} has a size that cannot be")
                at = member.offset
                folder, _, base = member.name.rpartition("/")
                stem, dot, extension = base.partition(".")
                if not member.isreg() or not dot or not stem:
                    continue
                extension = extension.lower()
                content = b""
                if extension in _READ and not member.issparse():  # a sparse text counts as empty
                    if member.size > whole - member.offset_data:
                        raise InputError(f"{tar}: ends within {member.name!r}")
                    stream = opened.extractfile(member)
                    content = stream.read() if stream else b""
                yield (f"{folder}/{stem}" if folder else stem), extension, member, content
    except InputError:
        raise
    except Exception as error:  # the reader of tars raises nearly anything on broken headers
        hint = "; unpack compressed tars first" if tar.suffix != ".tar" else ""
        raise InputError(f"{tar}: is broken, truncated or compressed ({error}){hint}") from None


def _from_json(sample: dict[str, Any], content: bytes) -> None:
    try:
        record = parse_json(content)
    except ValueError:
        sample.setdefault("text", "")  # no label, and as a text it will be flagged as empty
        return
    if not isinstance(record, dict):
        return
    for names, kind in ((_LABELS, "label"), (_TEXTS, "text")):
        value = next((record[name] for name in names if isinstance(record.get(name), str | int)), None)
        if value is not None:
            sample.setdefault(kind, value if kind == "label" else str(value))


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return ""  # will be flagged as empty


def is_saved_dataset(path: Path) -> bool:
    """Whether `path` is what `datasets` writes with `save_to_disk`."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def from_saved_dataset(
    path: str | Path, *, name: str | None = None, set: str | None = None, modality: str | None = None
) -> Manifest:
    """A manifest of a data set saved by Hugging Face `datasets`; its splits are those of the folder.

    The column is the first picture, sound or text of it; the label its `ClassLabel`, or `label`. Needs
    pyarrow (the extra `hub`), not `datasets`.
    """
    from uml_manifests.sources.arrow import saved_rows

    path = Path(path)
    found = saved_rows(path, modality)
    splits = [split if split in SPLIT_CODES else "" for split in found.splits]
    ids = [f"{part}/{row}" if part else str(row) for part, row in found.places]
    return _manifest(
        name or path.resolve().name, found.modality, set, path, str(path),
        ids, found.sources, found.labels, splits=splits, classes=found.classes,
    )  # fmt: skip


def from_arrays(
    path: str | Path, *, name: str | None = None, set: str | None = None, features: str | None = None
) -> Manifest:
    """A manifest of modality `array`: the rows of an array in a .npy, .npz or HDF5 file.

    Labels, splits, ids, groups and class names come from the arrays beside it, as `uml cache import` finds
    them; groups `train`, `val` and `test` of the file are splits.
    """
    path = Path(path)
    with ExitStack() as stack:
        content = read_file(path, stack)
        holders = {"": content, **{k: v for k, v in content.items() if isinstance(v, dict)}}
        parts = parts_of(content, str(path), Columns(features=features), deep=True)
        sources, rows = [], []
        for part in parts:
            holder = part.where.removeprefix(f"{path}").removeprefix(":")
            array = part.name if not holder else f"{holder}/{part.name}"
            assert holder in holders
            sources += [f"{path.name}::{array}::{row}" for row in range(part.rows)]
            rows.append(part.rows)
        classes = as_classes(next((p.classes for p in parts if p.classes is not None), None), str(path))
        labels, names = as_labels([part.labels for part in parts], rows, classes, str(path))
        splits = [as_splits(part.splits, n, str(path)) for part, n in zip(parts, rows, strict=True)]
        ids = [str(row) for row in range(len(sources))]
        if all(part.ids is not None for part in parts):
            ids = unique([one for part in parts for one in part.ids or ()])
        groups = None
        if all(part.groups is not None for part in parts):
            groups = [one for part in parts for one in part.groups or ()]
    return Manifest(
        name=name or path.stem, modality="array", set=set, classes=names, root=path.parent, ids=ids,
        sources=sources, labels=labels, splits=np.concatenate(splits), groups=groups,
    )  # fmt: skip


def _scalar(value: Any) -> Any:
    return value if isinstance(value, str | int) or value is None else str(value)


def _manifest(
    name: str,
    modality: str,
    set: str | None,
    root: Path,
    where: str,
    ids: list[str],
    sources: list[str],
    labels: Sequence[Any],
    *,
    splits: list[str] | None = None,
    groups: list[str] | None = None,
    classes: tuple[str, ...] | None = None,
) -> Manifest:
    cells = [None if label == "" else label for label in labels]
    if any(isinstance(cell, str) for cell in cells):  # names, or numbers that are written as strings
        cells = [None if cell is None else str(cell) for cell in cells]
    codes, names = as_labels([cells], [len(ids)], classes, where)
    for split in splits or ():
        if split.lower() not in SPLIT_CODES:
            raise InputError(f"{where}: {unknown('split', split, ('train', 'val', 'test'))}")
    chosen = np.full(len(ids), NO_SPLIT, np.uint8)
    if splits is not None:
        chosen = np.array([SPLIT_CODES[split.lower()] for split in splits], np.uint8)
    return Manifest(
        name=name, modality=modality, set=set, classes=names, root=root, ids=ids, sources=sources,
        labels=codes, splits=chosen, groups=groups,
    )  # fmt: skip
