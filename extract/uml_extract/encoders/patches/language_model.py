"""Loading and writing a language model that sees (`patches_network`).

A folder of one holds `config.json` (the language model's configuration under `language`, sizes) and
`model.safetensors`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from timm.data import create_transform
from transformers import AutoConfig

from uml_cache import InputError
from uml_extract.encoders.foreign import read_settings
from uml_extract.encoders.hub import hub_model
from uml_extract.encoders.patches.seeing_network import LanguagePatches, language_state
from uml_extract.encoders.pretrained import load_model, read_config
from uml_extract.encoders.timm.vision_model import TimmEncoder
from uml_extract.encoders.weights import read_weights, weight_files, weights_digest
from uml_extract.encoding.torch_device import pick_compute_dtype, pick_device
from uml_extract.registry.registry import list_encoders
from uml_extract.spec import LAST_LAYER, EncoderOptions, EncoderSpec, Tuning

_SIZE, _PATCH = 224, 16
_TRANSFORM: dict[str, Any] = {
    "interpolation": "bicubic",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "crop_pct": 1.0,
    "crop_mode": "center",
}


class PatchesEncoder(TimmEncoder):
    """A `LanguagePatches` network. Only the language model's layers were pretrained."""

    whole = False  # whether the weights held the rest of the network too

    def depths(self) -> list[list[str]]:
        """Parameter names layer by layer. What stands around the layers is among them only where it came
        from the weights; before a first training it is new."""
        names = [name for name, _ in self.network.named_parameters()]
        count = len(self.network.layers)
        layers = [[n for n in names if n.startswith(f"layers.{i}.")] for i in range(count)]
        layers[-1] += [n for n in names if n.startswith("norm.")]
        if not self.whole:
            return [[], *layers]
        around = [n for n in names if not n.startswith(("layers.", "norm."))]
        layers[-1] += [n for n in around if n.startswith("hidden.")]
        return [[n for n in around if not n.startswith("hidden.")], *layers]

    def loaded(self) -> list[str]:
        """The language model's layers, or all of the state of a network that was fine-tuned."""
        names = self.network.state_dict()
        return [name for name in names if self.whole or name.startswith(("layers.", "norm."))]

    def save(self, folder: Path) -> None:
        """Write a folder that `load_encoder` takes."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: value.contiguous() for name, value in self.network.state_dict().items()}
        save_file(state, folder / "model.safetensors", {"format": "pt"})
        config = {
            "language": self.network.config.to_diff_dict() | {"model_type": self.network.config.model_type},
            "img_size": self.network.img_size,
            "patch_size": self.network.patch_size,
        }
        (folder / "config.json").write_text(json.dumps(config, indent=1))


def load_patches(spec: EncoderSpec, rest: str, options: EncoderOptions) -> PatchesEncoder:
    """Load a fine-tuned folder, or, to train it, a language model's layers behind new patches.

    Raises:
        InputError: the weights do not fit, an option means nothing here, or nothing was trained yet.
    """
    if options.layer != LAST_LAYER or options.transform != "own" or options.pooling not in (None, "cls"):
        raise InputError(f"encoder {spec.name} has no --layer, --transform or --pooling; leave them out")
    tuning = options.tuning or Tuning()
    folder, revision = _folder(spec, rest)
    files = weight_files(options.weights or folder)
    written = read_settings(spec.name, folder / "config.json")
    whole = "language" in written
    if whole:
        if tuning.img_size or tuning.patch_size:
            raise InputError(f"encoder {spec.name} was tuned at its size; leave --img-size, --patch-size out")
        config = AutoConfig.for_model(**written["language"])
        sizes = {"img_size": int(written["img_size"]), "patch_size": int(written["patch_size"])}
    else:
        if options.tuning is None:
            raise InputError(
                f"encoder {spec.name} has not seen an image yet: train it with `uml train --finetune "
                f"patches:{rest}`, and extract with the folder that this writes"
            )
        config = read_config(spec.name, folder)
        sizes = {"img_size": tuning.img_size or _SIZE, "patch_size": tuning.patch_size or _PATCH}

    def make() -> LanguagePatches:
        return LanguagePatches(config, **sizes)

    model = make()
    state = read_weights(files) if whole else _language(spec.name, config, files)
    try:
        missing, unexpected = model.load_state_dict(state, strict=whole)
    except RuntimeError as error:
        first = " ".join(str(error).split())[:200]
        raise InputError(f"encoder {spec.name}: weights {files[0]} do not fit the model ({first})") from None
    left = [name for name in missing if name.startswith(("layers.", "norm."))]
    if left or unexpected:
        raise InputError(f"encoder {spec.name}: weights {files[0]} lack {[*left, *unexpected][0]}")
    device = pick_device(options.device)
    transform = {"input_size": [3, sizes["img_size"], sizes["img_size"]], **_TRANSFORM}
    loaded = replace(
        spec,
        revision=revision,
        weights_digest=weights_digest(files),
        pooling="cls",
        transform={k: list(v) if isinstance(v, tuple) else v for k, v in transform.items()},
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )
    steps = create_transform(**{**transform, "input_size": tuple(transform["input_size"])}, is_training=False)
    dtype = pick_compute_dtype(device, options.dtype)
    encoder = PatchesEncoder(loaded, model, steps, device, dtype, (), True, make)
    encoder.whole = whole
    return encoder


def _language(name: str, config: Any, files: list[Path]) -> dict[str, torch.Tensor]:
    return language_state(load_model(name, config, files, torch.float32), config.model_type)


def _folder(spec: EncoderSpec, rest: str) -> tuple[Path, str | None]:
    """Where the model lies, and its commit: a folder, a text encoder's short name, or `hf:ID`."""
    if Path(rest).is_absolute():
        return Path(rest), None
    known = list_encoders()
    repository = known[rest].spec.model if rest in known else rest.removeprefix("hf:")
    found = hub_model(spec.name, repository)
    return found.folder, found.revision
