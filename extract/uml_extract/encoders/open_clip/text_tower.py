"""Loading an open_clip model's image or text tower, and encoding with the latter.

Shapes: B texts, C the text tower's context length, W the tower's own width, D the width of the joint space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2

from uml_cache import InputError
from uml_extract.encoders.layers import checked_layer, variant_of
from uml_extract.encoders.network import NetworkEncoder
from uml_extract.encoders.open_clip.checkpoint import build, fill, locate, resized
from uml_extract.encoders.open_clip.context import OwnTokens, load_own_tokens
from uml_extract.encoders.open_clip.image_tower import ImageTower, Whole, layers_of
from uml_extract.encoders.weights import weights_digest
from uml_extract.encoding.torch_device import frozen_forward, pick_compute_dtype, pick_device, to_numpy
from uml_extract.spec import LAST_LAYER, Encoded, EncoderOptions, EncoderSpec, SampleError

if TYPE_CHECKING:
    from uml_manifests import Manifest


class TextTower(NetworkEncoder):
    """A text tower. Every text fills the context, as in training; tokens are the text's own, not the filling.

    Pooled features of the last layer are the model's own, in the joint space. `mean` pools the text's own
    tokens, `last` takes the last of them, both before the projection.
    """

    def __init__(self, spec: EncoderSpec, model: Any, own: OwnTokens, *rest: Any) -> None:
        super().__init__(spec, model, *rest)
        self._own = own
        probe = self.encode([own.ids("a")], tokens=True)
        assert probe.tokens is not None
        self.spec = replace(spec, width=probe.pooled.shape[1], token_width=probe.tokens.shape[1])

    def prepare(self, sample: Any) -> np.ndarray:
        """Text → (C,) int64 token ids, cut and filled to the context.

        Raises:
            SampleError: no token is found in the text.
        """
        ids = self._own.ids(sample)
        if not self._own.length(ids):
            raise SampleError("the tokenizer finds no token in the text")
        return ids

    def cut(self, texts: Sequence[str]) -> int:
        """How many texts are longer than the context."""
        return self._own.cut(texts)

    def token_counts(self, manifest: Manifest) -> np.ndarray:
        """(N,) int32 lengths by the tokenizer."""
        lengths = (self._own.length(self._own.ids(text)) for text in manifest.sources)
        return np.fromiter(lengths, np.int32, len(manifest))

    def encode(self, batch: Sequence[np.ndarray], *, tokens: bool = False) -> Encoded:
        """Encode token ids, (L,) int64 each."""
        ids = torch.from_numpy(np.stack(batch)).to(self._torch_device)
        joint = self.spec.pooling == "joint"
        with frozen_forward(self._torch_device, self.compute_dtype):
            if joint and not tokens:
                return Encoded(to_numpy(self.network.encode_text(ids)))
            lengths = np.array([self._own.length(text) for text in batch], dtype=np.int32)
            count = torch.from_numpy(lengths).to(self._torch_device)
            own = torch.arange(ids.shape[1], device=ids.device)[None] < count[:, None]
            last = self.spec.layer == LAST_LAYER
            out = self.network.forward_intermediates(
                text=ids,
                text_indices=[layers_of(self.network) - 1 if last else self.spec.layer],
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
    """Load a tower of a short name, `ARCH/TAG`, `hf-hub:ORG/NAME` or a local folder.

    Raises:
        InputError: there is no such model, or an option means nothing here.
    """
    device = pick_device(options.device)
    found = locate(spec, rest, options)
    if options.tuning is not None:
        found = resized(spec.name, found, options.tuning)
    if spec.modality == "text" and options.transform != "own":
        raise InputError(f"encoder {spec.name} is for texts; --transform {options.transform} is for images")
    model = build(spec.name, found.model)
    fill(spec.name, model, found.weights)
    digest = weights_digest([found.weights])
    tower = model.visual if spec.modality == "image" else _text_part(model)
    layer = checked_layer(spec.name, layers_of(tower), options.layer)
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
    whole = None if options.tuning is None else Whole(model, found)
    return ImageTower(
        replace(loaded, transform=described), tower, transform, *rest_of_it, variant, whole=whole
    )


def _text_part(model: Any) -> Any:
    model.visual = None
    if hasattr(model, "text_decoder"):  # CoCa's
        model.text_decoder = None
    return model


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
