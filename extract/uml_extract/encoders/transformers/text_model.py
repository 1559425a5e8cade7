"""Loading a transformers text model, or the text tower of a model of two, and encoding with it.

Shapes: B texts, L tokens of the longest text of a batch, D features. Texts are padded on the right, so that
positions count from the text's first token and a causal model never sees padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from uml_cache import InputError
from uml_extract.encoders.layers import checked_layer, variant_of
from uml_extract.encoders.pretrained import depths_of, load_model, locate, read_config
from uml_extract.encoders.sentence import read_sentence
from uml_extract.encoders.tokens import Tokens, load_tokens
from uml_extract.encoders.transformers.transformers_model import TransformersModel
from uml_extract.encoders.weights import weight_files, weights_digest
from uml_extract.encoding.torch_device import frozen_forward, pick_compute_dtype, pick_device, to_numpy
from uml_extract.spec import LAST_LAYER, Encoded, EncoderOptions, EncoderSpec, SampleError

if TYPE_CHECKING:
    from uml_manifests import Manifest

# Models of two towers, and the parts of them that have nothing to do with texts.
_TOWERS = {
    "clap": ("audio_model", "audio_projection"),
    "siglip": ("vision_model",),
    "siglip2": ("vision_model",),
}


@dataclass(frozen=True, kw_only=True)
class TextTraits:
    """How a model reads: `causal` from left to right; `tower` as part of a model of two; `context` tokens
    always, padding unmasked (SigLIP, which pools the last position); `unit` norm at the end."""

    causal: bool = False
    tower: bool = False
    context: int | None = None
    unit: bool = False


class TransformersEncoder(TransformersModel):
    """A transformers text model, frozen.

    Pooling `cls` takes the first token, `mean` the mean over the text's own tokens (special ones included),
    `last` the last of them; `joint` is a tower's own embedding. Tokens are the hidden states of the text's
    own tokens. What a sentence-transformers checkpoint says of pooling, length, prompt and norm is followed.
    """

    ragged = True

    def __init__(
        self,
        spec: EncoderSpec,
        model: torch.nn.Module,
        folder: Path,
        *rest: Any,
        tokens: Tokens,
        traits: TextTraits,
    ) -> None:
        super().__init__(spec, model, folder, *rest)
        self._forward: Any = self.network.get_text_features if traits.tower else self.network
        self._tokens = tokens
        self._traits = traits

    def prepare(self, sample: Any) -> np.ndarray:
        """Text → (length,) int64 token ids, cut at the model's longest input.

        Raises:
            SampleError: no token is found in the text.
        """
        ids = self._tokens.ids([sample])[0]
        if not ids:
            raise SampleError("the tokenizer finds no token in the text")
        return np.array(ids, dtype=np.int64)

    def cut(self, texts: Sequence[str]) -> int:
        """How many texts are longer than the model reads."""
        return self._tokens.cut(texts)

    def token_counts(self, manifest: Manifest) -> np.ndarray:
        """(N,) int32 lengths by the tokenizer."""
        counts = np.empty(len(manifest), dtype=np.int32)
        for at in range(0, len(manifest), 1024):
            part = manifest.sources[at : at + 1024]
            counts[at : at + 1024] = [len(ids) for ids in self._tokens.ids(part)]
        return counts

    def encode(self, batch: Sequence[np.ndarray], *, tokens: bool = False) -> Encoded:
        """Encode token ids, (L,) int64 each, of any lengths."""
        lengths = np.array([len(ids) for ids in batch], dtype=np.int32)
        with frozen_forward(self._torch_device, self.compute_dtype):
            ids_bl, mask_bl = (part.to(self._torch_device) for part in self.inputs(batch))
            pooled, hidden = self._read(ids_bl, mask_bl)
            sequence = hidden[mask_bl] if tokens else None
        if sequence is None:
            return Encoded(to_numpy(pooled))
        return Encoded(to_numpy(pooled), to_numpy(sequence), lengths)

    def inputs(self, batch: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids (B, L) int64, padded, and (B, L) bool, which of them are the text's own."""
        lengths = np.array([len(ids) for ids in batch], dtype=np.int64)
        width = self._traits.context or int(lengths.max())
        padded = np.full((len(batch), width), self._tokens.padding, dtype=np.int64)
        for row, ids in enumerate(batch):
            padded[row, : len(ids)] = ids
        own = np.arange(width)[None, :] < lengths[:, None]
        return torch.from_numpy(padded), torch.from_numpy(own)

    def features(self, inputs: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Pooled features (B, D) with their gradient, float32 without autocast."""
        return self._read(*inputs)[0]

    def depths(self) -> list[list[str]]:
        """Parameter names: embeddings, then layer by layer; a last norm belongs to the last layer."""
        return depths_of(self.network, "layer", "layers", "h")

    def _read(self, ids_bl: torch.Tensor, mask_bl: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pooled features (B, D) float32 and the layer's hidden states (B, L, D)."""
        inputs = {"input_ids": ids_bl}
        if not self._traits.context:
            inputs["attention_mask"] = mask_bl.long()
        if self._traits.causal:
            inputs["position_ids"] = torch.arange(ids_bl.shape[1], device=ids_bl.device)[None].expand_as(
                ids_bl
            )
        inner = self.spec.layer != LAST_LAYER
        out = self._forward(**inputs, output_hidden_states=inner)
        # hidden_states[0] are the embeddings, so block i is entry i + 1
        hidden = out.hidden_states[self.spec.layer + 1] if inner else out.last_hidden_state
        if self.spec.pooling == "joint":
            pooled = out.pooler_output
        else:
            pooled = self._pooled(hidden.float(), mask_bl)
        if self._traits.unit and not inner:
            pooled = torch.nn.functional.normalize(pooled, dim=1)
        return pooled, hidden

    def _pooled(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, L, D), (B, L) → (B, D)."""
        if self.spec.pooling == "cls":
            return hidden[:, 0]
        count = mask.sum(dim=1, keepdim=True)
        if self.spec.pooling == "last":
            return hidden[torch.arange(len(hidden), device=hidden.device), count[:, 0] - 1]
        return (hidden * mask[..., None]).sum(dim=1) / count


def load_transformers(spec: EncoderSpec, rest: str, options: EncoderOptions) -> TransformersEncoder:
    """Load a short name, a model of the hub or a local folder.

    Raises:
        InputError: no such model, one of another kind, or an option that means nothing here.
    """
    if options.transform != "own":
        raise InputError(f"encoder {spec.name} is for texts; --transform {options.transform} is for images")
    device = pick_device(options.device)
    found = locate(spec, rest, options)
    files = weight_files(options.weights or found.folder)
    config = read_config(spec.name, found.folder)
    causal = (
        config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        and config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    )
    if config.is_encoder_decoder or not hasattr(config, "num_hidden_layers"):
        raise InputError(
            f"encoder {spec.name} is a {config.model_type} model; expected a text encoder (BERT …) or "
            "decoder (GPT-2, Llama …)"
        )
    sentence = read_sentence(spec.name, found.folder, options.pooling)
    layer = checked_layer(spec.name, int(config.num_hidden_layers), options.layer)
    default, pooling = _checked_pooling(spec.name, options.pooling, causal, sentence.pooling)
    tokens = load_tokens(spec.name, found.folder, config, sentence)
    compute_dtype = pick_compute_dtype(device, options.dtype)
    model = load_model(spec.name, config, files, torch.float32 if compute_dtype == "float32" else "auto")
    variant = variant_of(layer, default, pooling)
    loaded = replace(
        spec,
        revision=found.revision,
        weights_digest=weights_digest(files),
        width=int(config.hidden_size),
        token_width=int(config.hidden_size),
        pooling=pooling,
        layer=layer,
        transform={**tokens.description, "unit": sentence.unit} if sentence.unit else tokens.description,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )
    traits = TextTraits(causal=causal, unit=sentence.unit)
    return TransformersEncoder(
        loaded, model, found.folder, device, compute_dtype, variant, tokens=tokens, traits=traits
    )


def load_text_tower(spec: EncoderSpec, rest: str, options: EncoderOptions) -> TransformersEncoder:
    """Load the text tower of CLAP or SigLIP: a short name, a model of the hub or a local folder.

    Raises:
        InputError: no such model, one of another kind, or an option that means nothing here.
    """
    if options.transform != "own":
        raise InputError(f"encoder {spec.name} is for texts; --transform {options.transform} is for images")
    if options.tuning is not None:
        raise InputError(f"encoder {spec.name} is one tower of two, which is not trained here")
    if options.pooling == "cls":
        raise InputError(f"encoder {spec.name}: leave --pooling out (joint space), or use mean or last")
    device = pick_device(options.device)
    found = locate(spec, rest, options)
    files = weight_files(options.weights or found.folder)
    config = read_config(spec.name, found.folder)
    if config.model_type not in _TOWERS:
        raise InputError(
            f"encoder {spec.name} is a {config.model_type} model; expected one of {', '.join(_TOWERS)}"
        )
    text = config.text_config
    layer = checked_layer(spec.name, int(text.num_hidden_layers), options.layer)
    default = "joint" if layer == LAST_LAYER else "mean"
    pooling = options.pooling or default
    tokens = load_tokens(spec.name, found.folder, text)
    compute_dtype = pick_compute_dtype(device, options.dtype)
    model: Any = load_model(spec.name, config, files, torch.float32 if compute_dtype == "float32" else "auto")
    for other in _TOWERS[config.model_type]:
        setattr(model, other, None)
    digest = weights_digest(files)
    joint = pooling == "joint"
    loaded = replace(
        spec,
        revision=found.revision,
        weights_digest=digest,
        width=_joint_width(config) if joint else int(text.hidden_size),
        token_width=int(text.hidden_size),
        pooling=pooling,
        layer=layer,
        transform=tokens.description,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        joint_space=f"transformers:{digest[:16]}" if joint else None,
    )
    context = None if config.model_type == "clap" else int(text.max_position_embeddings)
    traits = TextTraits(tower=True, context=context)
    variant = variant_of(layer, default, pooling)
    return TransformersEncoder(
        loaded, model, found.folder, device, compute_dtype, variant, tokens=tokens, traits=traits
    )


def _joint_width(config: Any) -> int:
    if config.model_type == "clap":
        return int(config.projection_dim)
    return int(config.text_config.projection_size)


def _checked_pooling(name: str, asked: str | None, causal: bool, own: str | None) -> tuple[str, str]:
    """(the default, the one to use)."""
    if causal and asked == "cls":
        raise InputError(
            f"encoder {name} reads from left to right, so its first token has seen no other; use mean or last"
        )
    default = own or ("mean" if causal else "cls")
    return default, asked or default
