"""Pickles of numpy arrays, read without running anything that a pickle asks for.

A pickle is a program: it may name any function and call it. This reader knows the few names that arrays and
plain containers need, gives its own functions for them, and refuses every other name.
"""

from __future__ import annotations

import codecs
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache.errors import InputError

_ENCODINGS = ("latin1", "latin-1", "ascii", "utf-8")


class _Allowed:
    """A function that a pickle may name: it can be called and, unlike a function, not be changed."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: object) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it would change a function")


def _no_array(*arguments: object) -> Any:
    raise pickle.UnpicklingError("an array that is made in an unusual way")


_ARRAY = _Allowed(_no_array)  # stands where a pickle names `numpy.ndarray`


def _reconstruct(kind: object, shape: object, code: object) -> np.ndarray:
    """An empty array, which the pickle then fills."""
    if kind is not _ARRAY:
        raise pickle.UnpicklingError("an array of another class than numpy.ndarray")
    return np.ndarray.__new__(np.ndarray, (0,), "b")


def _dtype(code: object, align: object = False, copy: object = True) -> np.dtype[Any]:
    if not isinstance(code, str):
        raise pickle.UnpicklingError("an element type that is not given by its name")
    # A copy, because the pickle then sets its byte order, which numpy's own single `i4` would ignore.
    return np.dtype(code, False, True)


def _scalar(kind: object, content: object = b"") -> Any:
    if not isinstance(kind, np.dtype) or kind.hasobject:
        raise pickle.UnpicklingError("a number of a type that is none")
    if isinstance(content, str):
        content = content.encode("latin1")
    if not isinstance(content, bytes) or len(content) != kind.itemsize:
        raise pickle.UnpicklingError("a number of another length than its type's")
    return np.frombuffer(content, kind)[0]


def _from_buffer(content: object, kind: object, shape: object, order: object) -> np.ndarray:
    if not isinstance(content, bytes | bytearray) or not isinstance(kind, np.dtype) or kind.hasobject:
        raise pickle.UnpicklingError("an array of something else than numbers")
    if not isinstance(shape, tuple) or order not in ("C", "F"):
        raise pickle.UnpicklingError("an array without a shape")
    return np.frombuffer(content, kind).reshape(shape, order="F" if order == "F" else "C")


def _encode(text: object, encoding: object = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in _ENCODINGS:
        raise pickle.UnpicklingError("bytes in an unusual encoding")
    return codecs.encode(text, str(encoding))


def _bytes(content: object = b"", encoding: object = "latin1") -> bytes:
    return _encode(content, encoding) if isinstance(content, str) else b""


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _ARRAY,
    ("numpy", "dtype"): _Allowed(_dtype),
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _Allowed(_encode),
}
for _builtins in ("builtins", "__builtin__"):
    _KNOWN[_builtins, "bytes"] = _Allowed(_bytes)
    _KNOWN[_builtins, "set"] = set
    _KNOWN[_builtins, "frozenset"] = frozenset
for _numpy in ("numpy.core", "numpy._core"):
    _KNOWN[f"{_numpy}.multiarray", "_reconstruct"] = _Allowed(_reconstruct)
    _KNOWN[f"{_numpy}.multiarray", "scalar"] = _Allowed(_scalar)
    _KNOWN[f"{_numpy}.numeric", "_frombuffer"] = _Allowed(_from_buffer)


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return _KNOWN[module, name]

    def persistent_load(self, pid: object) -> Any:
        raise pickle.UnpicklingError("it refers to objects outside of it")


def read_pickle(path: str | Path) -> Any:
    """The content of a pickle of numpy arrays, numbers, strings, None and containers of these.

    Pickles of Python 2 are read, too (their byte strings as Latin-1).

    Raises:
        InputError: no such file, broken, or anything else in it; nothing in it is imported or called.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            return _Reader(stream, encoding="latin1").load()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: a folder, where a pickle is expected") from None
    except pickle.UnpicklingError as error:
        said = " ".join(str(error).split())
        raise InputError(
            f"{path}: is not loaded, because pickles can run code and this one is broken or holds more than "
            f"numpy arrays and plain containers ({said})"
        ) from None
    except MemoryError:
        raise InputError(f"{path}: asks for more memory than there is; the file may be damaged") from None
    except Exception as error:  # a broken pickle raises nearly anything
        said = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"{path}: is no pickle, or a truncated one ({said})") from None
