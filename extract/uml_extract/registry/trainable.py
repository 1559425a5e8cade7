"""Encoders that can be trained further: the same networks, with gradients, and a way back to a checkpoint.

Shapes: B samples of a batch, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from uml_cache import InputError
from uml_extract.registry.registry import load_with
from uml_extract.spec import Encoder, EncoderOptions, Tuning

if TYPE_CHECKING:
    import torch


@runtime_checkable
class Trainable(Encoder, Protocol):
    """An encoder whose network can be trained. `features` gives what `encode` pools, with its gradient."""

    @property
    def network(self) -> torch.nn.Module:
        """The network itself; loaded frozen and in `eval` mode."""
        ...

    def inputs(self, batch: Sequence[np.ndarray]) -> Any:
        """B prepared samples, of any shape and dtype, as the network takes them: tensors (B, …) on the CPU,
        or tuples and lists of them."""
        ...

    def features(self, inputs: Any) -> torch.Tensor:
        """Pooled features (B, D) of such inputs, which lie where the network does.

        They are float32 without autocast.
        """
        ...

    def depths(self) -> list[list[str]]:
        """Names of the parameters that take part, by depth; the first entry is what stands before the
        layers. What is in no entry takes no part in the features, or was never pretrained."""
        ...

    def loaded(self) -> list[str]:
        """Names in the network's state that came from the weights; the others start anew."""
        ...

    def fresh(self) -> torch.nn.Module:
        """The same network with weights as its library initialises them, from torch's global generator."""
        ...

    def checkpoint_gradients(self) -> None:
        """Trade time for memory: recompute activations on the way back."""
        ...

    def save(self, folder: Path) -> None:
        """Write a checkpoint folder that `load_encoder` takes."""
        ...


def load_trainable(
    name: str,
    *,
    weights: Path | None = None,
    img_size: int | None = None,
    patch_size: int | None = None,
    transform: str = "own",
    untrained: bool = False,
    device: str = "auto",
) -> Trainable:
    """Load an encoder to train it, its weights in float32.

    Args:
        name, weights: as of `load_encoder`; `patches:LANGUAGE_MODEL` is a language model over image patches.
        img_size, patch_size: pixels, for vision networks that take them; None keeps the network's own.
        transform: what samples go through, as of `load_encoder`.
        untrained: load no weights (timm only; others keep theirs until `fresh` is asked for).

    Raises:
        InputError: what `load_encoder` raises; an encoder that has no weights, or cannot be trained here; a
            size that the network does not take.
    """
    tuning = Tuning(img_size=img_size, patch_size=patch_size, untrained=untrained)
    options = EncoderOptions(
        weights=weights, transform=transform, device=device, dtype="float32", tuning=tuning
    )
    encoder = load_with(name, options)
    if not isinstance(encoder, Trainable):
        raise InputError(
            f"encoder {name} cannot be trained; expected a vision network of timm or open_clip, a text or "
            "audio encoder of transformers, or patches:LANGUAGE_MODEL"
        )
    if encoder.spec.modality != "image" and (img_size or patch_size):
        raise InputError(f"encoder {name} takes {encoder.spec.modality}: it has no image size or patch size")
    return encoder
