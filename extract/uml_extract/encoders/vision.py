"""What the image encoders of timm and of open_clip share: pictures in, vectors and tokens out.

Shapes: B images, L tokens of an image, D features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from uml_extract.encoders.network import NetworkEncoder
from uml_extract.encoding.torch_device import frozen_forward, to_numpy
from uml_extract.spec import Encoded, EncoderSpec

if TYPE_CHECKING:
    from uml_manifests import Manifest


_CONVOLUTIONS_ON_A_CPU = 8
"""Pictures at a time: the maps of more do not stay in the processor's cache, nor in memory that it reuses."""


class VisionEncoder(NetworkEncoder, ABC):
    """A network of images.

    Args:
        transform: RGB PIL image → (3, H, W) float32 tensor.
        size: (3, H, W).
    """

    def __init__(
        self,
        spec: EncoderSpec,
        network: torch.nn.Module,
        transform: Callable[[Any], torch.Tensor],
        size: Sequence[int],
        device: torch.device,
        compute_dtype: str,
        variant: tuple[str, ...],
    ) -> None:
        super().__init__(spec, network, device, compute_dtype, variant)
        self._transform = transform
        # Convolutions on a processor take half the time where the channels of a pixel lie side by side.
        convolutions = sum(isinstance(layer, torch.nn.Conv2d) for layer in network.modules())
        self._channels_last = device.type == "cpu" and convolutions > 1
        if self._channels_last:
            self.batch_size = _CONVOLUTIONS_ON_A_CPU
        # One empty picture tells the widths for certain; models describe them in too many ways.
        probe = self.encode([np.zeros(tuple(size), dtype=np.float32)], tokens=True)
        assert probe.tokens is not None
        self._length = len(probe.tokens)
        self.spec = replace(spec, width=probe.pooled.shape[1], token_width=probe.tokens.shape[1])

    @abstractmethod
    def features(self, inputs: torch.Tensor) -> torch.Tensor:
        """Pooled features (B, D) of images (B, 3, H, W) float32, with their gradient.

        They are float32 without autocast.
        """

    @abstractmethod
    def _with_tokens(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pooled features (B, D), and tokens (B, L, W)."""

    def prepare(self, sample: Any) -> np.ndarray:
        """RGB PIL image → (3, H, W) float32."""
        return self._transform(sample).numpy()

    def token_counts(self, manifest: Manifest) -> np.ndarray:
        """(N,) int32: the same number for every image."""
        return np.full(len(manifest), self._length, dtype=np.int32)

    def encode(self, batch: Sequence[np.ndarray], *, tokens: bool = False) -> Encoded:
        """Encode (3, H, W) float32 images."""
        images = self.inputs(batch).to(self._torch_device, non_blocking=True)
        if self._channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with frozen_forward(self._torch_device, self.compute_dtype):
            if not tokens:
                return Encoded(to_numpy(self.features(images)))
            pooled, sequence = self._with_tokens(images)
        lengths = np.full(len(batch), sequence.shape[1], dtype=np.int32)
        return Encoded(to_numpy(pooled), to_numpy(sequence.flatten(0, 1)), lengths)

    def inputs(self, batch: Sequence[np.ndarray]) -> torch.Tensor:
        """Images (B, 3, H, W) float32."""
        return torch.from_numpy(np.stack(batch))
