"""Dropout whose masks come from a generator that is passed in, and a feed-forward layer that makes it cheap.

Shapes: T tokens, W width, F units of the feed-forward layer. Tensors are float32 without autocast.

On a CPU drawing one float per element costs more than the products of a small network. Here an element takes
16 random bits; the share that is dropped is therefore a multiple of 1/65,536, and the scale goes with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_STEPS = 1 << 16
_ROWS = 128  # so many at once stay in the cache


@dataclass(frozen=True, eq=False)
class Dropout:
    """Drops elements with probability `p` (rounded to 1/65,536) and scales the rest by 1 / (1 − p).

    `source` gives the bits on a CPU. On CUDA the device's own generator is used; who trains seeds it.
    """

    p: float
    source: np.random.Generator | None = None

    @property
    def level(self) -> int:
        """How many of the 65,536 values of an element's bits drop it."""
        return round(self.p * _STEPS)

    @property
    def scale(self) -> float:
        """What kept values are multiplied with."""
        return 1.0 / (1.0 - self.level / _STEPS)

    def kept(self, size: int) -> np.ndarray:
        """(size,) bool: false where an element is dropped."""
        assert self.source is not None
        bits = self.source.bit_generator.random_raw(-(-size // 4)).view(np.int16)[:size]
        return bits >= np.int16(self.level - _STEPS // 2)

    def drop_(self, values: Tensor) -> None:
        """Drop elements of values (T, F) float32 in place, without scaling the rest."""
        for rows in values.split(_ROWS):
            kept = torch.from_numpy(self.kept(rows.numel()).view(np.int8)).view(rows.shape)
            # Bits and all ones, or none: half the time of a masked fill or a product.
            rows.view(torch.int32).bitwise_and_(kept.to(torch.int32).neg_())

    def __call__(self, values: Tensor) -> Tensor:
        """Values of any shape, some of them dropped."""
        if self.level == 0:
            return values
        if self.source is None:
            return functional.dropout(values, self.p)
        kept = torch.from_numpy(self.kept(values.numel())).view(values.shape)
        return values * kept.float().mul_(self.scale)


NO_DROPOUT = Dropout(0.0)


class FeedForward(torch.autograd.Function):
    """down · dropout(relu(up · x)) for x (T, W), on a CPU.

    What was dropped and what the rectifier closed are both zeros of the hidden layer, so it alone is kept for
    the way back, and a single pass over it undoes both.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor, drop: Dropout
    ) -> Tensor:
        """Two linear layers with a ReLU and dropout between them; x (T, W)."""
        hidden = torch.addmm(up_bias, x, up.T).relu_()
        if drop.level:
            drop.drop_(hidden)
        ctx.save_for_backward(x, up, down, hidden)
        ctx.scale = drop.scale
        return torch.addmm(down_bias, hidden, down.T, alpha=drop.scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """The gradients of x (T, W) and of both layers, from that of the output (T, W)."""
        x, up, down, hidden = ctx.saved_tensors
        gradient = gradients[0] * ctx.scale
        of_hidden = torch.ops.aten.threshold_backward(gradient @ down, hidden, 0.0)
        return (
            of_hidden @ up,
            of_hidden.T @ x,
            of_hidden.sum(0),
            gradient.T @ hidden,
            gradients[0].sum(0),
            None,
        )
