"""Samples that people hold in Python, as pictures and sounds: PIL images, arrays, tensors, files, bytes.

Shapes: H, W pixels; n values of a sound, c its channels.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uml_extract.readers.samples import Sound, read_audio, read_image, sound_at, upright_rgb
from uml_extract.spec import SampleError

if TYPE_CHECKING:
    from PIL.Image import Image

_PICTURE = (
    "a PIL image, a file, or an array (H, W), (H, W, 3) or (3, H, W) of bytes or of numbers from 0 to 1"
)
_SOUND = "a file, or a pair (array, rate)"
_CHANNELS = (1, 3, 4)


def as_picture(held: Any, least_side: int = 0) -> Image:
    """A picture upright as RGB, whatever it was: PIL image, path, bytes of a file, array or tensor.

    Arrays of real numbers hold 0 to 1, arrays of whole numbers 0 to 255. Raises `SampleError`.
    """
    from PIL import Image

    if isinstance(held, Image.Image):
        return upright_rgb(held)
    file = as_file(held)
    if file is not None:
        return read_image(file, least_side)
    values = as_array(held)
    if values is None:
        raise SampleError(f"a {type(held).__name__} is no picture; expected {_PICTURE}")
    return upright_rgb(Image.fromarray(_pixels(values)))


def _pixels(values: np.ndarray) -> np.ndarray:
    """(H, W, 3) or (H, W) uint8."""
    if values.ndim == 3 and values.shape[-1] not in _CHANNELS and values.shape[0] in _CHANNELS:
        values = values.transpose(1, 2, 0)
    if values.ndim == 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[-1] not in _CHANNELS):
        raise SampleError(f"an array {values.shape} is no picture; expected {_PICTURE}")
    if not values.size:
        raise SampleError(f"an array {values.shape} holds no pixel")
    if values.dtype == bool or values.dtype.kind == "f":
        low, high = (float(values.min()), float(values.max())) if values.dtype != bool else (0.0, 1.0)
        if not (low >= 0.0 and high <= 1.0):  # also where one of them is not a number
            raise SampleError(
                f"real numbers from {low:g} to {high:g} are no picture; expected 0 to 1 (before any "
                "normalisation: the encoder does its own), or whole numbers from 0 to 255"
            )
        return np.ascontiguousarray(np.rint(values.astype(np.float32) * 255.0).astype(np.uint8))
    if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 255:
        raise SampleError(f"an array of {values.dtype} is no picture; expected {_PICTURE}")
    return np.ascontiguousarray(values.astype(np.uint8))


def as_sound(held: Any, rate: int, seconds: float) -> Sound:
    """At most `seconds` of a sound, mono and resampled: a path, bytes of a file, or (array, rate).

    Arrays are (n,), (n, c) or (c, n); whole numbers are scaled to ±1. A dictionary with `array` and
    `sampling_rate` is a pair, too. Raises `SampleError`.
    """
    pair = sound_pair(held)
    if pair is not None:
        return sound_at(pair[0], pair[1], rate, seconds)
    file = as_file(held)
    if file is None:
        raise SampleError(f"a {type(held).__name__} is no sound; expected {_SOUND}")
    return read_audio(file, rate, seconds)


def sound_pair(held: Any) -> tuple[np.ndarray, int] | None:
    """(n,) float32 and its rate, where `held` is such a pair; None for anything else.

    Raises:
        SampleError: it holds no sound.
    """
    if isinstance(held, Mapping) and "array" in held and "sampling_rate" in held:
        held = (held["array"], held["sampling_rate"])
    if not isinstance(held, tuple | list) or len(held) != 2 or isinstance(held[0], str | bytes | os.PathLike):
        return None
    values = as_array(held[0])
    if values is None or values.ndim not in (1, 2):
        raise SampleError(f"{type(held[0]).__name__} holds no sound; expected (n,), (n, c) or (c, n) values")
    if values.dtype.kind in "iu":
        values = values.astype(np.float32) / float(np.iinfo(values.dtype).max)
    if values.ndim == 2:
        values = values.mean(axis=0 if values.shape[0] < values.shape[1] else 1)
    return np.ascontiguousarray(values, dtype=np.float32), int(held[1])


def as_array(held: Any) -> np.ndarray | None:
    """An array, a list of numbers or a tensor of torch as numpy; None for anything else.

    It may have any shape. An array keeps its dtype; a list must give booleans, integers or floats.

    Raises:
        SampleError: some of its values are masked.
    """
    if isinstance(held, np.ndarray):
        if isinstance(held, np.ma.MaskedArray) and np.ma.is_masked(held):
            raise SampleError("some of its values are masked; fill them, or leave the sample out")
        return held
    if hasattr(held, "detach"):
        return np.asarray(held.detach().cpu())
    if hasattr(held, "__array__") or (isinstance(held, list | tuple) and held):
        try:
            found = np.asarray(held)
        except (ValueError, TypeError):
            return None
        return found if found.dtype.kind in "fiub" else None
    return None


def as_file(held: Any) -> str | Path | io.BytesIO | None:
    """The path or the bytes that `held` is, also as a cell of a Hugging Face data set; None if neither.

    Raises:
        SampleError: the cell is empty.
    """
    if isinstance(held, Mapping) and ("bytes" in held or "path" in held):
        held = held.get("bytes") or held.get("path")
        if held is None:
            raise SampleError("the cell is empty")
    if isinstance(held, bytes | bytearray):
        return io.BytesIO(held)
    if isinstance(held, str | Path):
        return held
    return Path(held) if isinstance(held, os.PathLike) else None
