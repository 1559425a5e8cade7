"""Loading a timm model: where it lies, its weights, its size, how it pools."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import create_transform, resolve_data_config

from uml_cache import InputError, unknown
from uml_extract.encoders.foreign import read_settings
from uml_extract.encoders.hub import hub_model
from uml_extract.encoders.timm.key_names import is_efficientnet_pytorch, timm_names
from uml_extract.encoders.timm.vision_model import TimmEncoder
from uml_extract.encoders.weights import read_weights, weight_files, weights_digest
from uml_extract.encoding.torch_device import pick_compute_dtype, pick_device
from uml_extract.spec import LAST_LAYER, EncoderOptions, EncoderSpec, Tuning

# What the paper's reference code does to the images of every vision encoder (CLIP's mean and std).
_PAPER: dict[str, Any] = {
    "input_size": (3, 224, 224),
    "interpolation": "bicubic",
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
    "crop_pct": 1.0,
    "crop_mode": "center",
}
_POOL_NAMES = {"token": "cls", "avg": "mean"}


def load_timm(spec: EncoderSpec, rest: str, options: EncoderOptions) -> TimmEncoder:
    """Load a short name, a timm id, a repository of the hub (`org/name`) or a local folder."""
    device = pick_device(options.device)
    tuning = options.tuning or Tuning()
    folder, source, revision = _locate(spec, rest, options)
    files = weight_files(options.weights or source) if source and not tuning.untrained else []
    size: dict[str, Any] = {}
    if tuning.img_size:
        size = {"img_size": tuning.img_size}
    elif options.transform == "paper":
        size = {"img_size": 224}
    elif "input_size" in spec.transform:
        size = {"img_size": spec.transform["input_size"][1]}
    shape = {**size, **({"patch_size": tuning.patch_size} if tuning.patch_size else {})}
    if folder:
        read_settings(spec.name, folder / "config.json")
    architecture = f"local-dir:{folder}" if folder else spec.model

    def make(**arguments: Any) -> torch.nn.Module:
        try:
            return timm.create_model(architecture, num_classes=0, **shape, **arguments)
        except TypeError:  # a convolutional network has no image size
            if tuning.patch_size:
                raise InputError(f"encoder {spec.name} has no patches; leave --patch-size out") from None
            return timm.create_model(architecture, num_classes=0, **arguments)

    model = _create(spec.name, make, _named(make, files), files[0]) if files else _untrained(spec.name, make)
    config = (
        dict(_PAPER) if options.transform == "paper" else resolve_data_config(args=dict(size), model=model)
    )
    if tuning.img_size:
        config["input_size"] = (3, tuning.img_size, tuning.img_size)
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
        weights_digest=weights_digest(files) if files else None,
        pooling=pooling,
        layer=layer,
        transform={"preset": options.transform, **_as_json(config)},
        licence=spec.licence or licence,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )
    transform = create_transform(**config, is_training=False)
    dtype = pick_compute_dtype(device, options.dtype)
    return TimmEncoder(loaded, model, transform, device, dtype, tuple(variant), own, make)


def _locate(
    spec: EncoderSpec, rest: str, options: EncoderOptions
) -> tuple[Path | None, Path | None, str | None]:
    """(folder with the model's config.json, where it has one; where the weights lie; the hub's commit).

    Of a network that takes no weights the first is all that matters.
    """
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
    if options.weights is not None or (options.tuning and options.tuning.untrained):
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


def _untrained(name: str, make: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    try:
        return make()
    except InputError:
        raise
    except (RuntimeError, ValueError, AssertionError) as error:
        first = " ".join(str(error).split())[:200]
        raise InputError(f"encoder {name}: cannot be made at this size ({first})") from None


def _named(make: Callable[..., torch.nn.Module], files: Sequence[Path]) -> dict[str, torch.Tensor]:
    """The tensors of the files under timm's names."""
    state = read_weights(files)
    if not is_efficientnet_pytorch(state):
        return state
    with torch.device("meta"):  # only the number of blocks is wanted: no memory, no initialisation
        blocks: Any = make().blocks
    try:
        return timm_names(state, [len(stage) for stage in blocks])
    except KeyError as error:
        raise InputError(f"weights {files[0]}: {error} is no tensor of this EfficientNet") from None


def _create(
    name: str, make: Callable[..., torch.nn.Module], state: Mapping[str, torch.Tensor], file: Path
) -> torch.nn.Module:
    """The model without its classifier, every tensor taken from `state`; `InputError` if they do not fit."""
    log = logging.getLogger("timm.models._builder")
    heard, level = _Missing(), log.level
    log.addHandler(heard)
    log.setLevel(logging.INFO)
    propagate, log.propagate = log.propagate, False
    try:
        overlay = {"state_dict": dict(state), "source": "", "custom_load": False}
        model = make(pretrained=True, pretrained_cfg_overlay=overlay)
    except InputError:
        raise
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
