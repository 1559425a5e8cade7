"""What tells one sample from another: a digest of its content.

Shapes: n values of a sound.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from uml_cache import InputError
from uml_extract import as_array


def content_name(sample: Any, modality: str) -> str:
    """`sha256` (hex) of a sample: of a file what it holds, of a picture its pixels, of an array its values.

    A file that is not there has its path for content: reading says what is wrong with it.

    Raises:
        InputError: something that is no sample of any kind.
    """
    found = hashlib.sha256()
    _add(found, sample, modality)
    return found.hexdigest()


def _add(found: Any, sample: Any, modality: str) -> None:
    if isinstance(sample, Mapping) and "array" in sample:
        sample = (sample["array"], sample.get("sampling_rate"))
    if isinstance(sample, Mapping) and ("bytes" in sample or "path" in sample):
        sample = sample.get("bytes") or sample.get("path") or b""
    if isinstance(sample, bytes | bytearray):
        found.update(sample)
        return
    if isinstance(sample, str | os.PathLike):
        try:
            with open(sample, "rb") as stream:
                found.update(hashlib.file_digest(stream, "sha256").digest())
        except OSError:
            found.update(f"no file {os.fspath(sample)}".encode(errors="surrogateescape"))
        return
    if modality == "audio" and isinstance(sample, tuple | list) and len(sample) == 2:
        found.update(f"{sample[1]} ".encode())
        sample = sample[0]
    if type(sample).__module__.partition(".")[0] == "PIL":
        turned = sample.getexif().get(0x0112, 1)  # the orientation, which a reader applies
        found.update(f"{sample.mode} {sample.size} {turned}".encode())
        found.update(sample.tobytes())
        if sample.palette is not None:  # the pixels are positions in it
            found.update(f"{sample.palette.mode} ".encode() + bytes(sample.palette.tobytes()))
        return
    if isinstance(sample, np.ma.MaskedArray):  # its reader says what is wrong with it
        found.update(np.packbits(np.ma.getmaskarray(sample)).data)
        sample = sample.data
    values = as_array(sample)
    if values is None:
        raise InputError(
            f"a {type(sample).__name__} is no sample; expected files, bytes, PIL images, arrays, tensors, or "
            "for sounds pairs (array, rate)"
        )
    found.update(f"{values.dtype.str} {values.shape}".encode())
    found.update(np.ascontiguousarray(values).data)
