"""A torch network as an encoder: what those of every library have alike."""

from __future__ import annotations

from typing import Any

import torch

from uml_extract.encoding.torch_device import device_name
from uml_extract.spec import EncoderSpec


class NetworkEncoder:
    """A network, frozen and in `eval` mode; `network` is for those who train it further."""

    batch_size = 32
    ragged = False
    input_rate = 0
    input_seconds = 0.0

    def __init__(
        self,
        spec: EncoderSpec,
        network: torch.nn.Module,
        device: torch.device,
        compute_dtype: str,
        variant: tuple[str, ...],
    ) -> None:
        self.network: Any = network.eval().requires_grad_(False).to(device)
        self.spec = spec
        self.variant = variant
        self.compute_dtype = compute_dtype
        self.device = device_name(device)
        self._torch_device = device

    def loaded(self) -> list[str]:
        """All of the state."""
        return list(self.network.state_dict())
