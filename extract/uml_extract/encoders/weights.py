"""Weights from files: safetensors, or torch files read as tensors only. No code in a file is ever run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uml_cache import InputError, parse_json

if TYPE_CHECKING:
    import torch

WEIGHT_NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_TORCH_SUFFIXES = (".pt", ".pth", ".bin")
_WRAPPERS = ("state_dict", "model", "teacher")  # where training scripts put the weights in their checkpoints


def weight_files(path: Path) -> list[Path]:
    """The weight files at `path`, a file or a folder; of a folder the safetensors, where there are any.

    Raises `InputError` when there are none, when several would fit, or when a listed shard is missing.
    """
    if not path.exists():
        raise InputError(f"weights {path}: no such file or folder")
    if path.is_file():
        if path.suffix not in (".safetensors", *_TORCH_SUFFIXES):
            raise InputError(
                f"weights {path}: unknown kind of file; expected .safetensors, .pt, .pth or .bin, or a folder"
            )
        return [path]
    for name in WEIGHT_NAMES:
        if (path / name).is_file():
            return _shards(path / name) if name.endswith(".json") else [path / name]
    found = sorted(file for file in path.iterdir() if file.suffix in (".safetensors", *_TORCH_SUFFIXES))
    safe = [file for file in found if file.suffix == ".safetensors"]
    found = safe or found
    if len(found) != 1:
        what = (
            f"several weight files ({', '.join(file.name for file in found)}); name one" if found else "none"
        )
        raise InputError(f"weights {path}: looked for model.safetensors and found {what}")
    return found


def weights_digest(files: Sequence[Path]) -> str:
    """sha256 (hex) of the files' bytes, one after the other."""
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as stream:
            while piece := stream.read(1 << 22):
                digest.update(piece)
    return digest.hexdigest()


def read_weights(files: Sequence[Path]) -> dict[str, torch.Tensor]:
    """All tensors of the files by name, of any shape and dtype.

    Raises:
        InputError: a file is broken, or holds anything but tensors.
    """
    state: dict[str, Any] = {}
    for file in files:
        state.update(_read_safetensors(file) if file.suffix == ".safetensors" else _read_torch(file))
    if not state:
        raise InputError(f"weights {files[0]}: there are no tensors in it")
    return state


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(parse_json(index.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError):
        raise InputError(f"weights {index}: not an index of weight shards") from None
    files = [index.parent / Path(name).name for name in names]
    for file in files:
        if not file.is_file():
            raise InputError(f"weights {index} lists {file.name}, which is not there")
    return files


def _read_safetensors(file: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except SafetensorError as error:
        raise InputError(f"weights {file}: not a sound safetensors file ({error})") from None


def _read_torch(file: Path) -> dict[str, Any]:
    import pickle

    import torch

    from uml_cache import load_tensors

    try:
        content = load_tensors(file)
    except pickle.UnpicklingError:
        raise InputError(
            f"weights {file}: a pickle that holds more than tensors, so it could run code; nothing in it was "
            "run. Save the state dict alone, best as safetensors"
        ) from None
    except Exception as error:  # torch's reader raises nearly anything on broken bytes
        first = " ".join(str(error).split())[:120]
        raise InputError(f"weights {file}: cannot be read as torch weights ({first})") from None
    for name in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
            break
    if not isinstance(content, dict) or not all(
        isinstance(value, torch.Tensor) for value in content.values()
    ):
        raise InputError(f"weights {file}: expected a state dict (names and tensors), found something else")
    return content
