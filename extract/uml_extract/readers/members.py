"""Parts of files: members of a tar by offset, cells of an arrow file, rows of an array. Nothing is unpacked.

A path `FILE::PART` names one: `shard.tar::OFFSET+SIZE`, `data.arrow::COLUMN::ROW` (of a `.parquet`, too),
`x.h5::NAME::ROW`. In an HDF5 file NAME may be a group of `values` (V, D) and `length` (N,): rows (t, D) of
different length.
"""

from __future__ import annotations

import io
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from uml_extract.spec import NO_MEMORY, SampleError
from uml_manifests import SPARSE

MARK = "::"
_DIGITS = 18  # of an offset or a size; no file is larger


def file_and_part(path: Path | str) -> tuple[str, str]:
    """The file and the part of it: the first that is a file, for folders may have `::` in their names."""
    text = str(path)
    at = text.find(MARK)
    while at >= 0:
        if os.path.isfile(text[:at]):
            return text[:at], text[at + len(MARK) :]
        at = text.find(MARK, at + 1)
    file, _, part = text.partition(MARK)
    return file, part


def open_member(path: Path) -> io.BytesIO | Path:
    """The bytes of a tar member or an arrow cell (or the file such a cell names). Raises `SampleError`."""
    file, part = file_and_part(path)
    if not os.path.isfile(file):
        raise SampleError(f"no such file: {file}")
    if file.endswith(".tar"):
        return _tar_member(file, part)
    column, _, row = part.rpartition(MARK)
    try:
        cell = _cell(file, column, int(row))
    except Exception as error:  # arrow raises nearly anything on broken bytes
        raise SampleError(f"{file}: row {row} of {column!r} cannot be read ({error})") from None
    if isinstance(cell, bytes) and cell:
        return io.BytesIO(cell)
    if not isinstance(cell, dict) or not (cell.get("bytes") or cell.get("path")):
        raise SampleError(f"{file}: row {row} of {column!r} is empty")
    if isinstance(cell.get("bytes"), bytes):
        return io.BytesIO(cell["bytes"])
    if not isinstance(cell.get("path"), str):
        raise SampleError(f"{file}: row {row} of {column!r} holds neither bytes nor a path")
    other = Path(file).parent / cell["path"]
    if not other.is_file():
        raise SampleError(f"{file}: row {row} names {cell['path']}, which does not exist")
    return other


def _tar_member(file: str, part: str) -> io.BytesIO:
    """The bytes at `OFFSET+SIZE`, once it is clear that the tar has so many."""
    offset, _, size = part.partition("+")
    if size == SPARSE:
        raise SampleError(f"{file}: the member at {offset} is stored with holes (sparse); store it whole")
    if not (_is_number(offset) and _is_number(size)):
        raise SampleError(f"{file}{MARK}{part}: names no part of a tar; expected OFFSET+SIZE behind {MARK}")
    there = max(0, os.path.getsize(file) - int(offset))
    if int(size) > there:
        raise SampleError(f"{file}: ends within the member at {offset} ({there} of {size} bytes)")
    with open(file, "rb") as stream:
        stream.seek(int(offset))
        return io.BytesIO(stream.read(int(size)))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _DIGITS


def read_row(path: Path) -> np.ndarray:
    """One row of an array as float32, of any shape; `SampleError` if it is not finite or not there."""
    file, part = file_and_part(path)
    name, _, row = part.rpartition(MARK)
    try:
        values = np.asarray(_open_array(file, name)[int(row)])
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
    except Exception as error:  # parsers raise nearly anything on broken bytes
        said = NO_MEMORY if isinstance(error, MemoryError) else " ".join(str(error).split())
        raise SampleError(f"{file}: row {row} of {name!r} cannot be read ({said})") from None
    if not np.isfinite(values).all():
        raise SampleError(f"row {row} of {name!r} holds values that are not finite")
    return values


def row_shape(path: Path) -> tuple[int | None, ...]:
    """Shape of a row, without reading it; None where rows differ in length."""
    file, part = file_and_part(path)
    return tuple(_open_array(file, part.rpartition(MARK)[0]).shape[1:])


def array_dtype(path: Path) -> np.dtype[Any]:
    """Type of the values of a row's array, without reading it."""
    file, part = file_and_part(path)
    return np.dtype(_open_array(file, part.rpartition(MARK)[0]).dtype)


def row_length(path: Path) -> int:
    """How many steps (t, D) a row has, without reading it."""
    file, part = file_and_part(path)
    name, _, row = part.rpartition(MARK)
    array = _open_array(file, name)
    return int(array.lengths[int(row)]) if isinstance(array, _Ragged) else int(array.shape[1])


class _Ragged:
    """The rows of an HDF5 group with `values` (V, D) and `length` (N,)."""

    def __init__(self, group: Any) -> None:
        from uml_cache import hdf5_object

        self._values = hdf5_object(group, "values")
        self.lengths = np.asarray(hdf5_object(group, "length")[()], dtype=np.int64)
        self._ends = np.cumsum(self.lengths)
        self.dtype = self._values.dtype
        if self._values.ndim != 2 or (self.lengths < 0).any() or self.lengths.sum() != len(self._values):
            raise ValueError(f"{group.name}: length does not add up to the rows of values")
        self.shape = (len(self.lengths), None, self._values.shape[1])

    def __getitem__(self, row: int) -> np.ndarray:
        end = int(self._ends[row])
        return np.asarray(self._values[end - int(self.lengths[row]) : end])


def _cell(file: str, column: str, row: int) -> Any:
    if not file.endswith(".parquet"):
        return _table(file, os.getpid())[column][row].as_py()
    starts = _parquet(file, os.getpid())[1]
    group = int(np.searchsorted(starts, row, side="right")) - 1
    return _group(file, column, group, os.getpid())[row - int(starts[group])].as_py()


@lru_cache(maxsize=8)
def _parquet(file: str, process: int) -> tuple[Any, np.ndarray]:
    """An open parquet file, and the first row of each of its groups."""
    from uml_manifests import open_parquet

    opened = open_parquet(Path(file))
    counts = [opened.metadata.row_group(at).num_rows for at in range(opened.num_row_groups)]
    return opened, np.cumsum([0, *counts[:-1]])


@lru_cache(maxsize=2)
def _group(file: str, column: str, group: int, process: int) -> Any:
    """One column of a group of rows: rows are asked for in order, so that each group is read once."""
    return _parquet(file, process)[0].read_row_group(group, columns=[column])[column]


@lru_cache(maxsize=8)
def _table(file: str, process: int) -> Any:
    from uml_manifests import open_arrow

    return open_arrow(Path(file))


def _open_array(file: str, name: str) -> Any:
    # Keyed by the file's state, for it may have been written anew, and by process: an HDF5 file that was
    # opened before a fork must not be read after it.
    state = os.stat(file)
    return _array(file, name, (state.st_ino, state.st_mtime_ns, os.getpid()))


@lru_cache(maxsize=16)
def _array(file: str, name: str, state: tuple[int, ...]) -> Any:
    if file.endswith((".h5", ".hdf5")):
        import h5py

        from uml_cache import hdf5_object, open_hdf5

        found = hdf5_object(open_hdf5(Path(file)), name)
        return _Ragged(found) if isinstance(found, h5py.Group) else found
    from uml_cache import read_array, read_member

    if file.endswith(".npy"):
        return read_array(Path(file))
    return read_member(Path(file), name)
