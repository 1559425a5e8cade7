"""numpy's own files, .npy and .npz: arrays alone, no code, no more memory than the file is worth."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache.errors import InputError
from uml_cache.files.promises import check_memory, check_promise

_MAGIC = b"\x93NUMPY"


def read_array(path: Path) -> np.ndarray:
    """One .npy file, mapped, of any shape and dtype but objects.

    Raises:
        InputError: it is broken or shorter than its header says, or it holds Python objects.
    """
    with open(path, "rb") as stream:
        shape, dtype, start = _header(stream, str(path), str(path))
    size = path.stat().st_size - start
    if math.prod(shape) * dtype.itemsize > size:
        raise InputError(f"{path}: the .npy file is broken or truncated (its header says {shape} of {dtype})")
    try:
        if math.prod(shape) * dtype.itemsize == 0:
            return np.load(path, allow_pickle=False)  # an empty array cannot be mapped
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, OverflowError) as error:
        raise InputError(f"{path}: the .npy file is broken or truncated ({error})") from None


def read_archive(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz file by name, of any shape and dtype; `InputError` as of `read_array`."""
    with _archive(path) as archive:
        check_memory(str(path), sum(member.file_size for member in archive.infolist()))
        found: dict[str, np.ndarray] = {}
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            array = _read(archive, member, path)
            if name in found and not _same(found[name], array):
                raise InputError(f"{path}: array {name!r} is in it twice, with different values; keep one")
            found[name] = array
        return found


def read_member(path: Path, name: str) -> np.ndarray:
    """One array of an .npz file, of any shape and dtype; a `.` in its name there may be a `/` in `name`.

    Raises:
        InputError: there is no such array, or it is broken.
    """
    with _archive(path) as archive:
        for member in archive.infolist():
            called = member.filename.removesuffix(".npy")
            if name in (called, called.replace(".", "/")):
                check_memory(f"{path}: {name}", member.file_size)
                return _read(archive, member, path)
    raise InputError(f"{path}: has no array {name!r} in it")


def objects_error(where: str, name: str | None = None) -> InputError:
    """The refusal of arrays that hold Python objects."""
    what = "holds" if name is None else f"array {name!r} holds"
    return InputError(
        f"{where}: {what} Python objects (a pickle), which are never loaded because they can run code; "
        "save it again as a numeric or string array"
    )


def _same(first: np.ndarray, second: np.ndarray) -> bool:
    alike = first.dtype == second.dtype and first.shape == second.shape
    return alike and first.tobytes() == second.tobytes()  # bytes: one NaN is not equal to the next


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError):
        raise InputError(f"{path}: is no .npz file, or a truncated one (pickles are never loaded)") from None


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> np.ndarray:
    name = member.filename.removesuffix(".npy")
    check_promise(f"{path}: {name}", member.file_size, max(member.compress_size, 1))
    try:
        with archive.open(member) as stream:
            if stream.read(len(_MAGIC)) != _MAGIC:
                raise InputError(f"{path}: member {name!r} is no array")
            stream.seek(0)
            shape, dtype, start = _header(stream, f"{path}: array {name!r}", str(path), name)
            if math.prod(shape) * dtype.itemsize > member.file_size - start:
                raise InputError(
                    f"{path}: array {name!r} is shorter than its header says ({shape} of {dtype})"
                )
            stream.seek(0)
            return np.lib.format.read_array(stream, allow_pickle=False)
    except InputError:
        raise
    except Exception as error:  # a broken archive raises nearly anything
        said = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"{path}: array {name!r} cannot be read ({said})") from None


def _header(
    stream: Any, where: str, path: str, name: str | None = None
) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape and dtype of an .npy, and where its values begin."""
    try:
        version = np.lib.format.read_magic(stream)
    except ValueError:
        raise InputError(f"{where}: is no .npy file (pickles are never loaded)") from None
    try:
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    except Exception as error:  # its header is a Python expression, and broken ones fail in many ways
        said = " ".join(str(error).split())[:120]
        raise InputError(f"{where}: the .npy file is broken or truncated ({said})") from None
    if dtype.hasobject:
        raise objects_error(path, name)
    if any(size < 0 for size in shape):
        raise InputError(f"{where}: the .npy file is broken (its header says {shape} of {dtype})")
    return shape, dtype, stream.tell()
