"""The stacked AdamW update: one pass over all models' vectors, each with its own rate and decay.

Shapes: M models, P parameters of a model. All tensors are float32.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor


def adamw(
    flat: Tensor,
    grad: Tensor,
    moment1: Tensor,
    moment2: Tensor,
    lr: Tensor,
    decay: Tensor,
    correction1: Tensor,
    root_correction2: Tensor,
    unscale: Tensor,
) -> None:
    """One AdamW update of all models (M, P); lr and decay are (M, 1), the corrections scalars."""
    # Loshchilov and Hutter (arXiv 1711.05101), Alg. 2 with beta 0.9 and 0.999: the decay acts on the weights,
    # apart from the gradient; corrections 1 − betaᵗ undo that both moments begin at zero.
    g = grad * unscale
    m1 = moment1 + (g - moment1) * 0.1
    m2 = moment2 * 0.999 + g * g * 0.001
    step = (lr / correction1) * m1 / (m2.sqrt() / root_correction2 + 1e-8)
    flat.copy_(flat * (1.0 - lr * decay) - step)
    moment1.copy_(m1)
    moment2.copy_(m2)


@functools.cache
def compiled_update() -> Callable[..., None]:
    """The update as one fused pass over memory: four vectors read, three written."""
    return torch.compile(adamw, dynamic=True)


def update_for(device: torch.device) -> Callable[..., None]:
    """The update that a device runs: compiled on CUDA, where its pass over memory is what a step costs."""
    return compiled_update() if device.type == "cuda" else adamw
