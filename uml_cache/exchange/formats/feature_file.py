"""Other people's feature files, read as nested mappings from name to array. No code in a file is ever run.

A leaf is a numpy array, an h5py data set (read piece by piece), a list, a string or a small mapping such as
`{label: class name}`. Names with `/` or `.` in them (npz, safetensors) become nested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count, product
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache.errors import InputError
from uml_cache.exchange.formats.nested import ATTRIBUTES, CLASS_ATTRIBUTE, Nested, nest
from uml_cache.exchange.formats.numpy_files import read_archive, read_array
from uml_cache.exchange.formats.parquet import read_parquet
from uml_cache.files.documents import parse_json

_SMALL = 1 << 26  # bytes
_MOST_OBJECTS = 100_000  # of an HDF5 file
_DEEPEST = 32  # groups inside each other
_CLASS_ATTRIBUTES = ("classes", "classnames", "class_names")


def read_file(path: Path, stack: ExitStack) -> Nested:
    """The arrays of one file, by suffix; files that are read piece by piece are closed by `stack`.

    Raises `InputError` for a file that is missing, of an unknown kind, broken, or a pickle with anything but
    tensors and plain containers in it.
    """
    if not path.is_file():
        what = "is a folder without img_emb or text_emb" if path.is_dir() else "does not exist"
        raise InputError(f"{path} {what}; expected a feature file ({', '.join(_READERS)})")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: unknown kind of file; expected one of {', '.join(_READERS)}")
    try:
        return reader(path, stack)
    except InputError:
        raise
    except MemoryError:
        raise InputError(
            f"{path}: needs more memory than this machine has; its header may be damaged"
        ) from None
    except Exception as error:  # parsers raise nearly anything on broken bytes
        said = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"{path}: cannot be read as {path.suffix.lower()} ({said})") from None


def _read_npy(path: Path, stack: ExitStack) -> Nested:
    return {"features": read_array(path)}


def _read_npz(path: Path, stack: ExitStack) -> Nested:
    return nest(read_archive(path))


def _read_torch(path: Path, stack: ExitStack) -> Nested:
    from uml_cache.exchange.formats.torch_files import read_torch

    return read_torch(path)


def _read_safetensors(path: Path, stack: ExitStack) -> Nested:
    from safetensors import safe_open

    from uml_cache.exchange.formats.torch_files import as_numpy

    with safe_open(path, framework="pt") as opened:
        flat: Nested = {name: as_numpy(opened.get_tensor(name), str(path)) for name in opened.keys()}  # noqa: SIM118
        metadata = opened.metadata() or {}
    for name, text in metadata.items():
        if name in ("id", "group"):  # strings are no tensors: export puts them here, as JSON
            flat[name] = parse_json(text)
        elif name == ATTRIBUTES:
            flat[name] = text
    return nest(flat)


def _read_hdf5(path: Path, stack: ExitStack) -> Nested:
    from uml_cache.exchange.formats.hdf5 import open_hdf5
    from uml_cache.exchange.trial import try_first

    try_first(path, lambda: _read_through(path))
    return _open_group(stack.enter_context(open_hdf5(path)), count(1))


def _read_through(path: Path) -> None:
    """Read every small array whole, and of large ones the ends."""
    from uml_cache.exchange.formats.hdf5 import open_hdf5

    with open_hdf5(path) as file:
        waiting: list[Any] = [_open_group(file, count(1))]
        while waiting:
            value = waiting.pop()
            if isinstance(value, dict):
                waiting += value.values()
            elif getattr(value, "ndim", 0) and value.nbytes > _SMALL:
                np.asarray(value[:1]), np.asarray(value[-1:])
            elif hasattr(value, "nbytes"):
                np.asarray(value[()])


def _open_group(group: Any, seen: Iterator[int], depth: int = 0) -> Nested:
    import h5py

    from uml_cache.exchange.formats.hdf5 import hdf5_members, refuse_unread

    found: Nested = {}
    for name, value in hdf5_members(group):
        # A soft link may lead to a group above; h5py gives that one its own name, so its depth tells nothing.
        if next(seen) > _MOST_OBJECTS or depth > _DEEPEST:
            raise InputError(f"{group.file.filename}: its groups lead in a circle, or hold too many objects")
        if isinstance(value, h5py.Group):
            found[name] = _open_group(value, seen, depth + 1)
            continue
        try:
            kind = value.dtype
        except TypeError:
            kind = None  # a type that numpy has nothing for, such as a bit field
        if kind is not None and h5py.check_string_dtype(kind) is not None:
            found[name] = _texts(value)
        elif kind is not None and value.shape and (words := h5py.check_enum_dtype(kind)) is not None:
            found[name] = _words(value, words)
        elif kind is not None and kind.kind != "O" and value.shape is not None:
            found[name] = value
        else:
            refuse_unread(group.file.filename, name, "its type has no text and no numbers")
    if ATTRIBUTES in group.attrs:
        found[ATTRIBUTES] = str(group.attrs[ATTRIBUTES])
    _add_class_list(group, found)
    return found


def _add_class_list(group: Any, found: Nested) -> None:
    """Class names that stand in an attribute of the group, or of an array in it."""
    holders = [group, *(value for value in found.values() if hasattr(value, "attrs"))]
    for holder, name in product(holders, _CLASS_ATTRIBUTES):
        names = np.asarray(holder.attrs.get(name, ()))
        if names.ndim != 1 or not names.size or names.dtype.kind not in "SUO":
            continue
        texts = [text.decode() if isinstance(text, bytes) else str(text) for text in names.tolist()]
        if found.setdefault(CLASS_ATTRIBUTE, texts) != texts:
            raise InputError(
                f"{group.file.filename}: two attributes list different classes; leave one of them out"
            )


def _texts(value: Any) -> Any:
    """Text, or its bytes where these are not UTF-8: whoever needs such a column says so."""
    try:
        return value.asstr()[()]
    except UnicodeDecodeError:
        return value[()]


def _words(value: Any, words: dict[str, int]) -> Any:
    """What the numbers of an enumeration stand for; numbers that it does not name stay numbers."""
    names = {number: name for name, number in words.items()}
    numbers = value[()]
    if numbers.ndim != 1:
        return value
    return np.array([names.get(number, number) for number in numbers.tolist()], dtype=object)


def _read_parquet(path: Path, stack: ExitStack) -> Nested:
    return read_parquet(path)


_READERS: dict[str, Callable[[Path, ExitStack], Nested]] = {
    ".pth": _read_torch,
    ".pt": _read_torch,
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
    ".h5": _read_hdf5,
    ".hdf5": _read_hdf5,
    ".parquet": _read_parquet,
}
