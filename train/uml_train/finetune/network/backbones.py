"""The network that is trained: where its weights start, which of them are frozen, how it is written.

Shapes: whatever the network has; nothing here looks inside.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from uml_cache import InputError, whole_path
from uml_extract import Trainable
from uml_train.finetune.finetune_settings import Freeze
from uml_train.finetune.samples import torch_seed
from uml_train.heads.weights import seeded

State = dict[str, Tensor]


class Backbone:
    """A trainable encoder and the weights it was loaded with.

    Convolutional networks compute channels-last: on a CPU a ResNet-50, such as CLIP's, was 1.4 times as fast
    so, smaller ones 0.9 to 1.1 times (tests/benchmarks/RESULTS.md).

    Args:
        encoder: its network is changed by training; `start` brings it back.
        kind: `pretrained`, `random` or `shuffled`.
        freeze: so many layers, and what stands before them, or all.
        compiled: whether training steps go through torch.compile.

    Raises:
        InputError: more layers to freeze than there are.
    """

    def __init__(
        self, encoder: Trainable, *, kind: str = "pretrained", freeze: Freeze = 0, compiled: bool = False
    ) -> None:
        self.encoder, self.kind, self.freeze = encoder, kind, freeze
        self.network = encoder.network
        # Of the encoder, which stays, and not of a model's network: cells and candidates share it.
        self._compiled: Callable[[Any], Any] | None = torch.compile(encoder.features) if compiled else None
        convolutions = sum(isinstance(module, nn.Conv2d) for module in self.network.modules())
        self._layout = torch.channels_last if convolutions > 1 else torch.contiguous_format
        self.network.to(memory_format=self._layout)
        self._loaded = {k: v.detach().cpu().clone() for k, v in self.network.state_dict().items()}
        self._depths = encoder.depths()
        self._started: tuple[int, State] | None = None  # the methods of one seed start alike
        layers = len(self._depths) - 1
        if freeze != "all" and freeze > layers:
            raise InputError(f"--freeze is {freeze}; {encoder.spec.name} has {layers} layers (or `all`)")

    def features(self, inputs: Any, *, training: bool) -> Tensor:
        """Pooled features (B, D) of a batch as the encoder's `inputs` gave it; float32 without autocast."""
        if training and self._compiled is not None:
            found: Tensor = self._compiled(inputs)
            return found
        return self.encoder.features(inputs)

    def start(self, seed: int) -> State:
        """The network's state before training.

        What was pretrained starts so, or with the values of each tensor in random order; the rest, and all of
        it for `random`, starts as its library initialises it, by the seed alone.
        """
        names = self.encoder.loaded() if self.kind != "random" else []
        if len(names) == len(self._loaded) and self.kind == "pretrained":
            return dict(self._loaded)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed("fresh", seed))
            state = {k: v.detach().cpu() for k, v in self.encoder.fresh().state_dict().items()}
        for name in names:
            value = self._loaded[name]
            state[name] = _shuffled(value, seed, name) if self.kind == "shuffled" else value
        return state

    def reset(self, seed: int) -> None:
        """Bring the network to its start."""
        if self._started is None or self._started[0] != seed:
            self._started = (seed, self.start(seed))
        self.network.load_state_dict(self._started[1])

    def set_frozen(self, frozen: bool) -> None:
        """Say which parameters are trained: all that take part, but for the frozen layers while `frozen`.

        Modules of which nothing is trained run in `eval` mode, without dropout and with the statistics they
        have; the others in `train` mode.
        """
        used = {name for names in self._depths for name in names} or set()
        held: set[str] = set()
        if frozen and self.freeze:
            depths = self._depths if self.freeze == "all" else self._depths[: int(self.freeze) + 1]
            held = {name for names in depths for name in names}
        new = set(self._loaded) - set(self.encoder.loaded())  # never pretrained, so never frozen
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_((name in used or name in new) and name not in held)
        self.network.train()
        for module in self.network.modules():
            parameters = list(module.parameters())
            if parameters and not any(p.requires_grad for p in parameters):
                module.eval()

    def write(self, state: State, folder: Path) -> None:
        """Write the network with another state as a checkpoint folder; it is whole or not there."""
        own = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.network.load_state_dict(state)
        self.network.to(memory_format=torch.contiguous_format)  # as files of tensors want it
        try:
            with whole_path(folder) as new:
                self.encoder.save(new)
        finally:
            self.network.load_state_dict(own)
            self.network.to(memory_format=self._layout)


def _shuffled(value: Tensor, seed: int, name: str) -> Tensor:
    if value.numel() < 2 or not value.is_floating_point():
        return value
    order = seeded(seed, "shuffled", name).permutation(value.numel())
    return value.flatten()[torch.from_numpy(np.ascontiguousarray(order))].reshape(value.shape)
