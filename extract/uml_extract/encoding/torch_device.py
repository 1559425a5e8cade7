"""Where a torch encoder computes, and in which precision."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

from uml_cache import InputError

if TYPE_CHECKING:
    import torch


def pick_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one, else the CPU. `InputError` for a device that is not there."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"unknown device {name!r}; expected auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device {name!r} is not supported; expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {name!r} is not there: torch sees {torch.cuda.device_count()} CUDA devices")
    return device


def pick_compute_dtype(device: torch.device, stored: str) -> str:
    """float32 on a CPU and for float32 features; on CUDA bfloat16, or float16 where that is not supported."""
    import torch

    if device.type == "cpu" or stored == "float32":
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


@contextlib.contextmanager
def frozen_forward(device: torch.device, compute_dtype: str) -> Any:
    """No gradients, and autocast to `compute_dtype` unless that is float32."""
    import torch

    with torch.inference_mode():
        if compute_dtype == "float32":
            yield
        else:
            with torch.autocast(device.type, dtype=getattr(torch, compute_dtype)):
                yield


def device_name(device: torch.device) -> str:
    """`cpu`, or the CUDA device's product name."""
    import torch

    return "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)


def to_numpy(values: torch.Tensor) -> np.ndarray:
    """Values of any shape as float32, contiguous, on the CPU."""
    return values.float().cpu().contiguous().numpy()
