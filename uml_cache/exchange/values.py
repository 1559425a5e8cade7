"""Columns that lie in files of their own, and ids that occur twice.

Shapes: N samples.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from uml_cache.errors import InputError
from uml_cache.exchange.formats.numpy_files import read_array


def read_column(path: Path) -> list[str] | np.ndarray:
    """A column (N,) from a file of its own: a .npy of one dimension, or a text file with one value a line.

    Numbers keep the dtype of the .npy; text becomes a list of N strings.

    Raises:
        InputError: another shape, or neither kind of file.
    """
    if path.suffix.lower() == ".npy":
        values = np.asarray(read_array(path))
        if values.ndim != 1:
            raise InputError(f"{path}: has shape {values.shape}; expected one value a sample")
        return values.tolist() if values.dtype.kind in "SU" else values
    try:
        text = path.read_text(encoding="utf-8-sig")  # a line ends at "\n" alone: names may hold U+2028
    except UnicodeDecodeError:
        raise InputError(f"{path}: is neither a .npy nor a UTF-8 text file of one value a line") from None
    return text.removesuffix("\n").split("\n")


def unique_ids(ids: list[str]) -> list[str]:
    """The ids, with `#2`, `#3`, … behind those that occurred before (views of one picture share its path)."""
    seen: dict[str, int] = {}
    taken = set(ids)
    found = []
    for name in ids:
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            new = f"{name}#{seen[name]}"
            while new in taken:
                seen[name] += 1
                new = f"{name}#{seen[name]}"
            taken.add(new)
            name = new
        found.append(name)
    return found
