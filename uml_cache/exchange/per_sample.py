"""Columns of a feature file: one value a sample, of the right number, and none that has lost its meaning.

Shapes: N samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from uml_cache.errors import InputError, unknown

LENGTHS = "token_lengths"
_USUAL_LENGTHS = ("lengths", "length", "seq_lengths", "num_tokens", "n_tokens")
_STATUS_MOST = 255
_STATUS_WANTED = f"expected 0 where the sample could be read, else 1 to {_STATUS_MOST}"


def values_of(value: Any, kind: str, where: str, rows: int) -> Any:
    """(N,) array of numbers, or a list of N texts.

    Raises:
        InputError: there is not one value a sample, or numbers so large that their type cannot tell
            neighbours apart, so that several names may have become one.
    """
    if isinstance(value, str | dict) or not hasattr(value, "__len__"):
        raise InputError(f"{where}: {kind} is a {type(value).__name__}; expected one value a sample")
    if isinstance(value, list):
        if len(value) != rows:
            raise InputError(
                f"{where}: {kind} has {len(value)} values, there are {rows} samples; expected one value each"
            )
        return value
    values = np.asarray(value[()] if hasattr(value, "id") else value)
    if values.shape == (rows, 1):
        values = values[:, 0]
    if values.shape != (rows,):
        shape = "×".join(map(str, values.shape))
        raise InputError(
            f"{where}: {kind} has shape {shape}, there are {rows} samples; expected one value each"
        )
    if values.dtype.kind == "f":
        _need_distinct(values, kind, where)
    return values.tolist() if values.dtype.kind in "OSU" else values


def _need_distinct(values: np.ndarray, kind: str, where: str) -> None:
    """A float holds every whole number up to 2 to the power of its digits, and beyond that only some."""
    exact = 2 ** (np.finfo(values.dtype).nmant + 1)
    beyond = np.flatnonzero(np.abs(values) >= exact)  # NaN is not
    if len(beyond):
        raise InputError(
            f"{where}: {kind} are {values.dtype} and reach {values[beyond[0]]:.0f} (row {beyond[0]}); from "
            f"{exact:,} on that type gives neighbours the same number: save them as whole numbers or as text"
        )


def status_of(value: Any, where: str, rows: int) -> np.ndarray:
    """(N,) uint8, 0 where the sample could be read.

    Raises:
        InputError: not one whole number from 0 to 255 a sample.
    """
    values = values_of(value, "status", where, rows)
    for row, one in enumerate(values if isinstance(values, list) else ()):
        if not isinstance(one, int):
            raise InputError(f"{where}: the status of row {row} is {str(one)[:40]!r}; {_STATUS_WANTED}")
    numbers = np.asarray(values)
    with np.errstate(invalid="ignore"):
        wrong = ~((numbers >= 0) & (numbers <= _STATUS_MOST) & (numbers == np.floor(numbers)))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(f"{where}: the status of row {row} is {numbers[row]}; {_STATUS_WANTED}")
    return numbers.astype(np.uint8)


def need_lengths(lengths: np.ndarray, rows: int, longest: int | None, where: str) -> None:
    """Raise `InputError` unless `lengths` (N,) are of an integer type, from 0 to `longest`."""
    if lengths.shape != (rows,) or lengths.dtype.kind not in "iu":
        raise InputError(
            f"{where}: token lengths are {lengths.dtype} {lengths.shape}; expected {rows} integers"
        )
    if rows and (lengths.min() < 0 or (longest is not None and lengths.max() > longest)):
        raise InputError(
            f"{where}: token lengths go from {lengths.min()} to {lengths.max()}, which is impossible"
        )


def lengths_of(content: Mapping[Any, Any], given: str | None, where: str, remarks: list[str]) -> Any:
    """How many tokens each sample has, (N,); None where the file does not say. What was chosen is remarked.

    Raises:
        InputError: there is no array `given`, or two that fit equally well.
    """
    if given is not None:
        if content.get(given) is None:
            raise InputError(f"{where}: {unknown('array', given, map(str, content))}")
        return content[given]
    there = [name for name in (LENGTHS, *_USUAL_LENGTHS) if hasattr(content.get(name), "shape")]
    if there and there[0] != LENGTHS:
        if len(there) > 1:
            raise InputError(
                f"{where}: {' and '.join(map(repr, there))} may both be the token counts; say which with "
                "--lengths"
            )
        remarks.append(f"using {there[0]!r} as how many tokens each sample has; --lengths chooses another")
    return content[there[0]] if there else None


def need_whole(lengths: Any, rows: int, longest: int, where: str) -> None:
    """Raise `InputError` where only the first tokens of a row count, and rows are taken whole."""
    if lengths is None:
        return
    counts = np.asarray(lengths)
    need_lengths(counts, rows, longest, where)
    if short := int((counts < longest).sum()):
        raise InputError(
            f"{where}: {short:,} of {rows:,} samples have fewer than {longest} tokens, the rest is padding; "
            "`uml cache import` reads such files"
        )
