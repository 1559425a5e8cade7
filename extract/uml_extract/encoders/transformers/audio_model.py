"""Loading a transformers audio model, and encoding with it.

Shapes: B sounds, n samples of a sound, L tokens, D features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers

from uml_cache import InputError
from uml_extract.encoders.layers import checked_layer, variant_of
from uml_extract.encoders.pretrained import depths_of, load_model, locate, read_config
from uml_extract.encoders.transformers.audio_families import Family, family_of
from uml_extract.encoders.transformers.transformers_model import TransformersModel
from uml_extract.encoders.weights import weight_files, weights_digest
from uml_extract.encoding.torch_device import frozen_forward, pick_compute_dtype, pick_device, to_numpy
from uml_extract.readers import audio_length
from uml_extract.spec import LAST_LAYER, Encoded, EncoderOptions, EncoderSpec, SampleError

if TYPE_CHECKING:
    from uml_manifests import Manifest

_EXTRACTOR = "preprocessor_config.json"


class AudioEncoder(TransformersModel):
    """A transformers audio model, frozen.

    Sounds reach it at its own rate, mono, cut at `input_seconds`. Where the model takes sounds of any length,
    only sounds of equal length share a forward pass, so that nothing is padded.
    """

    batch_size = 16
    ragged = False  # sorting by length would hold a whole task's sounds in memory

    def __init__(self, spec: EncoderSpec, model: Any, folder: Path, *rest: Any, family: Family) -> None:
        super().__init__(spec, model, folder, *rest)
        self._family = family
        self.input_rate = family.rate
        self.input_seconds = family.seconds
        probe = self.encode([self._prepared(np.zeros(family.rate // 10, dtype=np.float32))], tokens=True)
        assert probe.tokens is not None
        self.spec = replace(spec, width=probe.pooled.shape[1], token_width=probe.tokens.shape[1])

    def prepare(self, sample: Any) -> np.ndarray:
        """`Sound` → what the model takes, float32. Where that has a fixed shape: (2,) of dtype object,
        with it and the sound's own length."""
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
        """Encode prepared sounds: (n,) samples or (T, F) spectrograms, float32."""
        with frozen_forward(self._torch_device, self.compute_dtype):
            parts = [
                self._part(given.to(self._torch_device, non_blocking=True), samples)
                for given, samples, _ in self._alike(batch)
            ]
        order = self._order(batch)
        pooled = np.concatenate([to_numpy(pooled) for pooled, _, _ in parts])[order]
        if not tokens:
            return Encoded(pooled)
        lengths = np.concatenate([lengths for _, _, lengths in parts])
        values = []
        for _, hidden, own in parts:
            within = torch.arange(hidden.shape[1])[None] < torch.from_numpy(own)[:, None]
            values.append(to_numpy(hidden[within.to(hidden.device)]))
        pieces = np.split(np.concatenate(values), np.cumsum(lengths)[:-1])
        return Encoded(pooled, np.concatenate([pieces[at] for at in order]), lengths[order])

    def inputs(self, batch: Sequence[np.ndarray]) -> tuple[list[tuple[torch.Tensor, Any]], torch.Tensor]:
        """Per length of sound the model's input (b, …) float32 and the sounds' lengths (b,) int64 in samples;
        and the places (B,) int64 of the sounds in these, one after the other."""
        alike = [(given, torch.from_numpy(samples)) for given, samples, _ in self._alike(batch)]
        return alike, torch.from_numpy(self._order(batch))

    def features(self, inputs: tuple[list[tuple[torch.Tensor, Any]], torch.Tensor]) -> torch.Tensor:
        """Pooled features (B, D) with their gradient, float32 without autocast."""
        alike, order = inputs
        return torch.cat([self._part(given, samples.cpu().numpy())[0] for given, samples in alike])[order]

    def depths(self) -> list[list[str]]:
        """Parameter names: feature extractor and positions, then layer by layer."""
        depths = depths_of(self.network, "layers", "layer")
        return [[name for name in names if "masked_spec_embed" not in name] for names in depths]

    def _prepared(self, sound: np.ndarray) -> np.ndarray:
        values = self._family.prepare(sound)
        if not self._family.stacks:
            return values
        pair = np.empty(2, dtype=object)
        pair[0], pair[1] = values, len(sound)
        return pair

    def _alike(self, batch: Sequence[np.ndarray]) -> Iterator[tuple[torch.Tensor, np.ndarray, Sequence[int]]]:
        """Sounds that share a forward pass: input (b, …), their numbers of samples, their places."""
        if self._family.stacks:
            samples = np.array([int(sound[1]) for sound in batch])
            yield torch.from_numpy(np.stack([sound[0] for sound in batch])), samples, range(len(batch))
            return
        by_length: dict[int, list[int]] = {}
        for row, sound in enumerate(batch):
            by_length.setdefault(len(sound), []).append(row)
        for length, rows in by_length.items():
            yield torch.from_numpy(np.stack([batch[row] for row in rows])), np.full(len(rows), length), rows

    def _order(self, batch: Sequence[np.ndarray]) -> np.ndarray:
        """(B,) where each sound comes among those of `_alike`, one group after the other."""
        return np.argsort([row for _, _, rows in self._alike(batch) for row in rows])

    def _part(
        self, given: torch.Tensor, samples: np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
        """Of inputs (b, …) with that many samples each: pooled (b, D), hidden (b, L, D), own tokens (b,)."""
        layer = None if self.spec.layer == LAST_LAYER else self.spec.layer
        hidden, pooled = self._family.forward(self.network, given, layer)
        if self.spec.pooling == "mean" or pooled is None:
            real = torch.from_numpy(self._family.real(samples, hidden.shape[1])).to(hidden.device)
            summed = (hidden.float() * real[..., None]).sum(dim=1)
            pooled = summed / real.sum(dim=1, keepdim=True)
        own = np.array([self._family.tokens(int(each)) for each in samples], dtype=np.int32)
        return pooled, hidden, own


def is_audio(spec: EncoderSpec, rest: str, options: EncoderOptions) -> bool:
    """Whether `rest` is a model that `load_audio` can load, by its configuration."""
    return family_of(read_config(spec.name, locate(spec, rest, options).folder)) is not None


def load_audio(spec: EncoderSpec, rest: str, options: EncoderOptions) -> AudioEncoder:
    """Load a short name, a model of the hub or a local folder.

    Raises:
        InputError: no such model, one of another kind, or an option that means nothing here.
    """
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
    if options.tuning is not None and config.model_type in ("clap", "whisper"):
        raise InputError(f"encoder {spec.name} is one part of a {config.model_type} model, not trained here")
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
    return AudioEncoder(loaded, model, found.folder, device, compute_dtype, variant, family=family)


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
