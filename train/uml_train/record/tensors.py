"""Trained weights as one safetensors file that says for itself whether it is whole.

Beside the tensors stands one entry of metadata: a JSON object under a key, with the sha256 of itself and of
all tensors. It is one entry because safetensors writes several in no fixed order, and equal weights should be
equal files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from uml_cache import InputError, parse_json
from uml_train.record.checksums import DamagedFile

_UNCHECKED = 1  # the format of version 0.1
FORMAT = 2


def tensor_file(tensors: Mapping[str, Tensor], key: str, about: Mapping[str, Any]) -> bytes:
    """The bytes of a file with tensors, of any shape and dtype, and what is said of them; equal weights give
    equal bytes."""
    from safetensors.torch import save

    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    values = {"format": FORMAT, **about}
    digest = _digest({name: tensor.numpy() for name, tensor in held.items()}, values)
    return save(held, {key: json.dumps({**values, "sha256": digest}, ensure_ascii=False)})


def read_tensor_file(path: Path, key: str, what: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What `tensor_file` wrote: the tensors, of any shape and dtype, and what is said of them.

    Args:
        what: what the file should be, such as `head of uml train`.

    Raises:
        InputError: another kind of file, or of a newer format; `DamagedFile` for one with another content
            than was written.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.numpy import load

    data = path.read_bytes()
    try:
        with safe_open(path, "np") as file:
            about: dict[str, Any] = parse_json((file.metadata() or {})[key])
        arrays = load(data)
        version, written = about.pop("format"), about.pop("sha256", None)
    except (SafetensorError, KeyError, ValueError, AttributeError, TypeError) as error:
        why = " ".join(str(error).split())
        raise InputError(f"{path} is no {what} ({type(error).__name__}: {why})") from None
    if version not in (_UNCHECKED, FORMAT):
        raise InputError(f"{path} has format {version!r}; this version reads {_UNCHECKED} and {FORMAT}")
    checked = version == FORMAT or written is not None
    if checked and written != _digest(arrays, {"format": version, **about}):
        why = "is damaged (it does not match its checksum)"
        raise DamagedFile(path, why, "take another copy of it, or train again")
    return arrays, about


def _digest(arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> str:
    found = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        found.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
