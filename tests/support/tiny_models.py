"""Weights for tiny models, the same on every machine."""

from __future__ import annotations

from typing import Any

import numpy as np


def fill(model: Any) -> None:
    """Every floating tensor from Philox, in the order of the names: the same on every machine."""
    import torch

    generator = np.random.Generator(np.random.Philox(7))
    with torch.no_grad():
        for name, tensor in sorted(model.state_dict().items()):
            if tensor.is_floating_point():
                values = generator.standard_normal(tuple(tensor.shape), dtype=np.float32) * np.float32(0.2)
                scale_of_norm = tensor.ndim == 1 and name.endswith("weight")
                values = values + np.float32(scale_of_norm)
                if name.endswith("running_var"):
                    values = np.abs(values) + np.float32(0.5)
                tensor.copy_(torch.as_tensor(values))
