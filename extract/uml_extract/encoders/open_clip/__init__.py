"""Both towers of the models of the open_clip library."""

from __future__ import annotations

WEIGHT_NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
