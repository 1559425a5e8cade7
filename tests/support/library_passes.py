"""What the encoders' libraries compute by themselves, to compare ours with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uml_extract import read_image
from uml_manifests import Manifest


def package_name(name: str, stages: list[int]) -> str:
    """timm's name of a tensor → efficientnet_pytorch's, written from the other side than the product's."""
    block = re.fullmatch(r"blocks\.(\d+)\.(\d+)\.(\w+)\.(.+)", name)
    if block is None:
        part, rest = name.split(".", 1)
        own = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
        return f"{own.get(part, '_fc')}.{rest}"
    stage, at, part, rest = block.groups()
    own = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"}
    own |= {"conv_pwl": "_project_conv", "bn3": "_bn2"}
    if stage == "0":
        own = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    return f"_blocks.{sum(stages[: int(stage)]) + int(at)}.{own[part]}.{rest}"


def timm_model(name: str, weights: Path) -> Any:
    """timm's network without its classifier, with a file's weights under timm's names or the package's."""
    import timm
    import torch
    from safetensors.torch import load_file

    model: Any = timm.create_model(f"tf_{name}", pretrained=False).eval()
    if weights.suffix == ".safetensors":
        model.load_state_dict(load_file(weights))
    else:
        there = torch.load(weights, weights_only=True)
        stages = [len(stage) for stage in model.blocks]
        model.load_state_dict({own: there[package_name(own, stages)] for own in model.state_dict()})
    model.reset_classifier(0)
    return model


def timm_features(model: Any, pictures: Manifest) -> np.ndarray:
    """(4, D) float32: timm's transform and forward pass of the first four pictures."""
    import timm
    import torch

    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    with torch.inference_mode():
        batch = torch.stack([transform(read_image(pictures.path(row))) for row in range(4)])
        return model(batch.contiguous(memory_format=torch.channels_last)).numpy()  # as on a CPU here


def transformers_means(folder: Path, sentences: Sequence[str]) -> np.ndarray:
    """(N, D) float32: means of the last layer's tokens, brought to unit length; one sentence at a time."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        words = [tokenizer(sentence, return_tensors="pt") for sentence in sentences]
        means = torch.cat([model(**inputs).last_hidden_state.mean(1) for inputs in words])
    return torch.nn.functional.normalize(means).numpy()
