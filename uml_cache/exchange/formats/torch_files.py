"""torch's files, read as tensors and plain containers: no code, no memory beyond what the file holds."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from uml_cache.errors import InputError
from uml_cache.files.promises import check_memory

_SMALL = 1 << 26  # bytes; a tensor that repeats its values may be that large


def load_tensors(file: Any) -> Any:
    """`torch.load` of tensors only, on the CPU; sparse ones are checked, since their indices are addresses.

    Raises what torch raises: `pickle.UnpicklingError` for anything else in the file, nearly any error for a
    broken one.
    """
    import torch

    with warnings.catch_warnings(), torch.sparse.check_sparse_tensor_invariants():
        warnings.simplefilter("ignore")  # of other pickle protocols; whether it can be read is what counts
        return torch.load(file, map_location="cpu", weights_only=True)


def read_torch(path: Path) -> dict[Any, Any]:
    """The mapping in a .pth file, tensors as numpy arrays; `InputError` for anything else in it."""
    import pickle

    import torch

    try:
        content = load_tensors(path)
    except pickle.UnpicklingError:
        raise InputError(
            f"{path}: is broken, or holds more than tensors, numbers, strings and containers of them; such "
            "pickles can run code and are not loaded (save features, labels and paths as tensors and lists)"
        ) from None
    if isinstance(content, torch.Tensor):
        content = {"features": content}
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}; expected a mapping with features")
    return as_numpy(content, str(path))


def as_numpy(value: Any, where: str) -> Any:
    """Tensors as arrays, also inside mappings; `InputError` for one that is larger than its values."""
    import torch

    if isinstance(value, torch.Tensor):
        size = value.numel() * value.element_size()
        if value.layout != torch.strided:
            check_memory(where, 2 * size)
            value = value.to_dense()
        elif size > max(_SMALL, value.untyped_storage().nbytes()):
            raise InputError(f"{where}: a tensor {tuple(value.shape)} is larger than the values that it has")
        value = value.detach()
        return (value.float() if value.dtype == torch.bfloat16 else value).contiguous().numpy()
    if isinstance(value, dict):
        return {key: as_numpy(one, where) for key, one in value.items()}
    return value
