"""Folders with one feature file per sample, as pathology pipelines write them: (t, E) or (D,) each.

    features/slide_001.h5      and others, or  features/CLASS/slide_001.pt

Shapes: N samples, D features, T tokens of all samples, E their width.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from uml_cache.errors import InputError
from uml_cache.exchange.formats.feature_file import read_file
from uml_cache.exchange.formats.hdf5 import hdf5_object, open_hdf5
from uml_cache.exchange.formats.nested import Nested
from uml_cache.store.plans.layout import SPLIT_NAMES
from uml_cache.tables.columns import PLAIN, USUAL
from uml_cache.tables.splits import split_of_folder

_HDF5 = (".h5", ".hdf5")
SUFFIXES = (".npy", ".pt", ".pth", *_HDF5)
_State = tuple[int, int, int]


def sample_files(folder: Path) -> list[str]:
    """The feature files below a folder, by their path there with `/`, sorted; hidden ones are not counted."""
    found = []
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(here).relative_to(folder)
        found += [
            (inside / name).as_posix()
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
        ]
    return sorted(found)


def read_sample_folder(folder: Path, features: str | None) -> Nested:
    """The samples of a folder as one: `features` (N, D), or `tokens` (T, E) with `token_lengths` (N,).

    Files are opened one after the other, also later: the values are never in memory together. The id of a
    sample is its path without the suffix, its label the folder that it lies in, if all lie in folders; top
    folders that are all named after splits (`train`, `val`, `test`) are those.

    Raises:
        InputError: a file without features, or whose shape is not that of the others; two of one id.
    """
    names = sample_files(folder)
    ids = [name.rpartition(".")[0] for name in names]
    twice, count = Counter(ids).most_common(1)[0]
    if count > 1:
        raise InputError(f"{folder}: {count} files are called {twice}; keep one of them")
    arrays = [_looked_at(str(folder / name), features) for name in names]
    first = arrays[0]
    shapes = [array.shape for array in arrays]
    for name, array in zip(names, arrays, strict=True):
        if array.ndim != first.ndim or array.shape[-1] != first.shape[-1]:
            raise InputError(
                f"{folder}: {name} has shape {array.shape}, {names[0]} has {first.shape}; samples of one "
                "folder have the same width"
            )
    lengths = np.array([shape[0] if len(shape) == 2 else 1 for shape in shapes], np.int64)
    kind = np.result_type(*{array.dtype for array in arrays})
    files = [(str(folder / name), array.name, array.state) for name, array in zip(names, arrays, strict=True)]
    joined = _Joined(files, lengths, first.shape[-1], kind)
    found: Nested = {"id": ids}
    folders = [name.split("/")[:-1] for name in names]
    splits = [split_of_folder(one[0]) if one else None for one in folders]
    if None not in splits:
        found["split"] = [SPLIT_NAMES[code] for code in splits if code is not None]
        folders = [one[1:] for one in folders]
    if all(folders):
        found["label"] = [one[-1] for one in folders]
    if first.ndim == 1:
        return {**found, "features": joined}
    return {**found, "tokens": joined, "token_lengths": lengths}


class _Joined:
    """The rows of many files one after the other, (T, E), read when they are asked for."""

    ndim = 2

    def __init__(
        self, files: Sequence[tuple[str, str, _State]], lengths: np.ndarray, width: int, dtype: np.dtype[Any]
    ) -> None:
        self._files = files
        self._ends = np.cumsum(lengths)
        self.shape = (int(self._ends[-1]), width)
        self.dtype = dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, at: Any) -> np.ndarray:
        """The rows of a slice without steps, (n, E), or one row, (E,)."""
        if not isinstance(at, slice):
            return self[int(at) : int(at) + 1][0]
        low, high, _ = at.indices(len(self))
        parts = []
        file = int(np.searchsorted(self._ends, low, side="right"))
        while low < high:
            begin = int(self._ends[file - 1]) if file else 0
            end = min(high, int(self._ends[file]))
            values = _rows(*self._files[file])
            parts.append(values[low - begin : end - begin].astype(self.dtype))
            low, file = end, file + 1
        return np.concatenate(parts) if parts else np.empty((0, self.shape[1]), self.dtype)


@lru_cache(maxsize=1)
def _rows(file: str, name: str, state: _State) -> np.ndarray:
    """(t, E): the values of one file, which several pieces in a row may ask for."""
    if _state(file) != state:
        raise InputError(f"{file}: has changed since it was first read; run the same command again")
    with ExitStack() as stack:
        if Path(file).suffix.lower() in _HDF5:  # was tried in a process of its own when it was looked at
            values = hdf5_object(stack.enter_context(open_hdf5(Path(file))), name)
        else:
            values = read_file(Path(file), stack)[name]
        return np.atleast_2d(np.asarray(values[()]))


def _looked_at(file: str, wanted: str | None) -> SimpleNamespace:
    """Name, shape and type of one file's features, (t, E) or (D,), and the file's state."""
    state = _state(file)
    with ExitStack() as stack:
        content = read_file(Path(file), stack)
        names = [wanted] if wanted else [*PLAIN["features"], *USUAL["features"], "tokens"]
        name = next((name for name in names if hasattr(content.get(name), "shape")), None)
        if name is None:
            held = ", ".join(sorted(map(str, content))[:8]) or "nothing"
            raise InputError(f"{file}: found no features; it holds {held}. Name the array with --features")
        found = content[name]
        if found.ndim == 3 and found.shape[0] == 1:
            raise InputError(f"{file}: its features have shape {found.shape}; save them without the first 1")
        if found.ndim not in (1, 2) or found.dtype.kind not in "fiu":
            raise InputError(f"{file}: its features are {found.dtype} {found.shape}; expected (t, E) or (D,)")
        return SimpleNamespace(
            name=name, shape=tuple(found.shape), ndim=found.ndim, dtype=found.dtype, state=state
        )


def _state(file: str) -> _State:
    try:
        status = os.stat(file)
    except OSError:
        raise InputError(f"{file}: is gone since the folder was listed") from None
    return status.st_ino, status.st_mtime_ns, status.st_size
