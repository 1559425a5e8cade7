"""Data sets that Hugging Face `datasets` saved to disk: arrow files and JSON, read by pyarrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uml_cache import SPLIT_CODES, Choice, InputError, choose_column, clean_name, merge_lists, parse_json

_KINDS = {"Image": "image", "Audio": "audio"}


@dataclass
class SavedRows:
    """The rows of all splits: `places` are (split folder, row); texts are in `sources` themselves.

    `columns` are those of plain values, `lists` the classes of those that have some; `label` is the label
    column where the types tell it, `splits` are None where a column tells them.
    """

    modality: str
    sources: list[str] = field(default_factory=list)
    places: list[tuple[str, int]] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=dict)
    lists: dict[str, tuple[str, ...]] = field(default_factory=dict)
    label: str | None = None
    splits: list[str] | None = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def saved_rows(path: Path, modality: str | None, choice: Choice) -> SavedRows:
    """Index a saved data set, or the splits of a saved `DatasetDict`; `InputError` if it is none."""
    try:
        return _indexed(path, modality, choice)
    except InputError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:  # its JSON files hold something else
        said = " ".join(str(error).split())[:100]
        raise InputError(
            f"{path}: is damaged, or no saved data set ({type(error).__name__}: {said})"
        ) from None


def _indexed(path: Path, modality: str | None, choice: Choice) -> SavedRows:
    parts = [""]
    if (path / "dataset_dict.json").is_file():
        parts = [str(part) for part in _json(path / "dataset_dict.json").get("splits", ())]
    infos = {part: _json(path / part / "dataset_info.json").get("features") or {} for part in parts}
    features: dict[str, Any] = {name: spec for info in infos.values() for name, spec in info.items()}
    found = SavedRows("")
    wanted = chosen_columns(features, choice, str(path), found.remarks)
    found.label = wanted["label"]
    used = {name for name in wanted.values() if name is not None}
    column, found.modality = _choose(path, features, used, modality, choice, found.remarks)
    taken = [name for name in used if name != column]
    cells: dict[str, list[Any]] = {name: [] for name in taken}
    lists: list[tuple[str, ...] | None] = []
    for part in parts:
        lists.append(class_list(infos[part].get(found.label or "")))
        row = 0
        for name, table in _tables(path, part):
            if column not in table.column_names:
                raise InputError(f"{path / name}: has no column {column!r}")
            count = table.num_rows
            if found.modality == "text":
                found.sources += [text or "" for text in table[column].to_pylist()]
            else:
                found.sources += [f"{name}::{column}::{at}" for at in range(count)]
            for one in taken:
                there = one in table.column_names
                cells[one] += table[one].to_pylist() if there else [None] * count
            found.places += [(part, row + at) for at in range(count)]
            row += count
    if not found.sources:
        raise InputError(f"{path}: the saved data set has no rows")
    found.columns = cells
    _bring_together(path, parts, lists, found)
    found.splits = None if wanted["split"] and len(parts) == 1 else _splits(path, parts, found)
    return found


def _tables(path: Path, part: str) -> Iterator[tuple[str, Any]]:
    """Name (below `path`) and table of every arrow file of a split."""
    state = path / part / "state.json"
    files = _json(state).get("_data_files", [])
    if not isinstance(files, list):
        raise InputError(f"{state}: its _data_files are no list")
    for entry in files:
        file = entry.get("filename") if isinstance(entry, dict) else None
        if not isinstance(file, str) or Path(file).name != file:  # nowhere else than here
            raise InputError(f"{state}: _data_files names {file!r}; expected files of its own folder")
        name = f"{part}/{file}" if part else file
        yield name, open_arrow(path / name)


def _bring_together(
    path: Path, parts: Sequence[str], lists: Sequence[tuple[str, ...] | None], found: SavedRows
) -> None:
    """One class list for all splits; the numbers of each count in it from here on."""
    if found.label is None or all(one is None for one in lists):
        return
    cells = found.columns[found.label]
    where = [f"{path / part}" for part in parts]
    classes, places, remarks = merge_lists(lists, where, None)
    found.remarks += remarks
    assert classes is not None
    found.lists[found.label] = classes
    if not remarks:
        return
    for at, (part, _) in enumerate(found.places):
        place = places[parts.index(part)]
        if isinstance(cells[at], int) and cells[at] >= 0 and place is not None and cells[at] < len(place):
            cells[at] = int(place[cells[at]])


def _splits(path: Path, parts: Sequence[str], found: SavedRows) -> list[str]:
    """The split of each row by its folder, or as the only data set says of itself."""
    names = {
        part: (part or str(_json(path / part / "state.json").get("_split") or "")).casefold()
        for part in parts
    }
    for part, name in names.items():
        if name not in SPLIT_CODES:
            rows = sum(1 for here, _ in found.places if here == part)
            found.remarks.append(f"split {name!r} is not train, val or test: its {rows:,} rows have no split")
    return [names[part] if names[part] in SPLIT_CODES else "" for part, _ in found.places]


def open_arrow(path: Path) -> Any:
    """The table in an arrow stream, mapped; `InputError` if it is broken or pyarrow is missing."""
    try:
        import pyarrow
    except ImportError:
        raise InputError("saved data sets need pyarrow: pip install 'uml-cache[hub]'") from None
    try:
        return pyarrow.ipc.open_stream(pyarrow.memory_map(str(path))).read_all()
    except Exception as error:  # arrow raises nearly anything on broken bytes
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


def chosen_columns(
    features: dict[str, Any], choice: Choice, where: str, remarks: list[str]
) -> dict[str, str | None]:
    """The columns of labels, splits, ids and groups, by role.

    Raises:
        InputError: several columns may be the labels, or one that was asked for is missing.
    """
    plain = [name for name, spec in features.items() if media_or_text(spec) not in _KINDS.values()]
    found: dict[str, str | None] = {}
    for role in ("split", "id", "group", "label"):
        found[role] = choose_column(role, plain, getattr(choice, role), where, remarks)
    listed = [name for name, spec in features.items() if class_list(spec) is not None]
    listed = [name for name in listed if name not in found.values()]
    if found["label"] is None and len(listed) > 1:
        raise InputError(
            f"{where}: {' and '.join(map(repr, listed))} are columns of classes; say which one is the label "
            "with --label-column"
        )
    if found["label"] is None and listed:
        found["label"] = listed[0]
        remarks.append(
            f"using column {listed[0]!r} as label, the only one of classes; --label-column chooses another"
        )
    elif listed and choice.label is None:
        remarks.append(
            f"using column {found['label']!r} as label, not {', '.join(map(repr, listed))}; "
            "--label-column chooses another"
        )
    return found


def _choose(
    path: Path,
    features: dict[str, Any],
    used: set[str],
    modality: str | None,
    choice: Choice,
    remarks: list[str],
) -> tuple[str, str]:
    """The column of the samples, and their modality."""
    kinds = {name: media_or_text(spec) for name, spec in features.items() if name not in used}
    for kind in ("image", "audio"):
        columns = [name for name, this in kinds.items() if this == kind]
        if modality not in (None, kind) or not columns or (choice.text and not choice.path):
            continue
        if choice.path is not None:
            return str(choose_column("path", columns, choice.path, str(path), remarks)), kind
        if len(columns) > 1 and kind not in columns:
            raise InputError(
                f"{path}: {' and '.join(map(repr, columns))} are columns of {kind}s; say which one is meant "
                "with --path-column"
            )
        if len(columns) > 1:
            remarks.append(
                f"of the columns {', '.join(map(repr, columns))}, using {kind!r}; --path-column chooses "
                "another"
            )
        return (kind if kind in columns else columns[0]), kind
    texts = [name for name, this in kinds.items() if this == "text"]
    if modality in (None, "text") and (texts or choice.text):
        every = [name for name, spec in features.items() if media_or_text(spec) == "text"]
        column = choose_column("text", every if choice.text else texts, choice.text, str(path), remarks)
        if column is not None:
            return column, "text"
        if len(texts) > 1:
            raise InputError(
                f"{path}: {', '.join(map(repr, texts))} are columns of strings; say which one holds the "
                "texts with --text-column"
            )
        remarks.append(
            f"using column {texts[0]!r} as text, the only one of strings; --text-column chooses another"
        )
        return texts[0], "text"
    raise InputError(
        f"{path}: has no column of {modality or 'pictures, sounds or texts'}: {', '.join(features)}"
    )


def media_kind(spec: Any) -> str | None:
    """`image` or `audio` of a feature as `datasets` describes it, None for any other."""
    return _KINDS.get(str(spec.get("_type"))) if isinstance(spec, dict) else None


def media_or_text(spec: Any) -> str | None:
    """`image`, `audio` or `text` of a feature as `datasets` describes it, None for any other."""
    if not isinstance(spec, dict):
        return None
    if spec.get("_type") == "Value" and spec.get("dtype") in ("string", "large_string"):
        return "text"
    return media_kind(spec)


def class_list(spec: Any) -> tuple[str, ...] | None:
    """The classes of a feature as `datasets` describes it, None for one without."""
    if isinstance(spec, dict) and spec.get("_type") == "ClassLabel":
        return tuple(map(clean_name, map(str, spec.get("names") or ())))
    return None
