"""Loading a timm model, and encoding with it.

Shapes: B images, L tokens of an image (P prefix tokens, such as class and registers, first), D features.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import timm
import torch
from timm.data import create_transform, resolve_data_config

from uml_cache.errors import InputError, unknown
from uml_extract.hub import hub_model
from uml_extract.spec import LAST_LAYER, Encoded, EncoderOptions, EncoderSpec
from uml_extract.torch_device import device_name, frozen_forward, pick_compute_dtype, pick_device, to_numpy
from uml_extract.weights import read_weights, weight_files, weights_digest

if TYPE_CHECKING:
    from uml_manifests import Manifest

# What the paper's reference code does to the images of every vision encoder (FACTS: CLIP's mean and std).
_PAPER: dict[str, Any] = {
    "input_size": (3, 224, 224),
    "interpolation": "bicubic",
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
    "crop_pct": 1.0,
    "crop_mode": "center",
}
_POOL_NAMES = {"token": "cls", "avg": "mean"}


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
    ) -> None:
        self._model: Any = model.eval().requires_grad_(False).to(device)
        self._transform = transform
        self._torch_device = device
        self._own_pooling = own_pooling
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
        images = torch.from_numpy(np.stack(batch)).to(self._torch_device, non_blocking=True)
        with frozen_forward(self._torch_device, self.compute_dtype):
            if self.spec.layer == LAST_LAYER:
                features = self._model.forward_features(images)
                sequence = self._as_tokens(features)
            else:
                features = None
                sequence = self._inner(images)
            if self._own_pooling and features is not None:
                pooled = self._model.forward_head(features)
            elif self.spec.pooling == "cls":
                pooled = sequence[:, 0]
            else:
                pooled = sequence[:, self._prefix :].mean(dim=1)
        if not tokens:
            return Encoded(to_numpy(pooled))
        lengths = np.full(len(batch), sequence.shape[1], dtype=np.int32)
        return Encoded(to_numpy(pooled), to_numpy(sequence.flatten(0, 1)), lengths)

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


def load_timm(spec: EncoderSpec, rest: str, options: EncoderOptions) -> TimmEncoder:
    """Load a short name, a timm id, a repository of the hub (`org/name`) or a local folder."""
    device = pick_device(options.device)
    folder, source, revision = _locate(spec, rest, options)
    files = weight_files(options.weights or source)
    digest = weights_digest(files)
    size: dict[str, Any] = {}
    if options.transform == "paper":
        size = {"img_size": 224}
    elif "input_size" in spec.transform:
        size = {"img_size": spec.transform["input_size"][1]}
    architecture = f"local-dir:{folder}" if folder else spec.model
    model = _create(spec.name, architecture, read_weights(files), files[0], size)
    config = (
        dict(_PAPER) if options.transform == "paper" else resolve_data_config(args=dict(size), model=model)
    )
    layer = _checked_layer(spec.name, model, options.layer)
    default, pooling = _checked_pooling(spec.name, model, options.pooling, layer)
    variant = [] if layer == LAST_LAYER else [f"layer{layer}"]
    variant += [] if pooling == default else [pooling]
    variant += [] if options.transform == "own" else [options.transform]
    own = layer == LAST_LAYER and pooling == default
    licence = getattr(model, "pretrained_cfg", {}).get("license")
    loaded = replace(
        spec,
        revision=revision,
        weights_digest=digest,
        pooling=pooling,
        layer=layer,
        transform={"preset": options.transform, **_as_json(config)},
        licence=spec.licence or licence,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )
    transform = create_transform(**config, is_training=False)
    dtype = pick_compute_dtype(device, options.dtype)
    return TimmEncoder(loaded, model, transform, device, dtype, tuple(variant), own)


def _locate(spec: EncoderSpec, rest: str, options: EncoderOptions) -> tuple[Path | None, Path, str | None]:
    """(folder with the model's config.json, where it has one; where the weights lie; the hub's commit)."""
    if Path(rest).is_absolute():
        return Path(rest), Path(rest), None
    if "/" in rest:
        found = hub_model(spec.name, rest, weights=options.weights is None)
        return found.folder, found.folder, found.revision if options.weights is None else None
    try:
        known = timm.is_model(spec.model)
        config = timm.get_pretrained_cfg(spec.model) if known else None
    except RuntimeError:
        config = None
    if config is None:
        raise unknown("timm model", spec.model, timm.list_pretrained())
    if options.weights is not None:
        return None, options.weights, None
    if not config.hf_hub_id:
        raise InputError(f"encoder {spec.name}: timm has no weights for it; give them with `--weights PATH`")
    repository = config.hf_hub_id if "/" in config.hf_hub_id else f"{config.hf_hub_id}{spec.model}"
    found = hub_model(spec.name, repository, config=None)
    return None, found.folder, found.revision


class _Missing(logging.Handler):
    """Hears of tensors that timm did not find: without a classifier it is not strict, and only logs them."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.said = ""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message.startswith("Missing keys"):
            self.said = message.split(" discovered")[0]


