"""Parts of files: members of a tar by offset, cells of an arrow file, rows of an array. Nothing is unpacked.

A path `FILE::PART` names one: `shard.tar::OFFSET+SIZE`, `data.arrow::COLUMN::ROW`, `x.h5::NAME::ROW`. In an
HDF5 file NAME may be a group of `values` (V, D) and `length` (N,): rows (t, D) of different length.
"""

from __future__ import annotations

import io
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache.errors import InputError
from uml_extract.spec import SampleError

MARK = "::"


def open_member(path: Path) -> io.BytesIO | Path:
    """The bytes of a tar member or an arrow cell (or the file such a cell names). Raises `SampleError`."""
    file, _, part = str(path).partition(MARK)
    if not os.path.isfile(file):
        raise SampleError(f"no such file: {file}")
    if file.endswith(".tar"):
        offset, _, size = part.partition("+")
        if not (offset.isdecimal() and size.isdecimal()):
            raise SampleError(f"{path}: names no part of a tar; expected OFFSET+SIZE behind {MARK}")
        with open(file, "rb") as stream:
            stream.seek(int(offset))
            content = stream.read(int(size))
        if len(content) < int(size):
            raise SampleError(f"{file}: ends within the member at {offset} ({len(content)} of {size} bytes)")
        return io.BytesIO(content)
    column, _, row = part.rpartition(MARK)
    try:
        cell = _table(file, os.getpid())[column][int(row)].as_py()
    except (InputError, KeyError, IndexError, ValueError) as error:
        raise SampleError(f"{file}: row {row} of {column!r} cannot be read ({error})") from None
    if not isinstance(cell, dict) or not (cell.get("bytes") or cell.get("path")):
        raise SampleError(f"{file}: row {row} of {column!r} is empty")
    if cell.get("bytes"):
        return io.BytesIO(cell["bytes"])
    other = Path(file).parent / cell["path"]
    if not other.is_file():
        raise SampleError(f"{file}: row {row} names {cell['path']}, which does not exist")
    return other


def read_row(path: Path) -> np.ndarray:
    """One row of an array as float32, of whatever shape; `SampleError` if it is not finite or not there."""
    file, _, part = str(path).partition(MARK)
    name, _, row = part.rpartition(MARK)
    try:
        values = np.asarray(_open_array(file, name)[int(row)])
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
    except (InputError, OSError, KeyError, IndexError, ValueError, TypeError) as error:
        raise SampleError(f"{file}: row {row} of {name!r} cannot be read ({error})") from None
    if not np.isfinite(values).all():
        raise SampleError(f"row {row} of {name!r} holds values that are not finite")
    return values


def row_shape(path: Path) -> tuple[int | None, ...]:
    """Shape of a row, without reading it; None where rows differ in length."""
    file, _, part = str(path).partition(MARK)
    return tuple(_open_array(file, part.rpartition(MARK)[0]).shape[1:])


def row_length(path: Path) -> int:
    """How many steps (t, D) a row has, without reading it."""
    file, _, part = str(path).partition(MARK)
    name, _, row = part.rpartition(MARK)
    array = _open_array(file, name)
    return int(array.lengths[int(row)]) if isinstance(array, _Ragged) else int(array.shape[1])


class _Ragged:
    """The rows of an HDF5 group with `values` (V, D) and `length` (N,)."""

    def __init__(self, group: Any) -> None:
        self._values = group["values"]
        self.lengths = np.asarray(group["length"][()], dtype=np.int64)
        self._ends = np.cumsum(self.lengths)
        if self._values.ndim != 2 or (self.lengths < 0).any() or self.lengths.sum() != len(self._values):
            raise ValueError(f"{group.name}: length does not add up to the rows of values")
        self.shape = (len(self.lengths), None, self._values.shape[1])

    def __getitem__(self, row: int) -> np.ndarray:
        end = int(self._ends[row])
        return np.asarray(self._values[end - int(self.lengths[row]) : end])


@lru_cache(maxsize=8)
def _table(file: str, process: int) -> Any:
    from uml_manifests.sources.arrow import open_arrow

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

        found = h5py.File(file, "r")[name]
        return _Ragged(found) if isinstance(found, h5py.Group) else found
    from uml_cache.exchange.files import read_array

    if file.endswith(".npy"):
        return read_array(Path(file))
    with np.load(file, allow_pickle=False) as archive:
        stored = next((key for key in archive.files if key.replace(".", "/") == name), name)
        return archive[stored]
