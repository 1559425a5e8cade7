"""Loading an open_clip model's image or text tower, and encoding with it.

Shapes: B samples, L tokens of a picture (class token first), C the text tower's context length, W a tower's
own width, D the width of the joint space.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import torch
from open_clip.pretrained import get_pretrained_cfg
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict

from uml_cache.errors import InputError, unknown
from uml_extract.encoders.layers import checked_layer, variant_of
from uml_extract.encoders.open_clip_text import OwnTokens, load_own_tokens
from uml_extract.encoders.open_clip_towers import WEIGHT_NAMES
from uml_extract.hub import hub_model
from uml_extract.spec import LAST_LAYER, Encoded, EncoderOptions, EncoderSpec, SampleError
from uml_extract.torch_device import device_name, frozen_forward, pick_compute_dtype, pick_device, to_numpy
from uml_extract.weights import weight_files, weights_digest

if TYPE_CHECKING:
    from uml_manifests import Manifest

_CONFIG = "open_clip_config.json"
_HUB = "hf-hub:"


class _Tower:
    """What both towers share. Pooled features of the last layer are the model's own, in the joint space."""

    batch_size = 32
    ragged = False
    input_rate = 0
    input_seconds = 0.0

    def __init__(
        self, spec: EncoderSpec, device: torch.device, compute_dtype: str, variant: tuple[str, ...]
    ) -> None:
        self._torch_device = device
        self.spec = spec
        self.variant = variant
        self.compute_dtype = compute_dtype
        self.device = device_name(device)


class ImageTower(_Tower):
    """An image tower. Tokens are the last layer's, after its norm and before the projection."""

    def __init__(self, spec: EncoderSpec, visual: Any, transform: Any, *rest: Any) -> None:
        super().__init__(spec, *rest)
        self._visual = visual.eval().requires_grad_(False).to(self._torch_device)
        self._transform = transform
        size = transform.transforms[0].size
        height, width = (size, size) if isinstance(size, int) else size[-2:]
        probe = self.encode([np.zeros((3, height, width), dtype=np.float32)], tokens=True)
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
        joint = self.spec.pooling == "joint"
        with frozen_forward(self._torch_device, self.compute_dtype):
            if joint and not tokens:
                return Encoded(to_numpy(self._visual(images)))
            out, sequence, prefix = self._inside(images)
            if joint:
                pooled = out["image_features"]
            elif self.spec.pooling == "cls":
                pooled = sequence[:, 0]
            else:
                pooled = sequence[:, prefix:].mean(dim=1)
        if not tokens:
            return Encoded(to_numpy(pooled))
        lengths = np.full(len(batch), sequence.shape[1], dtype=np.int32)
        return Encoded(to_numpy(pooled), to_numpy(sequence.flatten(0, 1)), lengths)

    def _inside(self, images: torch.Tensor) -> tuple[dict[str, Any], torch.Tensor, int]:
        """(what the tower says, the layer's tokens (B, L, W), how many of them belong to no patch)."""
        last = self.spec.layer == LAST_LAYER
        is_map = _gives_maps(self._visual)
        out = self._visual.forward_intermediates(
            images,
            indices=[_layers_of(self._visual) - 1 if last else self.spec.layer],
            normalize_intermediates=last and not is_map,
            intermediates_only=not last,
            output_fmt="NCHW" if is_map else "NLC",
            output_extra_tokens=not is_map,
        )
        (found,) = out["image_intermediates"]
        if is_map:
            return out, found.flatten(2).transpose(1, 2), 0
        before = out.get("image_intermediates_prefix")
        if not before or not before[0].shape[1]:
            return out, found, 0
        return out, torch.cat([before[0], found], dim=1), before[0].shape[1]


