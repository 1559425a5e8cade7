"""Encoding with a timm model, frozen, and training it.

Shapes: B images, L tokens of an image (P prefix tokens, such as class and registers, first), D features.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from timm.models import group_parameters, save_for_hf

from uml_extract.encoders.vision import VisionEncoder
from uml_extract.spec import LAST_LAYER, EncoderSpec


class TimmEncoder(VisionEncoder):
    """A timm model, frozen.

    Pooled features are the model's `forward()` without its classifier; tokens its `forward_features`. An
    inner layer's tokens are the block's output as it is, without the final norm.
    """

    def __init__(
        self,
        spec: EncoderSpec,
        model: torch.nn.Module,
        transform: Any,
        device: torch.device,
        compute_dtype: str,
        variant: tuple[str, ...],
        own_pooling: bool,
        make: Callable[[], torch.nn.Module],
    ) -> None:
        self._own_pooling = own_pooling
        self._make = make
        self._prefix = int(getattr(model, "num_prefix_tokens", 0))
        size = spec.transform["input_size"]
        super().__init__(spec, model, transform, size, device, compute_dtype, variant)

    def features(self, inputs: torch.Tensor) -> torch.Tensor:
        """Pooled features (B, D) with their gradient, float32 without autocast."""
        return self._with_tokens(inputs)[0]

    def depths(self) -> list[list[str]]:
        """Parameter names by depth: what stands before the blocks, then block by block."""
        groups = group_parameters(self.network, self.network.group_matcher(coarse=False))
        return [groups[depth] for depth in sorted(groups)]

    def fresh(self) -> torch.nn.Module:
        """The network as timm initialises it."""
        return self._make()

    def checkpoint_gradients(self) -> None:
        """Keep a block's input only, and compute the rest again on the way back."""
        self.network.set_grad_checkpointing(True)

    def save(self, folder: Path) -> None:
        """Write a timm checkpoint: `config.json`, `model.safetensors`."""
        save_for_hf(self.network, str(folder), safe_serialization=True)

    def _with_tokens(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pooled features (B, D) and tokens (B, L, D)."""
        features = None
        if self.spec.layer == LAST_LAYER:
            features = self.network.forward_features(images)
            sequence = self._as_tokens(features)
        else:
            sequence = self._inner(images)
        if self._own_pooling and features is not None:
            return self.network.forward_head(features), sequence
        if self.spec.pooling == "cls":
            return sequence[:, 0], sequence
        return sequence[:, self._prefix :].mean(dim=1), sequence

    def _as_tokens(self, features: torch.Tensor) -> torch.Tensor:
        """(B, L, D), from maps of either layout where the model is no transformer."""
        if features.ndim == 4:
            if getattr(self.network, "output_fmt", "NCHW") == "NHWC":
                return features.flatten(1, 2)
            return features.flatten(2).transpose(1, 2)
        return features if features.ndim == 3 else features[:, None]

    def _inner(self, images: torch.Tensor) -> torch.Tensor:
        """(B, L, D), the output of block `spec.layer`."""
        extra = {"return_prefix_tokens": True} if self._prefix else {}
        (found,) = self.network.forward_intermediates(
            images,
            indices=[self.spec.layer],
            stop_early=True,
            output_fmt="NLC",
            intermediates_only=True,
            **extra,
        )
        return torch.cat([found[1], found[0]], dim=1) if isinstance(found, tuple) else found
