"""Data sets that Hugging Face `datasets` saved to disk: arrow files and JSON, read by pyarrow."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uml_cache import InputError, parse_json

_KINDS = {"Image": "image", "Audio": "audio"}


@dataclass
class SavedRows:
    """The rows of all splits: `places` are (split folder, row); texts are in `sources` themselves."""

    modality: str
    sources: list[str] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    places: list[tuple[str, int]] = field(default_factory=list)
    classes: tuple[str, ...] | None = None


def saved_rows(path: Path, modality: str | None) -> SavedRows:
    """Index a saved data set, or the splits of a saved `DatasetDict`; `InputError` if it is none."""
    parts = [""]
    if (path / "dataset_dict.json").is_file():
        parts = list(_json(path / "dataset_dict.json").get("splits", ()))
    found: SavedRows | None = None
    for part in parts:
        folder = path / part
        features = _json(folder / "dataset_info.json").get("features") or {}
        column, kind = _choose(folder, features, modality)
        found = found or SavedRows(kind)
        label, classes = _label(features)
        found.classes = found.classes or classes
        split = part or str(_json(folder / "state.json").get("_split") or "")
        row = 0
        for file in _json(folder / "state.json").get("_data_files", ()):
            name = f"{part}/{file['filename']}" if part else file["filename"]
            table = open_arrow(path / name)
            if column not in table.column_names:
                raise InputError(f"{path / name}: has no column {column!r}")
            count = table.num_rows
            if kind == "text":
                found.sources += [text or "" for text in table[column].to_pylist()]
            else:
                found.sources += [f"{name}::{column}::{at}" for at in range(count)]
            found.labels += table[label].to_pylist() if label in table.column_names else [None] * count
            found.splits += [split] * count
            found.places += [(part, row + at) for at in range(count)]
            row += count
    if found is None or not found.sources:
        raise InputError(f"{path}: the saved data set has no rows")
    return found


def open_arrow(path: Path) -> Any:
    """The table in an arrow stream, mapped; `InputError` if it is broken or pyarrow is missing."""
    try:
        import pyarrow
    except ImportError:
        raise InputError("saved data sets need pyarrow: pip install 'uml-cache[hub]'") from None
    try:
        return pyarrow.ipc.open_stream(pyarrow.memory_map(str(path))).read_all()
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as arrow ({' '.join(str(error).split())[:100]})") from None


def _json(path: Path) -> dict[str, Any]:
    try:
        value = parse_json(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path} is missing: {path.parent} is no saved data set") from None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise InputError(f"{path}: is no JSON object")
    return value


def _choose(folder: Path, features: dict[str, Any], modality: str | None) -> tuple[str, str]:
    kinds = {name: _kind(spec) for name, spec in features.items()}
    order = [kind for kind in ("image", "audio", "text") if modality in (None, kind)]
    for kind in order:
        columns = [name for name, this in kinds.items() if this == kind]
        if columns:
            return ("text" if "text" in columns else columns[0]), kind
    raise InputError(
        f"{folder}: has no column of {modality or 'pictures, sounds or texts'}: {', '.join(kinds)}"
    )


def _kind(spec: Any) -> str | None:
    if not isinstance(spec, dict):
        return None
    if spec.get("_type") == "Value" and spec.get("dtype") in ("string", "large_string"):
        return "text"
    return _KINDS.get(str(spec.get("_type")))


def _label(features: dict[str, Any]) -> tuple[str, tuple[str, ...] | None]:
    for name, spec in features.items():
        if isinstance(spec, dict) and spec.get("_type") == "ClassLabel":
            return name, tuple(map(str, spec["names"]))
    return "label", None
