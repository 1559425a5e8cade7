"""Manifests of parquet files, as `datasets` and other pipelines write them: texts, paths, or media in cells.

A picture or sound in a cell is the source `FILE::COLUMN::ROW`; readers fetch the group of rows around it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uml_cache import SPLIT_CODES, Choice, InputError, parse_json
from uml_manifests.manifest.manifest import Manifest
from uml_manifests.sources.arrow import chosen_columns, class_list, media_kind
from uml_manifests.sources.builders import modality_of
from uml_manifests.sources.tabular import source_column, table_manifest

_SPLIT = re.compile(r"([A-Za-z]+)(-\d+-of-\d+)?\.parquet")
_LOOKED_AT = 8  # cells, to tell pictures from sounds


def parquet_files(path: Path) -> list[Path]:
    """The file itself, or those directly in a folder or in its folder `data`, sorted."""
    if path.is_file():
        return [path] if path.suffix.lower() == ".parquet" else []
    return sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))


def open_parquet(path: Path) -> Any:
    """The `pyarrow.parquet.ParquetFile`; `InputError` if it is broken."""
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except Exception as error:  # arrow raises nearly anything on broken bytes
        raise InputError(f"{path}: cannot be read as parquet ({_short(error)})") from None


def from_parquet(
    path: str | Path,
    *,
    name: str | None = None,
    set: str | None = None,
    root: str | Path | None = None,
    modality: str | None = None,
    choice: Choice | None = None,
) -> Manifest:
    """A manifest of a parquet file or a folder of them; files called `train-…` or `test-…` are those splits.

    Columns are chosen by the rules of `uml_cache.tables`, or as `choice` says. Classes that `datasets` wrote
    into the file's schema are the classes. A row without an id gets its file and row.

    Raises:
        InputError: files that are broken, differ in their columns, or have none of samples; see
            `table_manifest`.
    """
    path = Path(path)
    choice = choice or Choice()
    files = [(file, open_parquet(file)) for file in parquet_files(path)]
    base = path.parent if path.is_file() else path
    features = _features(files)
    remarks: list[str] = []
    column, modality, in_cells = _samples(path, files, features, modality, choice, remarks)
    # Columns of every type: dates, structs and bytes are read or refused by their cells, as in other formats.
    others = {n: spec or {} for n, spec in features.items() if n != column}
    used = chosen_columns(others, choice, str(path), remarks)
    taken = [n for n in dict.fromkeys(used.values()) if n is not None]
    rows = _rows(files, taken if in_cells else [*taken, column])
    places = [(file.relative_to(base).as_posix(), row) for file, of in files for row in range(_count(of))]
    if not places:
        raise InputError(f"{path}: there are columns but no samples in them")
    if in_cells:
        sources = [f"{file}::{column}::{row}" for file, row in places]
    else:
        sources = _strings(rows.pop(column), column, str(path))
    label = used["label"]
    own = None if label is None else class_list(others[label])
    return table_manifest(
        rows,
        choice,
        str(path),
        name=name or path.resolve().stem,
        modality=modality or _of_paths(sources, str(path)),
        set=set,
        root=base if root is None or in_cells else Path(root),
        sources=sources,
        made_ids=[f"{file}/{row}" if len(files) > 1 else str(row) for file, row in places],
        remarks=remarks,
        splits=None if used["split"] else _splits(files, remarks),
        label=label,
        lists={} if own is None or label is None else {label: own},
    )


def _samples(
    path: Path,
    files: Sequence[tuple[Path, Any]],
    features: dict[str, Any],
    modality: str | None,
    choice: Choice,
    remarks: list[str],
) -> tuple[str, str | None, bool]:
    """The column of the samples, their modality if it is known, and whether they lie in the cells."""
    media = [name for name, spec in features.items() if _is_media(spec)]
    if media and modality != "text" and choice.text is None:
        column = _media_column(path, media, choice, remarks)
        return column, media_kind(features[column]) or modality or _looked_at(path, files, column), True
    plain = [name for name, spec in features.items() if _is_plain(spec)]
    found = source_column(plain, choice, str(path), modality, remarks)
    if found is None:
        there, wanted = ", ".join(features) or "none", "text" if modality == "text" else "path or text"
        raise InputError(f"{path}: has no column of {wanted}; its columns are {there}")
    return found[0], "text" if found[1] else modality, False


_BYTES = {"_type": "bytes"}


def _is_media(spec: Any) -> bool:
    return spec == _BYTES or media_kind(spec) is not None


def _is_plain(spec: Any) -> bool:
    return spec is not None and not _is_media(spec)


def _of_paths(sources: Sequence[str], where: str) -> str:
    kinds = {modality_of(source) for source in sources}
    if len(kinds) > 1 or kinds == {None}:
        raise InputError(f"{where}: its paths are not all images or all sounds; say which modality is meant")
    return str(kinds.pop())


def _features(files: Sequence[tuple[Path, Any]]) -> dict[str, Any]:
    """What each column holds, in the words of `datasets`; None for what is neither plain nor media."""
    found: dict[str, Any] | None = None
    for file, opened in files:
        schema = opened.schema_arrow
        here = {field.name: _spec(field.type) for field in schema}
        here |= {name: spec for name, spec in _told(schema).items() if name in here}
        if found is not None and found != here:
            raise InputError(f"{file}: its columns or classes are not those of {files[0][0].name}")
        found = here
    return found or {}


def _told(schema: Any) -> dict[str, Any]:
    """The features that `datasets` wrote beside the schema, where they are classes or media."""
    try:
        features = parse_json((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {n: s for n, s in features.items() if class_list(s) is not None or media_kind(s) is not None}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _spec(kind: Any) -> dict[str, Any] | None:
    import pyarrow.types as types

    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return {"_type": "Value", "dtype": "string"}
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind):
        return _BYTES
    if types.is_struct(kind):
        return _BYTES if "bytes" in {kind.field(i).name for i in range(kind.num_fields)} else None
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        return {"_type": "Value", "dtype": str(kind)}
    return None


def _media_column(path: Path, media: Sequence[str], choice: Choice, remarks: list[str]) -> str:
    if choice.path is not None:
        if choice.path not in media:
            raise InputError(f"{path}: has no column {choice.path!r} of media; there are {', '.join(media)}")
        return choice.path
    usual = [name for name in ("image", "audio") if name in media]
    if len(media) > 1 and len(usual) != 1:
        raise InputError(
            f"{path}: {' and '.join(map(repr, media))} are columns of media; say which one is meant with "
            "--path-column"
        )
    column = usual[0] if usual else media[0]
    if len(media) > 1:
        remarks.append(
            f"of the columns {', '.join(map(repr, media))}, using {column!r}; --path-column chooses another"
        )
    return column


def _looked_at(path: Path, files: Sequence[tuple[Path, Any]], column: str) -> str:
    """`image` or `audio`, by the names that the first cells give their files."""
    for _, opened in files:
        for batch in opened.iter_batches(batch_size=_LOOKED_AT, columns=[column]):
            names = [cell.get("path") for cell in batch.column(0).to_pylist() if isinstance(cell, dict)]
            kinds = {modality_of(name) for name in names if isinstance(name, str)} - {None}
            if len(kinds) == 1:
                return str(kinds.pop())
            break
    raise InputError(f"{path}: column {column!r} may hold pictures or sounds; say which one is meant")


def _count(opened: Any) -> int:
    return int(opened.metadata.num_rows)


def _rows(files: Sequence[tuple[Path, Any]], columns: Sequence[str]) -> dict[str, list[Any]]:
    rows: dict[str, list[Any]] = {name: [] for name in columns}
    for file, opened in files if columns else ():
        try:
            table = opened.read(columns=list(columns))
        except Exception as error:  # arrow raises nearly anything on broken bytes
            raise InputError(f"{file}: cannot be read as parquet ({_short(error)})") from None
        for name in columns:
            rows[name] += table[name].to_pylist()
    return rows


def _strings(cells: list[Any], column: str, where: str) -> list[str]:
    for row, cell in enumerate(cells):
        if not isinstance(cell, str):
            raise InputError(f"{where}, row {row}: has no string {column!r}")
    return cells


def _splits(files: Sequence[tuple[Path, Any]], remarks: list[str]) -> list[str] | None:
    """The split of each row by its file's name, as the hub names files; None where names tell nothing."""
    names = [match.group(1).casefold() if (match := _SPLIT.fullmatch(file.name)) else "" for file, _ in files]
    if not any(name in SPLIT_CODES for name in names):
        return None
    remarks.append("splits are read from the files' names")
    return [
        name if name in SPLIT_CODES else "" for name, (_, opened) in zip(names, files, strict=True)
        for _ in range(_count(opened))
    ]  # fmt: skip


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:100]
