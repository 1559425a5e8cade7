"""Loading a transformers audio model, and encoding with it.

Shapes: B sounds, n samples of a sound, L tokens, D features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers

from uml_cache.errors import InputError
from uml_extract.encoders.audio_families import Family, family_of
from uml_extract.encoders.layers import checked_layer, variant_of
from uml_extract.encoders.pretrained import load_model, locate, read_config
from uml_extract.readers import audio_length
from uml_extract.spec import LAST_LAYER, Encoded, EncoderOptions, EncoderSpec, SampleError
from uml_extract.torch_device import device_name, frozen_forward, pick_compute_dtype, pick_device, to_numpy
from uml_extract.weights import weight_files, weights_digest

if TYPE_CHECKING:
    from uml_manifests import Manifest

_EXTRACTOR = "preprocessor_config.json"


class AudioEncoder:
    """A transformers audio model, frozen.

    Sounds reach it at its own rate, mono, cut at `input_seconds`. Where the model takes sounds of any length,
    only sounds of equal length share a forward pass, so that nothing is padded.
    """

    batch_size = 16
    ragged = False  # sorting by length would hold a whole task's sounds in memory

    def __init__(
        self,
        spec: EncoderSpec,
        model: Any,
        family: Family,
        device: torch.device,
        compute_dtype: str,
        variant: tuple[str, ...],
    ) -> None:
        self._model = model.eval().requires_grad_(False).to(device)
        self._family = family
        self._torch_device = device
        self.compute_dtype = compute_dtype
        self.device = device_name(device)
        self.variant = variant
        self.input_rate = family.rate
        self.input_seconds = family.seconds
        self.spec = spec
        probe = self.encode([self._prepared(np.zeros(family.rate // 10, dtype=np.float32))], tokens=True)
        assert probe.tokens is not None
        self.spec = replace(spec, width=probe.pooled.shape[1], token_width=probe.tokens.shape[1])

    def prepare(self, sample: Any) -> np.ndarray:
        """`Sound` → what the model takes; where that has a fixed shape, (2,) with the sound's own length."""
        return self._prepared(sample.samples)

    def token_counts(self, manifest: Manifest) -> np.ndarray:
        """(N,) int32, from the files' headers; 0 where there is none that can be read."""
        counts = np.zeros(len(manifest), dtype=np.int32)
        for row in range(len(manifest)):
            try:
                samples = audio_length(manifest.path(row), self.input_rate, self.input_seconds)
            except SampleError:
                continue
            counts[row] = self._family.tokens(samples)
        return counts

    def encode(self, batch: Sequence[np.ndarray], *, tokens: bool = False) -> Encoded:
        """Encode prepared sounds."""
        if self._family.stacks:
            inputs = np.stack([sound[0] for sound in batch])
            return self._encode(inputs, np.array([sound[1] for sound in batch]), tokens)
        by_length: dict[int, list[int]] = {}
        for row, sound in enumerate(batch):
            by_length.setdefault(len(sound), []).append(row)
        parts = [
            self._encode(np.stack([batch[row] for row in rows]), np.full(len(rows), length), tokens)
            for length, rows in by_length.items()
        ]
        order = np.argsort([row for rows in by_length.values() for row in rows])
        pooled = np.concatenate([part.pooled for part in parts])[order]
        if not tokens:
            return Encoded(pooled)
        lengths = np.concatenate([part.lengths for part in parts if part.lengths is not None])
        values = np.concatenate([part.tokens for part in parts if part.tokens is not None])
        pieces = np.split(values, np.cumsum(lengths)[:-1])
        return Encoded(pooled, np.concatenate([pieces[at] for at in order]), lengths[order])

    def _prepared(self, sound: np.ndarray) -> np.ndarray:
        values = self._family.prepare(sound)
        if not self._family.stacks:
            return values
        pair = np.empty(2, dtype=object)
        pair[0], pair[1] = values, len(sound)
        return pair

    def _encode(self, inputs: np.ndarray, samples: np.ndarray, tokens: bool) -> Encoded:
        """(b, …) inputs of sounds with that many samples each."""
        layer = None if self.spec.layer == LAST_LAYER else self.spec.layer
        with frozen_forward(self._torch_device, self.compute_dtype):
            given = torch.from_numpy(inputs).to(self._torch_device, non_blocking=True)
            hidden, pooled = self._family.forward(self._model, given, layer)
            if self.spec.pooling == "mean" or pooled is None:
                real = torch.from_numpy(self._family.real(samples, hidden.shape[1])).to(hidden.device)
                summed = (hidden.float() * real[..., None]).sum(dim=1)
                pooled = summed / real.sum(dim=1, keepdim=True)
        if not tokens:
            return Encoded(to_numpy(pooled))
        lengths = np.array([self._family.tokens(int(each)) for each in samples], dtype=np.int32)
        own = torch.arange(hidden.shape[1])[None] < torch.from_numpy(lengths)[:, None]
        return Encoded(to_numpy(pooled), to_numpy(hidden[own.to(hidden.device)]), lengths)


def is_audio(spec: EncoderSpec, rest: str, options: EncoderOptions) -> bool:
    """Whether `rest` is a model that `load_audio` can load, by its configuration."""
    return family_of(read_config(spec.name, locate(spec, rest, options).folder)) is not None


def load_audio(spec: EncoderSpec, rest: str, options: EncoderOptions) -> AudioEncoder:
    """Load a short name, a model of the hub or a local folder."""
    if options.transform != "own":
        raise InputError(f"encoder {spec.name} is for sounds; --transform {options.transform} is for images")
    device = pick_device(options.device)
    found = locate(spec, rest, options)
    files = weight_files(options.weights or found.folder)
    config = read_config(spec.name, found.folder)
    make = family_of(config)
    if make is None:
        raise InputError(
            f"encoder {spec.name} is a {config.model_type} model; expected wav2vec 2.0, HuBERT, WavLM, "
            "Whisper, AST or CLAP"
        )
    extractor = _load_extractor(spec.name, found.folder)
    family = make(config, extractor)
    layer = checked_layer(spec.name, family.layers, options.layer)
    pooling = options.pooling or family.own_pooling
    if pooling not in family.poolings:
        raise InputError(
            f"encoder {spec.name} pools by {' or '.join(family.poolings)}, got --pooling {pooling}"
        )
    compute_dtype = pick_compute_dtype(device, options.dtype)
    whole = load_model(spec.name, config, files, torch.float32 if compute_dtype == "float32" else "auto")
    model = family.tower(whole)
    digest = weights_digest(files)
    settings = hashlib.sha256((found.folder / _EXTRACTOR).read_bytes()).hexdigest()
    loaded = replace(
        spec,
        modality="audio",
        revision=found.revision,
        weights_digest=digest,
        pooling=pooling,
        layer=layer,
        transform={"rate": family.rate, "seconds": family.seconds, "extractor": settings},
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        joint_space=f"transformers:{digest[:16]}" if pooling == "joint" else None,
    )
    variant = variant_of(layer, family.own_pooling, pooling)
    return AudioEncoder(loaded, model, family, device, compute_dtype, variant)


def _load_extractor(name: str, folder: Path) -> Any:
    if not (folder / _EXTRACTOR).is_file():
        raise InputError(f"encoder {name}: {folder} holds no {_EXTRACTOR}, which says how sounds go in")
    try:
        return transformers.AutoFeatureExtractor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # extractors raise nearly anything on broken files
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"encoder {name}: cannot load the feature extractor in {folder} ({first})") from None
