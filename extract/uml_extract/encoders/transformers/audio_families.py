"""How each family of transformers' audio models turns a sound into tokens.

Shapes: n samples of a sound, b sounds at once, L tokens of one sound, D features.
Sounds and inputs are float32, tokens too without autocast; `real` takes integers and gives bool.

A family prepares one sound by itself, and says from a sound's length alone how many tokens are its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

LONGEST_WAVE = 30.0  # seconds; attention over more would cost more than it tells


class Family(ABC):
    """`rate` in samples a second, `seconds` that are looked at, `layers` that can be asked for.

    `own_pooling` is the model's own, `poolings` those that make sense. `stacks` tells that every prepared
    sound has the same shape.
    """

    own_pooling = "mean"
    poolings: tuple[str, ...] = ("mean",)
    stacks = True

    def __init__(self, config: Any, extractor: Any) -> None:
        self.config = config
        self.extractor = extractor
        self.rate = int(extractor.sampling_rate)
        self.seconds = LONGEST_WAVE
        self.layers = int(getattr(config, "num_hidden_layers", 1))

    def tower(self, model: Any) -> Any:
        """The part of the whole model that is used."""
        return model

    def prepare(self, sound: np.ndarray) -> np.ndarray:
        """(n,) float32 → the model's input for this sound."""
        name = self.extractor.model_input_names[0]
        values = self.extractor(sound, sampling_rate=self.rate, return_tensors="np")[name]
        return np.ascontiguousarray(values[0], dtype=np.float32)

    @abstractmethod
    def tokens(self, samples: int) -> int:
        """How many tokens a sound of that many samples gives."""

    def real(self, samples: np.ndarray, length: int) -> np.ndarray:
        """(b,) → (b, length) bool: the tokens that the mean is taken over."""
        counts = np.array([self.tokens(int(each)) for each in samples])
        return np.arange(length)[None] < counts[:, None]

    def forward(
        self, model: Any, inputs: torch.Tensor, layer: int | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(b, L, D) tokens after block `layer` (None: the last, normalised); the model's own pooling."""
        out = model(inputs, output_hidden_states=layer is not None)
        return out.last_hidden_state if layer is None else out.hidden_states[layer + 1], None


class Wave(Family):
    """wav2vec 2.0, HuBERT, WavLM and their kin: the waveform itself, of any length.

    Sounds of different lengths are never padded to one another: the base models' group norm would see the
    padding, whatever the mask says.
    """

    stacks = False

    def __init__(self, config: Any, extractor: Any) -> None:
        super().__init__(config, extractor)
        self._steps = tuple(zip(config.conv_kernel, config.conv_stride, strict=True))
        shortest = 1
        for kernel, stride in reversed(self._steps):
            shortest = (shortest - 1) * stride + kernel
        self._shortest = shortest

    def prepare(self, sound: np.ndarray) -> np.ndarray:
        """(n,) float32 samples, with silence behind a sound that is shorter than one frame."""
        return super().prepare(np.pad(sound, (0, max(0, self._shortest - len(sound)))))

    def tokens(self, samples: int) -> int:
        """How many frames the convolutions leave of so many samples."""
        length = max(samples, self._shortest)
        for kernel, stride in self._steps:
            length = (length - kernel) // stride + 1
        return length


class Whisper(Family):
    """Whisper's encoder: every sound fills 30 s; its own tokens are those that begin within it."""

    def __init__(self, config: Any, extractor: Any) -> None:
        super().__init__(config, extractor)
        self.layers = int(config.encoder_layers)
        self.seconds = float(extractor.chunk_length)

    def tower(self, model: Any) -> Any:
        """The encoder alone; the decoder is not needed."""
        return model.encoder

    def tokens(self, samples: int) -> int:
        """How many frames the encoder gives for so many samples."""
        hop = 2 * self.extractor.hop_length  # the second convolution halves the frames
        return max(1, min(-(-samples // hop), self.config.max_source_positions))


class Ast(Family):
    """AST: a fixed grid of patches behind two class tokens, whose mean is the model's own pooling.

    The mean is taken over the patches that begin within the sound.
    """

    own_pooling = "cls"
    poolings = ("cls", "mean")
    _WINDOW, _HOP = 0.025, 0.01  # seconds, Kaldi's

    def __init__(self, config: Any, extractor: Any) -> None:
        super().__init__(config, extractor)
        self._window, self._hop = round(self._WINDOW * self.rate), round(self._HOP * self.rate)
        self.seconds = (extractor.max_length * self._hop + self._window) / self.rate
        self._across = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
        self._along = (config.max_length - config.patch_size) // config.time_stride + 1

    def prepare(self, sound: np.ndarray) -> np.ndarray:
        """The spectrogram (T, F) float32 of samples (n,), with silence behind a sound shorter than one
        window."""
        return super().prepare(np.pad(sound, (0, max(0, self._window - len(sound)))))

    def tokens(self, samples: int) -> int:
        """Two special tokens and every patch; the number is the same for all sounds."""
        return 2 + self._across * self._along

    def real(self, samples: np.ndarray, length: int) -> np.ndarray:
        """(b,) → (b, L) bool: which tokens are patches of sound and not of padding."""
        frames = 1 + np.maximum(samples - self._window, 0) // self._hop
        along = np.arange(self._along)[None] * self.config.time_stride < frames[:, None]
        grid = np.tile(along, (1, self._across))
        return np.concatenate([np.zeros((len(samples), 2), dtype=bool), grid], axis=1)

    def forward(
        self, model: Any, inputs: torch.Tensor, layer: int | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Tokens (b, L, D) and the pooled (b, D): the mean of the two special ones."""
        hidden, _ = super().forward(model, inputs, layer)
        return hidden, (hidden[:, 0] + hidden[:, 1]) / 2


class Clap(Family):
    """CLAP's audio tower: ten seconds, shorter sounds repeated as in training; one layer's tokens.

    The library crops longer sounds at random; here the first ten seconds are taken.
    """

    own_pooling = "joint"
    poolings = ("joint", "mean")

    def __init__(self, config: Any, extractor: Any) -> None:
        super().__init__(config, extractor)
        self.layers = 1
        self.seconds = float(extractor.max_length_s)
        audio = config.audio_config
        down = 2 ** (len(audio.depths) - 1)
        side = audio.spec_size // audio.patch_stride[0] // down
        self._count = side * side

    def tower(self, model: Any) -> Any:
        """The model without its text half."""
        model.text_model = model.text_projection = None
        return model

    def tokens(self, samples: int) -> int:
        """The same number of tokens for all sounds."""
        return self._count

    def forward(
        self, model: Any, inputs: torch.Tensor, layer: int | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Tokens (b, L, D) and the projected embedding (b, D)."""
        never = torch.zeros((len(inputs), 1), dtype=torch.bool, device=inputs.device)
        out = model.get_audio_features(input_features=inputs, is_longer=never)
        return out.last_hidden_state.flatten(2).transpose(1, 2), out.pooler_output


def family_of(config: Any) -> Callable[[Any, Any], Family] | None:
    """The family of a transformers configuration; None for a model that is not an audio encoder."""
    named = {"whisper": Whisper, "audio-spectrogram-transformer": Ast, "clap": Clap}
    if config.model_type in named:
        return named[config.model_type]
    return Wave if hasattr(config, "conv_kernel") and hasattr(config, "conv_stride") else None
