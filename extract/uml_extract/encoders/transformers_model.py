"""Loading a transformers text model, and encoding with it.

Shapes: B texts, L tokens of the longest text of a batch, D features. Texts are padded on the right, so that
positions count from the text's first token and a causal model never sees padding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from uml_cache.errors import InputError
from uml_extract.encoders.tokens import Tokens, load_tokens
from uml_extract.hub import HubModel, hub_model
from uml_extract.spec import LAST_LAYER, Encoded, EncoderOptions, EncoderSpec, SampleError
from uml_extract.torch_device import device_name, frozen_forward, pick_compute_dtype, pick_device, to_numpy
from uml_extract.weights import read_weights, weight_files, weights_digest

if TYPE_CHECKING:
    from uml_manifests import Manifest


class TransformersEncoder:
    """A transformers text model, frozen.

    Pooling `cls` takes the first token, `mean` the mean over the text's own tokens (special ones included),
    `last` the last of them. Tokens are the hidden states of the text's own tokens.
    """

    batch_size = 32
    ragged = True
    input_rate = 0
    input_seconds = 0.0

    def __init__(
        self,
        spec: EncoderSpec,
        model: torch.nn.Module,
        tokens: Tokens,
        device: torch.device,
        compute_dtype: str,
        variant: tuple[str, ...],
        causal: bool,
    ) -> None:
        self._model = model.eval().requires_grad_(False).to(device)
        self._tokens = tokens
        self._torch_device = device
        self._causal = causal
        self.spec = spec
        self.variant = variant
        self.compute_dtype = compute_dtype
        self.device = device_name(device)

    def prepare(self, sample: Any) -> np.ndarray:
        """Text → (length,) int64 token ids, cut at the model's longest input."""
        ids = self._tokens.ids([sample])[0]
        if not ids:
            raise SampleError("the tokenizer finds no token in the text")
        return np.array(ids, dtype=np.int64)

    def token_counts(self, manifest: Manifest) -> np.ndarray:
        """(N,) int32 lengths by the tokenizer."""
        counts = np.empty(len(manifest), dtype=np.int32)
        for at in range(0, len(manifest), 1024):
            part = manifest.sources[at : at + 1024]
            counts[at : at + 1024] = [len(ids) for ids in self._tokens.ids(part)]
        return counts

    def encode(self, batch: Sequence[np.ndarray], *, tokens: bool = False) -> Encoded:
        """Encode token ids."""
        lengths = np.array([len(ids) for ids in batch], dtype=np.int64)
        padded = np.full((len(batch), int(lengths.max())), self._tokens.padding, dtype=np.int64)
        for row, ids in enumerate(batch):
            padded[row, : len(ids)] = ids
        own = np.arange(padded.shape[1])[None, :] < lengths[:, None]
        ids_bl = torch.from_numpy(padded).to(self._torch_device)
        mask_bl = torch.from_numpy(own).to(self._torch_device)
        inputs = {"input_ids": ids_bl, "attention_mask": mask_bl.long()}
        if self._causal:
            inputs["position_ids"] = torch.arange(padded.shape[1], device=self._torch_device)[None].expand_as(
                ids_bl
            )
        inner = self.spec.layer != LAST_LAYER
        with frozen_forward(self._torch_device, self.compute_dtype):
            out = self._model(**inputs, output_hidden_states=inner)
            # hidden_states[0] are the embeddings, so block i is entry i + 1
            hidden = out.hidden_states[self.spec.layer + 1] if inner else out.last_hidden_state
            pooled = self._pooled(hidden.float(), mask_bl)
            sequence = hidden[mask_bl] if tokens else None
        if sequence is None:
            return Encoded(to_numpy(pooled))
        return Encoded(to_numpy(pooled), to_numpy(sequence), lengths.astype(np.int32))

    def _pooled(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, L, D), (B, L) → (B, D)."""
        if self.spec.pooling == "cls":
            return hidden[:, 0]
        count = mask.sum(dim=1, keepdim=True)
        if self.spec.pooling == "last":
            return hidden[torch.arange(len(hidden), device=hidden.device), count[:, 0] - 1]
        return (hidden * mask[..., None]).sum(dim=1) / count


def load_transformers(spec: EncoderSpec, rest: str, options: EncoderOptions) -> TransformersEncoder:
    """Load a short name, a model of the hub or a local folder."""
    if options.transform != "own":
        raise InputError(f"encoder {spec.name} is for texts; --transform {options.transform} is for images")
    device = pick_device(options.device)
    found = _locate(spec, rest, options)
    files = weight_files(options.weights or found.folder)
    config = _read_config(spec.name, found.folder)
    causal = (
        config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        and config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    )
    layer = _checked_layer(spec.name, int(config.num_hidden_layers), options.layer)
    default, pooling = _checked_pooling(spec.name, options.pooling, causal)
    tokens = load_tokens(spec.name, found.folder, config)
    compute_dtype = pick_compute_dtype(device, options.dtype)
    model = _load_model(spec.name, config, files, torch.float32 if compute_dtype == "float32" else "auto")
    variant = [] if layer == LAST_LAYER else [f"layer{layer}"]
    variant += [] if pooling == default else [pooling]
    loaded = replace(
        spec,
        revision=found.revision,
        weights_digest=weights_digest(files),
        width=int(config.hidden_size),
        token_width=int(config.hidden_size),
        pooling=pooling,
        layer=layer,
        transform=tokens.description,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )
    return TransformersEncoder(loaded, model, tokens, device, compute_dtype, tuple(variant), causal)


def _locate(spec: EncoderSpec, rest: str, options: EncoderOptions) -> HubModel:
    """The folder with config and tokenizer (and the weights, unless `--weights` gives them)."""
    given = options.weights
    if Path(rest).is_absolute():
        return HubModel(Path(rest), None)
    if given is None:
        return hub_model(spec.name, spec.model)
    folder = given if given.is_dir() else given.parent
    if (folder / "config.json").is_file():
        return HubModel(folder, None)
    found = hub_model(spec.name, spec.model, weights=False)
    return HubModel(found.folder, None)


def _read_config(name: str, folder: Path) -> Any:
    try:
        config = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (ValueError, OSError) as error:
        first = str(error).strip().splitlines()[0][:200]
        raise InputError(f"encoder {name}: cannot read the config.json in {folder} ({first})") from None
    if config.is_encoder_decoder or not hasattr(config, "num_hidden_layers"):
        raise InputError(
            f"encoder {name} is a {config.model_type} model; expected a text encoder (BERT …) or decoder "
            "(GPT-2, Llama …)"
        )
    return config


def _load_model(name: str, config: Any, files: Sequence[Path], dtype: Any) -> torch.nn.Module:
    """The bare model, all its tensors from `files`; `InputError` if they are of another model."""
    state = read_weights(files)
    try:
        with torch.device("meta"):  # only the class is wanted: no memory, no initialisation
            kind = type(transformers.AutoModel.from_config(config, trust_remote_code=False))
        with _silence():
            model, report = kind.from_pretrained(
                None, config=config, state_dict=state, dtype=dtype, output_loading_info=True
            )
    except (RuntimeError, ValueError, KeyError) as error:
        first = " ".join(str(error).split())[:200]
        raise InputError(f"encoder {name}: weights {files[0]} do not fit the model ({first})") from None
    # A pooler on top of BERT is not used, and checkpoints of language models have none.
    missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)
    if missing or report["mismatched_keys"]:
        first = missing[0] if missing else str(next(iter(report["mismatched_keys"])))
        raise InputError(
            f"encoder {name}: weights {files[0]} do not fit the model (for example {first} is missing)"
        )
    return model


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """No bars and no report of unused heads on standard error; what matters is raised."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _checked_layer(name: str, count: int, layer: int) -> int:
    """`layer` counted from 0, or -1 for the last one however it was written."""
    if not -count <= layer < count:
        raise InputError(
            f"encoder {name} has layers 0 to {count - 1} (or -1 to -{count}), got --layer {layer}"
        )
    layer %= count
    return LAST_LAYER if layer == count - 1 else layer


def _checked_pooling(name: str, asked: str | None, causal: bool) -> tuple[str, str]:
    """(the default, the one to use)."""
    if causal and asked == "cls":
        raise InputError(
            f"encoder {name} reads from left to right: its first token knows nothing; use mean or last"
        )
    default = "mean" if causal else "cls"
    return default, asked or default
