"""Loading AudioCLIP's audio tower, and encoding with it.

Shapes: B sounds, n = 220,500 samples, D = 1024 features, L = 143 places of the last map, W = 2048.

The network was trained on 16-bit sample values, which it brings to ±1 itself; sounds are therefore given at
that scale. The paper's reference code gave it sounds in ±1 instead, found the embeddings of `eval` mode poor,
and took those of `train` mode, in which a sound's embedding depends on its batch: `--transform paper` does
that, ten sounds at a time in the manifest's order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from uml_cache import InputError
from uml_extract.encoders.audioclip.esresnext import RATE, SAMPLES, ESResNeXt
from uml_extract.encoders.layers import checked_layer, variant_of
from uml_extract.encoders.network import NetworkEncoder
from uml_extract.encoders.weights import read_weights, weight_files, weights_digest
from uml_extract.encoding.torch_device import frozen_forward, pick_compute_dtype, pick_device, to_numpy
from uml_extract.readers import audio_length
from uml_extract.spec import Encoded, EncoderOptions, EncoderSpec, SampleError

if TYPE_CHECKING:
    from uml_manifests import Manifest

PAPER_BATCH = 10
_FULL = 32_768.0  # what ±1 is in 16-bit samples


class AudioClip(NetworkEncoder):
    """AudioCLIP's audio tower, frozen. Pooled features have unit length; tokens are the last map's places."""

    batch_size = PAPER_BATCH
    input_rate = RATE
    input_seconds = SAMPLES / RATE

    def __init__(
        self, spec: EncoderSpec, model: ESResNeXt, device: torch.device, compute_dtype: str, paper: bool
    ) -> None:
        variant = variant_of(-1, spec.pooling, spec.pooling, "paper" if paper else "own")
        super().__init__(spec, model, device, compute_dtype, variant)
        self.network.train(paper)
        self._paper = paper

    def prepare(self, sample: Any) -> np.ndarray:
        """`Sound` → (n,) float32, cut or padded on the right to five seconds."""
        sound = sample.samples[:SAMPLES]
        return np.pad(sound, (0, SAMPLES - len(sound)))

    def token_counts(self, manifest: Manifest) -> np.ndarray:
        """(N,) int32: 143, or 0 where a file's header cannot be read."""
        counts = np.zeros(len(manifest), dtype=np.int32)
        for row in range(len(manifest)):
            try:
                audio_length(manifest.path(row), self.input_rate, self.input_seconds)
            except SampleError:
                continue
            counts[row] = 143
        return counts

    def encode(self, batch: Sequence[np.ndarray], *, tokens: bool = False) -> Encoded:
        """Encode prepared sounds, (n,) float32 each."""
        parts = [self._encode(batch, tokens)]
        if self._paper:
            parts = [self._encode(each, tokens) for each in _tens(batch)]
        pooled = np.concatenate([part.pooled for part in parts])
        if not tokens:
            return Encoded(pooled)
        values = np.concatenate([part.tokens for part in parts if part.tokens is not None])
        return Encoded(pooled, values, np.full(len(batch), len(values) // len(batch), dtype=np.int32))

    def _encode(self, batch: Sequence[np.ndarray], tokens: bool) -> Encoded:
        sounds = torch.from_numpy(np.stack(batch)).to(self._torch_device)
        if self._paper and len(batch) == 1:
            sounds = sounds.expand(2, -1)  # one sound alone has no statistics of a batch
        given = sounds if self._paper else sounds * _FULL
        with torch.inference_mode():
            picture = self.network.picture((given + _FULL) * (2 / (2 * _FULL - 1)) - 1)
        with frozen_forward(self._torch_device, self.compute_dtype):
            pooled, places = self.network.features(picture)
            pooled = functional.normalize(pooled.float(), dim=1)[: len(batch)]
        if not tokens:
            return Encoded(to_numpy(pooled))
        sequence = places[: len(batch)].flatten(2).transpose(1, 2)
        lengths = np.full(len(batch), sequence.shape[1], dtype=np.int32)
        return Encoded(to_numpy(pooled), to_numpy(sequence.flatten(0, 1)), lengths)


def _tens(batch: Sequence[np.ndarray]) -> list[Sequence[np.ndarray]]:
    """Ten at a time; a last one alone joins those before it."""
    parts = [batch[at : at + PAPER_BATCH] for at in range(0, len(batch), PAPER_BATCH)]
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [batch[-1 - PAPER_BATCH :]]
    return parts


def load_audioclip(spec: EncoderSpec, options: EncoderOptions) -> AudioClip:
    """Load the tower from `--weights`: a whole AudioCLIP checkpoint, or the audio network alone.

    Raises:
        InputError: the weights do not fit, or an option means nothing here.
    """
    checked_layer(spec.name, 1, options.layer)
    if options.pooling is not None:
        raise InputError(f"encoder {spec.name} has one pooling, its own; leave --pooling out")
    assert options.weights is not None
    device = pick_device(options.device)
    files = weight_files(options.weights)
    state = read_weights(files)
    own = {name.removeprefix("audio."): value for name, value in state.items() if name.startswith("audio.")}
    model = ESResNeXt()
    try:
        missing, unexpected = model.load_state_dict(own or state, strict=False)
    except RuntimeError as error:
        first = " ".join(str(error).split())[:200]
        raise InputError(f"encoder {spec.name}: weights {files[0]} do not fit the model ({first})") from None
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        word, name = ("missing", missing[0]) if missing else ("too many", unexpected[0])
        raise InputError(
            f"encoder {spec.name}: weights {files[0]} do not fit the model (for example {name} is {word})"
        )
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.0  # in `train` mode, too, the statistics stay what they are
    paper = options.transform == "paper"
    loaded = replace(
        spec,
        weights_digest=weights_digest(files),
        transform={
            "preset": options.transform,
            "rate": RATE,
            "samples": SAMPLES,
            "scale": 1 if paper else _FULL,
            "mode": f"train, batches of {PAPER_BATCH}" if paper else "eval",
        },
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )
    return AudioClip(loaded, model, device, pick_compute_dtype(device, options.dtype), paper)