def _create(
    name: str, architecture: str, state: Mapping[str, torch.Tensor], file: Path, size: Mapping[str, Any]
) -> torch.nn.Module:
    """The model without its classifier, every tensor taken from `state`; `InputError` if they do not fit."""
    log = logging.getLogger("timm.models._builder")
    heard, level = _Missing(), log.level
    log.addHandler(heard)
    log.setLevel(logging.INFO)
    propagate, log.propagate = log.propagate, False
    try:
        make: dict[str, Any] = {"pretrained": True, "num_classes": 0}
        overlay = {"state_dict": dict(state), "source": "", "custom_load": False}
        try:
            model = timm.create_model(architecture, pretrained_cfg_overlay=overlay, **make, **size)
        except TypeError:  # a convolutional network has no image size
            model = timm.create_model(architecture, pretrained_cfg_overlay=overlay, **make)
    except (RuntimeError, KeyError, ValueError, AttributeError) as error:
        first = " ".join(str(error).split())[:200]
        raise InputError(f"encoder {name}: weights {file} do not fit the model ({first})") from None
    finally:
        log.removeHandler(heard)
        log.setLevel(level)
        log.propagate = propagate
    if heard.said:
        raise InputError(f"encoder {name}: weights {file} do not fit the model ({heard.said[:200]})")
    return model


def _checked_layer(name: str, model: Any, layer: int) -> int:
    """`layer` counted from 0, or -1 for the last one however it was written."""
    if layer == LAST_LAYER:
        return layer
    if not hasattr(model, "forward_intermediates"):
        raise InputError(f"encoder {name} gives no inner layers; leave --layer out")
    count = len(model.blocks) if hasattr(model, "blocks") else len(model.feature_info)
    if not -count <= layer < count:
        raise InputError(
            f"encoder {name} has layers 0 to {count - 1} (or -1 to -{count}), got --layer {layer}"
        )
    layer %= count
    return LAST_LAYER if layer == count - 1 else layer


def _checked_pooling(name: str, model: torch.nn.Module, asked: str | None, layer: int) -> tuple[str, str]:
    """(the model's own pooling, the one to use). At an inner layer attention pooling becomes the mean."""
    own = str(getattr(model, "global_pool", "") or "own")
    own = _POOL_NAMES.get(own, own)
    has_class = getattr(model, "cls_token", None) is not None
    if layer != LAST_LAYER and own not in ("cls", "mean"):
        own = "cls" if has_class else "mean"
    pooling = asked or own
    if pooling == "last":
        raise InputError(f"encoder {name}: --pooling last is for texts; use cls or mean")
    if pooling == "cls" and own != "cls" and not has_class:
        raise InputError(f"encoder {name} has no class token; use --pooling mean")
    return own, pooling


def _as_json(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in config.items()}
