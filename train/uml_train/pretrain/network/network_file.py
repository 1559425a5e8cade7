"""A trained network as one safetensors file: weights, how its tokens are standardised, how it came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from uml_cache import InputError
from uml_train.pretrain.network.sequences import Sequences
from uml_train.pretrain.network.shared_transformer import SharedTransformer, TransformerConfig
from uml_train.record.tensors import read_tensor_file, tensor_file

_KEY = "uml_network"  # of the metadata in the file


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
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for stream in streams:
        if stream.mean is not None and stream.scale is not None:
            tensors[f"mean.{stream.label}"], tensors[f"scale.{stream.label}"] = stream.mean, stream.scale
    config = {
        "network": asdict(model.config),
        "dims": model.dims,
        "discrete": model.discrete,
        "outputs": classes,
        **about,
    }
    return tensor_file(tensors, _KEY, config)


def load_network(path: Path) -> SavedNetwork:
    """Open a network's file. Raises `InputError` where there is none, something else, or a damaged one."""
    if not path.is_file():
        raise InputError(f"{path} is no file; the networks of a run are in its folder `heads`")
    what = "network of `uml train --objective ssl`"
    arrays, about = read_tensor_file(path, _KEY, what)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    try:
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
    except (KeyError, TypeError, RuntimeError) as error:
        raise InputError(f"{path} is no {what} ({str(error).splitlines()[0]})") from None