class TextTower(_Tower):
    """A text tower. Every text fills the context, as in training; tokens are the text's own, not the filling.

    `mean` pools the text's own tokens, `last` takes the last of them, both before the projection.
    """

    def __init__(self, spec: EncoderSpec, model: Any, own: OwnTokens, *rest: Any) -> None:
        super().__init__(spec, *rest)
        self._model = model.eval().requires_grad_(False).to(self._torch_device)
        self._own = own
        probe = self.encode([own.ids("a")], tokens=True)
        assert probe.tokens is not None
        self.spec = replace(spec, width=probe.pooled.shape[1], token_width=probe.tokens.shape[1])

    def prepare(self, sample: Any) -> np.ndarray:
        """Text → (C,) int64 token ids, cut and filled to the context."""
        ids = self._own.ids(sample)
        if not self._own.length(ids):
            raise SampleError("the tokenizer finds no token in the text")
        return ids

    def token_counts(self, manifest: Manifest) -> np.ndarray:
        """(N,) int32 lengths by the tokenizer."""
        lengths = (self._own.length(self._own.ids(text)) for text in manifest.sources)
        return np.fromiter(lengths, np.int32, len(manifest))

    def encode(self, batch: Sequence[np.ndarray], *, tokens: bool = False) -> Encoded:
        """Encode token ids."""
        ids = torch.from_numpy(np.stack(batch)).to(self._torch_device)
        joint = self.spec.pooling == "joint"
        with frozen_forward(self._torch_device, self.compute_dtype):
            if joint and not tokens:
                return Encoded(to_numpy(self._model.encode_text(ids)))
            lengths = np.array([self._own.length(text) for text in batch], dtype=np.int32)
            count = torch.from_numpy(lengths).to(self._torch_device)
            own = torch.arange(ids.shape[1], device=ids.device)[None] < count[:, None]
            last = self.spec.layer == LAST_LAYER
            out = self._model.forward_intermediates(
                text=ids,
                text_indices=[_layers_of(self._model) - 1 if last else self.spec.layer],
                normalize=False,
                normalize_intermediates=last,
                intermediates_only=not last,
            )
            (hidden,) = out["text_intermediates"]
            if joint:
                pooled = out["text_features"]
            elif self.spec.pooling == "last":
                pooled = hidden[torch.arange(len(hidden), device=hidden.device), count.long() - 1]
            else:
                pooled = (hidden.float() * own[..., None]).sum(dim=1) / count[:, None]
            sequence = hidden[own] if tokens else None
        return Encoded(to_numpy(pooled), None if sequence is None else to_numpy(sequence), lengths)


def load_open_clip(spec: EncoderSpec, rest: str, options: EncoderOptions) -> ImageTower | TextTower:
    """Load a tower of a short name, `ARCH/TAG`, `hf-hub:ORG/NAME` or a local folder."""
    device = pick_device(options.device)
    found = _locate(spec, rest, options)
    if spec.modality == "text" and options.transform != "own":
        raise InputError(f"encoder {spec.name} is for texts; --transform {options.transform} is for images")
    model = _build(spec.name, found.model)
    _fill(spec.name, model, found.weights)
    digest = weights_digest([found.weights])
    tower = model.visual if spec.modality == "image" else _text_part(model)
    layer = checked_layer(spec.name, _layers_of(tower), options.layer)
    default, pooling = _checked_pooling(spec, tower, options.pooling, layer)
    loaded = replace(
        spec,
        revision=found.revision,
        weights_digest=digest,
        pooling=pooling,
        layer=layer,
        parameters=sum(parameter.numel() for parameter in tower.parameters()),
        joint_space=f"open_clip:{digest[:16]}" if pooling == "joint" else None,
    )
    activation = "quick_gelu" if found.model.get("quick_gelu") else "gelu"
    rest_of_it = (device, pick_compute_dtype(device, options.dtype))
    variant = variant_of(layer, default, pooling, options.transform)
    if spec.modality == "text":
        own = load_own_tokens(spec.name, found.model, found.folder)
        loaded = replace(loaded, transform={**own.description, "activation": activation})
        return TextTower(loaded, tower, own, *rest_of_it, variant)
    preprocess = _preprocess(spec.name, tower, found.preprocess, options.transform)
    described = {key: list(value) if isinstance(value, tuple) else value for key, value in preprocess.items()}
    described = {"preset": options.transform, **described, "activation": activation}
    transform = image_transform_v2(PreprocessCfg(**preprocess), is_train=False)
    return ImageTower(replace(loaded, transform=described), tower, transform, *rest_of_it, variant)


@dataclass(frozen=True)
class _Found:
    """An open_clip model: its two configurations, where the weights and (maybe) a tokenizer lie."""

    model: dict[str, Any]
    preprocess: dict[str, Any]
    weights: Path
    folder: Path | None
    revision: str | None


def _locate(spec: EncoderSpec, rest: str, options: EncoderOptions) -> _Found:
    given = None if options.weights is None else _only_weights(options.weights)
    if Path(rest).is_absolute():
        model, preprocess = _read_config(spec.name, Path(rest))
        return _Found(model, preprocess, given or _only_weights(Path(rest)), Path(rest), None)
    if rest.startswith(_HUB):
        found = hub_model(
            spec.name, rest[len(_HUB) :], weights=given is None, config=_CONFIG, names=WEIGHT_NAMES
        )
        model, preprocess = _read_config(spec.name, found.folder)
        weights = given or found.weights
        assert weights is not None
        return _Found(model, preprocess, weights, found.folder, found.revision if given is None else None)
    architecture, _, tag = spec.model.partition("/")
    config = open_clip.get_model_config(architecture)
    if config is None:
        raise unknown("open_clip model", architecture, open_clip.list_models())
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if tag and tag not in tags:
        raise unknown(f"weights of open_clip's {architecture}", tag, tags)
    pretrained = get_pretrained_cfg(architecture, tag) if tag else {}
    if pretrained.get("quick_gelu"):  # the activation the weights were trained with, whatever ARCH says
        config["quick_gelu"] = True
    preprocess = merge_preprocess_dict(asdict(PreprocessCfg()), pretrained)
    if given is not None:
        return _Found(config, preprocess, given, given.parent, None)
    repository, _, file = pretrained.get("hf_hub", "").rpartition("/")
    if not repository:
        known = f"open_clip:{architecture}/TAG with TAG one of {', '.join(tags)}" if tags else "it has none"
        raise InputError(f"encoder {spec.name}: which weights? {known}; or give them with `--weights PATH`")
    names = (file,) if file else WEIGHT_NAMES
    found = hub_model(spec.name, repository, config=None, names=names)
    assert found.weights is not None
    return _Found(config, preprocess, found.weights, found.folder, found.revision)


