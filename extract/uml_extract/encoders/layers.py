"""What the encoders of pretrained models check alike: layers and poolings."""

from __future__ import annotations

from uml_cache import InputError
from uml_extract.spec import LAST_LAYER


def checked_layer(name: str, count: int, layer: int) -> int:
    """`layer` counted from 0, or -1 for the last one however it was written; `InputError` outside."""
    if not -count <= layer < count:
        raise InputError(
            f"encoder {name} has layers 0 to {count - 1} (or -1 to -{count}), got --layer {layer}"
        )
    layer %= count
    return LAST_LAYER if layer == count - 1 else layer


def variant_of(layer: int, default: str, pooling: str, transform: str = "own") -> tuple[str, ...]:
    """The names of the choices that differ from the encoder's own."""
    parts = [] if layer == LAST_LAYER else [f"layer{layer}"]
    parts += [] if pooling == default else [pooling]
    parts += [] if transform == "own" else [transform]
    return tuple(parts)
