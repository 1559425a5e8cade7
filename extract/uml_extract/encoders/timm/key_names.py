"""Checkpoints of EfficientNets that do not carry timm's names for their tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_STEM = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
# A block without an expansion (the first stage) begins with the depthwise convolution; timm counts from it.
_EXPANDING = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
_BLOCK = re.compile(r"_blocks\.(\d+)\.(_\w+)\.(.+)")


def is_efficientnet_pytorch(state: Mapping[str, Any]) -> bool:
    """Whether the tensors are named as in the package efficientnet_pytorch and its like."""
    return "_conv_stem.weight" in state


def timm_names(state: Mapping[str, Any], stages: Sequence[int]) -> dict[str, Any]:
    """The same tensors under timm's names.

    `stages` is the number of blocks of each stage of timm's model: there a block is known by stage and place,
    here by its place alone. Raises `KeyError` for an unknown name or a block too many.
    """
    places = [f"blocks.{stage}.{block}" for stage, count in enumerate(stages) for block in range(count)]
    renamed = {}
    for name, tensor in state.items():
        block = _BLOCK.fullmatch(name)
        if block is None:
            part, _, rest = name.partition(".")
            renamed[f"{_STEM[part]}.{rest}"] = tensor
            continue
        at, part, rest = block.groups()
        if int(at) >= len(places):
            raise KeyError(name)
        parts = (_EXPANDING if f"_blocks.{at}._expand_conv.weight" in state else _PLAIN) | _SQUEEZE
        renamed[f"{places[int(at)]}.{parts[part]}.{rest}"] = tensor
    return renamed
