"""Other people's feature files, read as nested mappings from name to array. No code in a file is ever run.

A leaf is a numpy array, an h5py data set (read piece by piece), a list, a string or a small mapping such as
`{label: class name}`. Names with `/` or `.` in them (npz, safetensors) become nested.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache.errors import InputError

Nested = dict[Any, Any]
ATTRIBUTES = "attributes"  # JSON: what a store says of itself, in every format that export writes


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
        raise InputError(f"{path}: asks for more memory than there is; its header may be damaged") from None
    except Exception as error:  # parsers raise nearly anything on broken bytes
        said = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"{path}: cannot be read as {path.suffix.lower()} ({said})") from None


def read_array(path: Path) -> np.ndarray:
    """One .npy file, mapped; `InputError` if it is broken or holds Python objects."""
    with open(path, "rb") as stream:
        if stream.read(6) != b"\x93NUMPY":
            raise InputError(f"{path}: is no .npy file (pickles are never loaded)")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        if "object" in str(error).lower():
            raise _objects(path) from None
        try:
            return np.load(path, allow_pickle=False)  # an empty array cannot be mapped
        except Exception:
            raise InputError(f"{path}: the .npy file is broken or truncated ({error})") from None


def _objects(path: Path, name: str | None = None) -> InputError:
    what = "holds" if name is None else f"array {name!r} holds"
    return InputError(
        f"{path}: {what} Python objects (a pickle), which are never loaded because they can run code; "
        "save it again as a numeric or string array"
    )


def _read_npy(path: Path, stack: ExitStack) -> Nested:
    return {"features": read_array(path)}


def _read_npz(path: Path, stack: ExitStack) -> Nested:
    import zipfile

    if not zipfile.is_zipfile(path):
        raise InputError(f"{path}: is no .npz file, or a truncated one (pickles are never loaded)")
    flat: Nested = {}
    with np.load(path, allow_pickle=False) as archive:
        for name in archive.files:
            try:
                flat[name] = archive[name]
            except ValueError as error:
                if "object" in str(error).lower():
                    raise _objects(path, name) from None
                raise
            if not isinstance(flat[name], np.ndarray):
                raise InputError(f"{path}: member {name!r} is no array")
    return _nest(flat)


def _read_torch(path: Path, stack: ExitStack) -> Nested:
    import pickle

    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(
            f"{path}: is broken, or holds more than tensors, numbers, strings and containers of them; such "
            "pickles can run code and are not loaded (save features, labels and paths as tensors and lists)"
        ) from None
    if isinstance(content, torch.Tensor):
        content = {"features": content}
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}; expected a mapping with features")
    return _as_numpy(content)


def _as_numpy(value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        value = value.detach().to_dense() if value.layout != torch.strided else value.detach()
        return (value.float() if value.dtype == torch.bfloat16 else value).contiguous().numpy()
    if isinstance(value, dict):
        return {key: _as_numpy(inner) for key, inner in value.items()}
    return value


def _read_safetensors(path: Path, stack: ExitStack) -> Nested:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as opened:
        flat: Nested = {name: _as_numpy(opened.get_tensor(name)) for name in opened.keys()}  # noqa: SIM118
        metadata = opened.metadata() or {}
    for name, text in metadata.items():
        if name in ("id", "group"):  # strings are no tensors: export puts them here, as JSON
            flat[name] = json.loads(text)
        elif name == ATTRIBUTES:
            flat[name] = text
    return _nest(flat)


def _read_hdf5(path: Path, stack: ExitStack) -> Nested:
    import h5py

    return _open_group(stack.enter_context(h5py.File(path, "r")))


def _open_group(group: Any) -> Nested:
    import h5py

    found: Nested = {}
    for name in group:
        if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
            continue  # another file's data is not in this file
        value = group[name]
        if isinstance(value, h5py.Group):
            found[name] = _open_group(value)
        elif h5py.check_string_dtype(value.dtype) is not None:
            found[name] = value.asstr()[()]
        elif value.dtype.kind in "OV":
            continue
        else:
            found[name] = value
    if ATTRIBUTES in group.attrs:
        found[ATTRIBUTES] = str(group.attrs[ATTRIBUTES])
    return found


def _read_parquet(path: Path, stack: ExitStack) -> Nested:
    from uml_cache.exchange.parquet import read_parquet

    return read_parquet(path)


def _nest(flat: Mapping[str, Any]) -> Nested:
    nested: Nested = {}
    for name, value in flat.items():
        *folders, leaf = name.replace(".", "/").split("/")
        here = nested
        for folder in folders:
            inner = here.setdefault(folder, {})
            if not isinstance(inner, dict):
                inner = here[folder] = {"": inner}
            here = inner
        here[leaf] = value
    return nested


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
