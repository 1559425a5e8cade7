"""Parquet files, and folders as clip-retrieval writes them; both need pyarrow (the extra `hub`).

Shapes: N samples, D features, T tokens of all samples.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache.errors import InputError
from uml_cache.exchange.formats.nested import ATTRIBUTES, Nested
from uml_cache.exchange.formats.numpy_files import read_array
from uml_cache.files.documents import parse_json

_EMBEDDINGS = {"image": "img_emb", "text": "text_emb"}
_NAMES = {"image": "image_path", "text": "caption"}


def need_pyarrow() -> Any:
    """pyarrow.parquet, or one line that says how to get it.

    Raises:
        InputError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError:
        raise InputError("parquet files need pyarrow: pip install 'uml-cache[hub]'") from None
    return pyarrow.parquet


def read_parquet(path: Path) -> Nested:
    """Columns by name: lists of numbers as (N, D) arrays, numbers as (N,), everything else as lists."""
    table = need_pyarrow().read_table(path)
    found: Nested = {name: _column(path, name, table[name]) for name in table.column_names}
    metadata = table.schema.metadata or {}
    if ATTRIBUTES.encode() in metadata:
        found[ATTRIBUTES] = metadata[ATTRIBUTES.encode()].decode()
    if "tokens" in found and "token_lengths" in found and "tokens" in table.column_names:
        lengths = np.asarray(found["token_lengths"], np.int64)
        width = _token_dim(path, found[ATTRIBUTES]) if ATTRIBUTES in found else 0
        values = table["tokens"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        if width and values.size == lengths.sum() * width:
            found["tokens"] = values.reshape(-1, width)
    return found


def _token_dim(path: Path, attributes: str) -> int:
    try:
        return int(parse_json(attributes)["token_dim"])
    except (ValueError, TypeError, KeyError):
        raise InputError(f"{path}: its attributes do not say how wide its tokens are (token_dim)") from None


def _column(path: Path, name: str, column: Any) -> Any:
    import pyarrow

    kind = column.type
    if pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind):
        lengths = column.combine_chunks().value_lengths().to_numpy(zero_copy_only=False)
        if column.null_count:
            raise InputError(f"{path}: column {name!r} has empty cells (row {_first_null(column)})")
        if len(lengths) == 0 or name == "tokens":
            return None
        if (lengths != lengths[0]).any():
            row = int(np.flatnonzero(lengths != lengths[0])[0])
            raise InputError(
                f"{path}: {name!r} has {lengths[row]} values in row {row}, {lengths[0]} in row 0"
            )
        width = int(lengths[0])
    elif pyarrow.types.is_fixed_size_list(kind):
        if column.null_count:
            raise InputError(f"{path}: column {name!r} has empty cells (row {_first_null(column)})")
        width = kind.list_size
    elif pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind):
        return column.to_numpy() if column.null_count == 0 else column.to_pylist()
    else:
        return column.to_pylist()
    values = column.combine_chunks()
    flat = values.flatten()
    inner = kind.value_type
    if not (pyarrow.types.is_floating(inner) or pyarrow.types.is_integer(inner)):
        return column.to_pylist()
    return flat.to_numpy(zero_copy_only=False).reshape(len(column), width)


def _first_null(column: Any) -> int:
    return next(row for row, cell in enumerate(column) if not cell.is_valid)


def is_embedding_folder(path: Path) -> bool:
    """Whether `path` is a folder with clip-retrieval's embeddings."""
    return any((path / folder).is_dir() for folder in _EMBEDDINGS.values())


def read_embedding_folder(path: Path, modality: str | None) -> list[Nested]:
    """The partitions of `img_emb` or `text_emb`, each with the columns of its metadata file.

    Ids are `image_path` or the captions' numbers; without a metadata folder the row numbers.

    Raises:
        InputError: it has no such embeddings, both kinds and none was asked for, or metadata is missing.
    """
    there = [kind for kind, folder in _EMBEDDINGS.items() if (path / folder).is_dir()]
    if modality in _EMBEDDINGS and modality not in there:
        raise InputError(f"{path}: has no {_EMBEDDINGS[modality]}, only {_EMBEDDINGS[there[0]]}")
    if modality not in there and len(there) > 1:
        raise InputError(f"{path}: holds img_emb and text_emb; choose with --modality image or text")
    kind = modality if modality in there else there[0]
    assert kind is not None
    folder = _EMBEDDINGS[kind]
    arrays = sorted((path / folder).glob("*.npy"), key=_number)
    if not arrays:
        raise InputError(f"{path / folder}: has no .npy file")
    parts: list[Nested] = []
    for array in arrays:
        part: Nested = {"features": read_array(array)}
        if (path / "metadata").is_dir():
            number = array.stem.rpartition("_")[2]
            columns = read_parquet(_existing(path / "metadata" / f"metadata_{number}.parquet", array))
            names = columns.get(_NAMES[kind])
            if kind == "image" and names is not None:
                part["id"] = names
            part.update({name: value for name, value in columns.items() if name not in part})
        parts.append(part)
    return parts


def _existing(path: Path, array: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{array}: its metadata {path} is missing")
    return path


def _number(path: Path) -> tuple[int, str]:
    digits = re.search(r"(\d+)$", path.stem)
    return (int(digits[1]) if digits else -1, path.name)


def write_parquet(
    path: Path, columns: dict[str, Sequence[Any] | np.ndarray], token_dim: int | None, attributes: str
) -> None:
    """One row a sample: features (N, D) as lists of fixed size, tokens (T, `token_dim`) of a sample as one
    flat list, other columns (N,) as they are. All keep their dtype. `attributes` is what the file says of
    itself, as JSON."""
    parquet = need_pyarrow()
    import pyarrow

    arrays: dict[str, Any] = {}
    for name, values in columns.items():
        if name == "tokens":
            assert token_dim is not None
            ends = np.cumsum(np.asarray(columns["token_lengths"], np.int64) * token_dim)
            offsets = pyarrow.array(np.concatenate([[0], ends]))
            flat = pyarrow.array(np.asarray(values).reshape(-1))
            arrays[name] = pyarrow.LargeListArray.from_arrays(offsets, flat)
        elif isinstance(values, np.ndarray) and values.ndim == 2:
            flat = pyarrow.array(np.ascontiguousarray(values).reshape(-1))
            arrays[name] = pyarrow.FixedSizeListArray.from_arrays(flat, values.shape[1])
        else:
            arrays[name] = pyarrow.array(values)
    table = pyarrow.table(arrays).replace_schema_metadata({ATTRIBUTES: attributes})
    parquet.write_table(table, path)
