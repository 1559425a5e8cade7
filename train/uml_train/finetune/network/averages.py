"""A running average of a network's weights, which is evaluated and kept in their place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from uml_train.finetune.network.backbones import State


class Average:
    """average ← d · average + (1 − d) · weights after every step, from the weights at the start on.

    d is min(decay, (1 + n) / (10 + n)) at step n, so that a short training is not mostly its own start.
    Buffers of numbers, such as the statistics of batch norms, are averaged; those that count are copied.

    Args:
        decay: between 0 and 1.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._network, self._decay = network, decay
        self.values = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def load(self, values: State) -> None:
        """Go on from saved values."""
        for name, value in self.values.items():
            value.copy_(values[name])

    def update(self, step: int) -> None:
        """Take in the weights after a step, counted from 0."""
        share = 1.0 - min(self._decay, (1 + step) / (10 + step))
        for name, value in self._state().items():
            if value.is_floating_point():
                self.values[name].lerp_(value, share)
            else:
                self.values[name].copy_(value)

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """The network with the averaged weights, for a while."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        with torch.no_grad():
            for name, value in self._state().items():
                own = value.clone()
                value.copy_(self.values[name])
                self.values[name].copy_(own)

    def _state(self) -> dict[str, Tensor]:
        return {name: value.detach() for name, value in self._network.state_dict().items()}