def _only_weights(path: Path) -> Path:
    """The one weight file at `path`, a file or a folder; open_clip's own file names first."""
    named = [path / name for name in WEIGHT_NAMES if (path / name).is_file()]
    return weight_files(named[0] if named else path)[0]


def _read_config(name: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        content = json.loads((folder / _CONFIG).read_bytes())
        model = dict(content["model_cfg"])
        model["vision_cfg"], model["text_cfg"]
    except FileNotFoundError:
        raise InputError(f"encoder {name}: {folder} holds no {_CONFIG}: no open_clip model") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"encoder {name}: {folder / _CONFIG} describes no open_clip model") from None
    return model, merge_preprocess_dict(asdict(PreprocessCfg()), content.get("preprocess_cfg", {}))


def _build(name: str, config: dict[str, Any]) -> Any:
    """The model with random weights. Nothing is fetched for it: text towers of transformers are refused."""
    config = deepcopy(config)
    if "hf_model_name" in config["text_cfg"]:
        raise InputError(
            f"encoder {name}: its text tower is {config['text_cfg']['hf_model_name']} of transformers, which "
            "is not supported inside an open_clip model"
        )
    custom = config.pop("custom_text", False)
    kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    if "multimodal_cfg" in config:
        kind = open_clip.CoCa
    try:
        return kind(**config)
    except Exception as error:  # configurations of the hub may hold anything
        first = " ".join(str(error).split())[:200]
        raise InputError(f"encoder {name}: its configuration does not make a model ({first})") from None


def _fill(name: str, model: Any, weights: Path) -> None:
    """Every tensor from the file, converted as open_clip does; tensors only, no code."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other pickle protocols
            open_clip.load_checkpoint(model, str(weights), strict=True, weights_only=True)
    except Exception as error:  # torch's reader raises nearly anything on broken bytes
        first = " ".join(str(error).split())[:200]
        raise InputError(f"encoder {name}: weights {weights} do not fit the model ({first})") from None


def _text_part(model: Any) -> Any:
    model.visual = None
    if hasattr(model, "text_decoder"):  # CoCa's
        model.text_decoder = None
    return model


def _gives_maps(visual: Any) -> bool:
    """Whether the tower's layers are maps (B, W, height, width), as of a ResNet."""
    trunk = getattr(visual, "trunk", None)
    return not hasattr(trunk, "blocks") if trunk is not None else not hasattr(visual, "transformer")


def _layers_of(tower: Any) -> int:
    trunk = getattr(tower, "trunk", None)
    if trunk is not None:
        return len(trunk.blocks) if hasattr(trunk, "blocks") else len(trunk.feature_info)
    holder = getattr(tower, "text", None) or tower
    return len(holder.transformer.resblocks) if hasattr(holder, "transformer") else 5


def _checked_pooling(spec: EncoderSpec, tower: Any, asked: str | None, layer: int) -> tuple[str, str]:
    """(the default, the one to use): the joint space at the last layer, the tower's plain means inside."""
    if spec.modality == "text":
        if asked == "cls":
            raise InputError(f"encoder {spec.name}: its first token is no summary; use mean or last")
        default = "joint" if layer == LAST_LAYER else "last"
        return default, asked or default
    if asked == "last":
        raise InputError(f"encoder {spec.name}: --pooling last is for texts; use cls or mean")
    has_class = hasattr(tower, "class_embedding") or (
        getattr(tower, "trunk", None) is not None and (getattr(tower.trunk, "cls_token", None) is not None)
    )
    if asked == "cls" and not has_class:
        raise InputError(f"encoder {spec.name} has no class token; use --pooling mean")
    default = "joint" if layer == LAST_LAYER else "cls" if has_class else "mean"
    return default, asked or default


def _preprocess(name: str, visual: Any, own: dict[str, Any], preset: str) -> dict[str, Any]:
    size = visual.image_size
    size = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    if preset == "own":
        return {**own, "size": size}
    if size != (224, 224):
        raise InputError(
            f"encoder {name} takes pictures of {size[0]}×{size[1]}; --transform paper makes 224×224"
        )
    return {**asdict(PreprocessCfg()), "size": size}  # CLIP's own transform, which the paper took for all
