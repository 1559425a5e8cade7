"""A trained network as one safetensors file: weights, how its tokens are standardised, how it came about."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from uml_cache import InputError
from uml_train.pretrain.sequences import Sequences
from uml_train.pretrain.shared_transformer import SharedTransformer, TransformerConfig

FORMAT = 1


@dataclass(frozen=True, eq=False)
class SavedNetwork:
    """A network read back. `moments` holds (mean, scale) of the modalities whose tokens are standardised."""

    model: SharedTransformer
    moments: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
    about: dict[str, Any]

    def mapped(self, source: Sequences) -> Sequences:
        """Sequences of a modality as the network saw them in training."""
        mean, scale = self.moments.get(source.label, (None, None))
        return replace(source, mean=mean, scale=scale)


def network_file(
    model: SharedTransformer, streams: Sequence[Sequences], classes: int, about: Mapping[str, Any]
) -> bytes:
    """The bytes of a network's file; equal networks give equal bytes."""
    from safetensors.torch import save

    tensors = {f"model.{name}": value.cpu() for name, value in model.state_dict().items()}
    for stream in streams:
        if stream.mean is not None and stream.scale is not None:
            tensors[f"mean.{stream.label}"], tensors[f"scale.{stream.label}"] = stream.mean, stream.scale
    config = {
        "format": FORMAT,
        "network": asdict(model.config),
        "dims": model.dims,
        "discrete": model.discrete,
        "outputs": classes,
        **about,
    }
    # One entry, because safetensors writes several in no fixed order.
    metadata = {"uml_network": json.dumps(config, ensure_ascii=False)}
    return save({k: v.contiguous() for k, v in tensors.items()}, metadata)


def load_network(path: Path) -> SavedNetwork:
    """Open a network's file. Raises `InputError` where there is none, or something else."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    if not path.is_file():
        raise InputError(f"{path} is no file; the networks of a run are in its folder `heads`")
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})["uml_network"])
        tensors = load_file(path)
        if about["format"] != FORMAT:
            raise InputError(f"{path} has network format {about['format']}; this version reads {FORMAT}")
        model = SharedTransformer(
            TransformerConfig(**about["network"]),
            about["dims"],
            classes=about["outputs"],
            discrete=about["discrete"],
        )
        model.load_state_dict(
            {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
        )
        moments = {
            m: (tensors[f"mean.{m}"], tensors[f"scale.{m}"]) for m in about["dims"] if f"mean.{m}" in tensors
        }
        return SavedNetwork(model.eval(), moments, about)
    except (SafetensorError, KeyError, TypeError, RuntimeError, json.JSONDecodeError) as error:
        what = str(error).splitlines()[0]
        raise InputError(f"{path} is no network of `uml train --objective ssl` ({what})") from None
