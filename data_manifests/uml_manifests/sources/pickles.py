"""Pickles of numpy arrays, read without running anything that a pickle asks for.

A pickle is a program: it may name any function and call it. This reader knows the few names that arrays and
plain containers need, gives its own functions for them, and refuses every other name.

Even then a pickle may set the state of what it made, and numpy takes such a state on trust: an element type
with other flags or another size makes arrays point anywhere. So types are made from their short names alone
(`f4`, `U12`, `O`), byte order is the one thing that can be set, and what an array is filled with is checked
against its shape first.
"""

from __future__ import annotations

import codecs
import math
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, TypeGuard

import numpy as np

from uml_cache import InputError

_ENCODINGS = ("latin1", "latin-1", "ascii", "utf-8")
_TYPE = re.compile(r"[|<>=]?(b1|\?|[iu][1248]|f[248]|c8|c16|O8?|[SU][0-9]{1,9})")
_ORDERS = ("<", ">", "=", "|")
_MOST_AXES = 32
_LONGEST = 1 << 40  # along one axis


class _Allowed:
    """A function that a pickle may name: it can be called and, unlike a function, not be changed."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: object) -> Any:
        return self._function(*arguments)


def _no_array(*arguments: object) -> Any:
    raise pickle.UnpicklingError("an array that is made in an unusual way")


_ARRAY = _Allowed(_no_array)  # stands where a pickle names `numpy.ndarray`


class _Kind:
    """An element type that the pickle names; nothing but its byte order can be changed."""

    __slots__ = ("dtype",)

    def __init__(self, code: object) -> None:
        if not isinstance(code, str) or not _TYPE.fullmatch(code):
            raise pickle.UnpicklingError("an element type that is no plain number, string or object")
        self.dtype: np.dtype[Any] = np.dtype(code)

    def set_order(self, state: object) -> None:
        """Numpy's own state is (version, order, and what the name says already)."""
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in _ORDERS:
            raise pickle.UnpicklingError("an element type with an unusual state")
        if any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("an element type with fields")
        self.dtype = self.dtype.newbyteorder(state[1])


def _reconstruct(kind: object, shape: object, code: object) -> np.ndarray:
    """An empty array, which the pickle then fills."""
    if kind is not _ARRAY:
        raise pickle.UnpicklingError("an array of another class than numpy.ndarray")
    return np.ndarray((0,), "b")


def _fill(array: np.ndarray, state: object) -> None:
    """Give an empty array its values, as numpy does, once they are known to fit."""
    if array.shape != (0,) or array.dtype != np.int8 or not isinstance(state, tuple) or len(state) != 5:
        raise pickle.UnpicklingError("an array that is changed after it was made")
    _, shape, kind, fortran, content = state
    if not isinstance(kind, _Kind) or not _is_shape(shape):
        raise pickle.UnpicklingError("an array without a shape or an element type")
    count = math.prod(shape)
    if kind.dtype.hasobject:
        fits = type(content) is list and len(content) == count
    else:
        content = content.encode("latin1") if isinstance(content, str) else content
        fits = isinstance(content, bytes) and len(content) == count * kind.dtype.itemsize
    if not fits:
        raise pickle.UnpicklingError("an array of another size than its values")
    array.__setstate__((1, shape, kind.dtype, bool(fortran), content))  # type: ignore[arg-type]


def _is_shape(shape: object) -> TypeGuard[tuple[int, ...]]:
    return (
        isinstance(shape, tuple)
        and len(shape) <= _MOST_AXES
        and all(type(size) is int and 0 <= size <= _LONGEST for size in shape)
    )


def _scalar(kind: object, content: object = b"") -> Any:
    if not isinstance(kind, _Kind) or kind.dtype.hasobject:
        raise pickle.UnpicklingError("a number of a type that is none")
    if isinstance(content, str):
        content = content.encode("latin1")
    if not isinstance(content, bytes) or len(content) != kind.dtype.itemsize:
        raise pickle.UnpicklingError("a number of another length than its type's")
    return np.frombuffer(content, kind.dtype)[0] if content else kind.dtype.type()


def _from_buffer(content: object, kind: object, shape: object, order: object) -> np.ndarray:
    if not isinstance(content, bytes | bytearray) or not isinstance(kind, _Kind) or kind.dtype.hasobject:
        raise pickle.UnpicklingError("an array of something else than numbers")
    if not _is_shape(shape) or order not in ("C", "F"):
        raise pickle.UnpicklingError("an array without a shape")
    return np.frombuffer(content, kind.dtype).reshape(shape, order="F" if order == "F" else "C")


def _encode(text: object, encoding: object = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in _ENCODINGS:
        raise pickle.UnpicklingError("bytes in an unusual encoding")
    return codecs.encode(text, str(encoding))


def _bytes(content: object = b"", encoding: object = "latin1") -> bytes:
    return _encode(content, encoding) if isinstance(content, str) else b""


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _ARRAY,
    ("numpy", "dtype"): _Allowed(lambda code, align=False, copy=True: _Kind(code)),
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


class _File:
    """A stream that is not asked for more bytes than it has: a pickle may promise any number."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._size = stream, size
        self.readline = stream.readline

    def read(self, count: int = -1) -> bytes:
        if count > self._size - self._stream.tell():
            raise pickle.UnpicklingError("it ends too early")
        return self._stream.read(count)

    def readinto(self, buffer: Any) -> int:
        return self._stream.readinto(buffer)  # type: ignore[attr-defined]


class _Reader(pickle._Unpickler):  # the one in Python: what BUILD does can be decided here
    stack: list[Any]

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return _KNOWN[module, name]

    def persistent_load(self, pid: object) -> Any:
        raise pickle.UnpicklingError("it refers to objects outside of it")

    def load_build(self) -> None:
        """Set the state of the newest object: an array's values or a type's byte order, nothing else's."""
        if len(self.stack) < 2:
            raise pickle.UnpicklingError("a state of nothing")
        state = self.stack.pop()
        made = self.stack[-1]
        if type(made) is np.ndarray:
            _fill(made, state)
        elif isinstance(made, _Kind):
            made.set_order(state)
        else:
            raise pickle.UnpicklingError("it would change something else than an array")

    dispatch: ClassVar = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: load_build}  # type: ignore[dict-item]


def read_pickle(path: str | Path) -> Any:
    """The content of a pickle of numpy arrays, numbers, strings, None and containers of these.

    Pickles of Python 2 are read, too (their byte strings as Latin-1).

    Raises:
        InputError: no such file, broken, or anything else in it; nothing in it is imported or called.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            size = path.stat().st_size
            return _Reader(_File(stream, size), encoding="latin1").load()
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
        raise InputError(
            f"{path}: needs more memory than this machine has; the file may be damaged"
        ) from None
    except Exception as error:  # a broken pickle raises nearly anything
        said = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"{path}: is no pickle, or a truncated one ({said})") from None
