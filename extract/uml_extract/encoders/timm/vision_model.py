"""Encoding with a timm model, frozen, and training it.

Shapes: B images, L tokens of an image (P prefix tokens, such as class and registers, first), D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from timm.models import group_parameters, save_for_hf

from uml_extract.spec import LAST_LAYER, Encoded, EncoderSpec
from uml_extract.torch_device import device_name, frozen_forward, to_numpy

if TYPE_CHECKING:
    from uml_manifests import Manifest


class TimmEncoder:
    """A timm model, frozen.

    Pooled features are the model's `forward()` without its classifier; tokens its `forward_features`. An
    inner layer's tokens are the block's output as it is, without the final norm.
    """

    batch_size = 32
    ragged = False
    input_rate = 0
    input_seconds = 0.0

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
        self._model: Any = model.eval().requires_grad_(False).to(device)
        self._transform = transform
        self._torch_device = device
        self._own_pooling = own_pooling
        self._make = make
        self._prefix = int(getattr(model, "num_prefix_tokens", 0))
        self.compute_dtype = compute_dtype
        self.device = device_name(device)
        self.variant = variant
        self.spec = spec
        # One empty picture tells the widths for certain; models describe them in too many ways.
        probe = self.encode([np.zeros(tuple(spec.transform["input_size"]), dtype=np.float32)], tokens=True)
        assert probe.tokens is not None
        self._length = len(probe.tokens)
        self.spec = replace(spec, width=probe.pooled.shape[1], token_width=probe.tokens.shape[1])

    def prepare(self, sample: Any) -> np.ndarray:
        """RGB PIL image → (3, H, W) float32."""
        return self._transform(sample).numpy()

    def token_counts(self, manifest: Manifest) -> np.ndarray:
        """The same number for every image."""
        return np.full(len(manifest), self._length, dtype=np.int32)

    def encode(self, batch: Sequence[np.ndarray], *, tokens: bool = False) -> Encoded:
        """Encode (3, H, W) images."""
        images = self.inputs(batch).to(self._torch_device, non_blocking=True)
        with frozen_forward(self._torch_device, self.compute_dtype):
            pooled, sequence = self._forward(images)
        if not tokens:
            return Encoded(to_numpy(pooled))
        lengths = np.full(len(batch), sequence.shape[1], dtype=np.int32)
        return Encoded(to_numpy(pooled), to_numpy(sequence.flatten(0, 1)), lengths)

    @property
    def network(self) -> torch.nn.Module:
        """The model itself."""
        return self._model

    def inputs(self, batch: Sequence[np.ndarray]) -> torch.Tensor:
        """Images (B, 3, H, W) float32."""
        return torch.from_numpy(np.stack(batch))

    def features(self, inputs: torch.Tensor) -> torch.Tensor:
        """Pooled features (B, D) with their gradient."""
        return self._forward(inputs)[0]

    def depths(self) -> list[list[str]]:
        """Parameter names by depth: what stands before the blocks, then block by block."""
        groups = group_parameters(self._model, self._model.group_matcher(coarse=False))
        return [groups[depth] for depth in sorted(groups)]

    def loaded(self) -> list[str]:
        """All of the state."""
        return list(self._model.state_dict())

    def fresh(self) -> torch.nn.Module:
        """The network as timm initialises it."""
        return self._make()

    def checkpoint_gradients(self) -> None:
        """Keep a block's input only, and compute the rest again on the way back."""
        self._model.set_grad_checkpointing(True)

    def save(self, folder: Path) -> None:
        """Write a timm checkpoint: `config.json`, `model.safetensors`."""
        save_for_hf(self._model, str(folder), safe_serialization=True)

    def _forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pooled features (B, D) and tokens (B, L, D)."""
        features = None
        if self.spec.layer == LAST_LAYER:
            features = self._model.forward_features(images)
            sequence = self._as_tokens(features)
        else:
            sequence = self._inner(images)
        if self._own_pooling and features is not None:
            return self._model.forward_head(features), sequence
        if self.spec.pooling == "cls":
            return sequence[:, 0], sequence
        return sequence[:, self._prefix :].mean(dim=1), sequence

    def _as_tokens(self, features: torch.Tensor) -> torch.Tensor:
        """(B, L, D), from maps of either layout where the model is no transformer."""
        if features.ndim == 4:
            if getattr(self._model, "output_fmt", "NCHW") == "NHWC":
                return features.flatten(1, 2)
            return features.flatten(2).transpose(1, 2)
        return features if features.ndim == 3 else features[:, None]

    def _inner(self, images: torch.Tensor) -> torch.Tensor:
        """(B, L, D), the output of block `spec.layer`."""
        extra = {"return_prefix_tokens": True} if self._prefix else {}
        (found,) = self._model.forward_intermediates(
            images,
            indices=[self.spec.layer],
            stop_early=True,
            output_fmt="NLC",
            intermediates_only=True,
            **extra,
        )
        return torch.cat([found[1], found[0]], dim=1) if isinstance(found, tuple) else found
