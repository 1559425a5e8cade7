"""Parts of files: members of a tar by offset, cells of an arrow file, rows of an array. Nothing is unpacked.

A path `FILE::PART` names one: `shard.tar::OFFSET+SIZE`, `data.arrow::COLUMN::ROW`, `x.h5::NAME::ROW`.
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
        values = np.asarray(_array(file, name, os.getpid())[int(row)])
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
    except (InputError, OSError, KeyError, IndexError, ValueError, TypeError) as error:
        raise SampleError(f"{file}: row {row} of {name!r} cannot be read ({error})") from None
    if not np.isfinite(values).all():
        raise SampleError(f"row {row} of {name!r} holds values that are not finite")
    return values


def row_shape(path: Path) -> tuple[int, ...]:
    """Shape of a row, without reading it."""
    file, _, part = str(path).partition(MARK)
    return tuple(_array(file, part.rpartition(MARK)[0], os.getpid()).shape[1:])


@lru_cache(maxsize=8)
def _table(file: str, process: int) -> Any:
    from uml_manifests.arrow import open_arrow

    return open_arrow(Path(file))


@lru_cache(maxsize=16)
def _array(file: str, name: str, process: int) -> Any:
    # Keyed by process: an HDF5 file that was opened before a fork must not be read after it.
    if file.endswith((".h5", ".hdf5")):
        import h5py

        return h5py.File(file, "r")[name]
    from uml_cache.exchange.files import read_array

    if file.endswith(".npy"):
        return read_array(Path(file))
    with np.load(file, allow_pickle=False) as archive:
        stored = next((key for key in archive.files if key.replace(".", "/") == name), name)
        return archive[stored]
