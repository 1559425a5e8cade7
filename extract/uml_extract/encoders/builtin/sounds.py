"""An audio encoder without weights: `log-mel`, the energy in 64 bands every 10 ms.

Shapes: B sounds, n samples of a sound, F frames of all sounds packed, K = 257 frequencies, M = 64 bands.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from uml_extract.encoders.builtin.plain import PlainEncoder, refuse_options
from uml_extract.spec import Encoded, EncoderOptions, EncoderSpec, SampleError

if TYPE_CHECKING:
    from uml_manifests import Manifest

RATE, SECONDS = 16_000, 30.0
WINDOW, HOP, FFT, BANDS = 400, 160, 512, 64
LOWEST, HIGHEST = 20.0, 7_600.0
# log(band + FLOOR) of full-scale to silent sound lies between about +6 and -14; SHIFT and SCALE bring that
# near zero mean and unit spread, so that heads train on it as on other features.
FLOOR, SHIFT, SCALE = 1e-6, 7.0, 4.0
_FRAMES_AT_ONCE = 4096


def frame_count(samples: int) -> int:
    """Frames of a sound: whole windows, and one for a sound that is shorter (padded with zeros)."""
    return 1 + max(samples - WINDOW, 0) // HOP


class LogMel(PlainEncoder):
    """Log-mel frames as tokens; pooled, their mean and standard deviation over time (2 × 64).

    Sounds are brought to 16 kHz mono and cut after 30 seconds. Windows of 25 ms (Hann) every 10 ms; no frame
    reaches beyond its sound's end, so that a sound's features do not depend on its batch.
    """

    batch_size = 64
    input_rate = RATE
    input_seconds = SECONDS

    def prepare(self, sample: Any) -> np.ndarray:
        """The samples (n,) float32 of a sound."""
        return sample.samples

    def token_counts(self, manifest: Manifest) -> np.ndarray:
        """(N,) int32 frames of each sound, by its length."""
        return np.fromiter((_planned(manifest, row) for row in range(len(manifest))), np.int32, len(manifest))

    def encode(self, batch: Sequence[np.ndarray], *, tokens: bool = False) -> Encoded:
        """Mean and deviation of log-mel frames, (B, D) float32, and with `tokens` the frames."""
        from scipy.fft import rfft  # twice as fast as numpy's on float32

        lengths = np.array([frame_count(len(sound)) for sound in batch], dtype=np.int32)
        frames = np.concatenate([_frames(sound) for sound in batch])
        bands = np.empty((len(frames), BANDS), dtype=np.float32)
        for at in range(0, len(frames), _FRAMES_AT_ONCE):
            part = slice(at, at + _FRAMES_AT_ONCE)
            spectrum = rfft(frames[part] * _window(), FFT, axis=1)
            power = spectrum.real**2 + spectrum.imag**2
            bands[part] = (np.log(power @ _mel() + np.float32(FLOOR)) + SHIFT) / SCALE
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        count = lengths[:, None].astype(np.float32)
        mean = np.add.reduceat(bands, starts, axis=0) / count
        apart = bands - np.repeat(mean, lengths, axis=0)
        deviation = np.sqrt(np.add.reduceat(apart * apart, starts, axis=0) / count)
        pooled = np.concatenate([mean, deviation], axis=1)
        return Encoded(pooled, bands, lengths) if tokens else Encoded(pooled)


def _planned(manifest: Manifest, row: int) -> int:
    from uml_extract.readers import audio_length

    try:
        return frame_count(audio_length(manifest.path(row), RATE, SECONDS))
    except SampleError:
        return 0


def _frames(sound: np.ndarray) -> np.ndarray:
    """(n,) → (frames, WINDOW), a view where the sound is long enough."""
    if len(sound) < WINDOW:
        return np.pad(sound, (0, WINDOW - len(sound)))[None]
    return np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[::HOP]


@lru_cache(maxsize=1)
def _window() -> np.ndarray:
    return np.hanning(WINDOW + 1)[:-1].astype(np.float32)  # periodic, as for a short-time transform


@lru_cache(maxsize=1)
def _mel() -> np.ndarray:
    """(K, M) float32: triangles, equally wide on the mel scale 2595·log10(1 + f/700), each of peak 1."""
    edges_mel = np.linspace(_to_mel(LOWEST), _to_mel(HIGHEST), BANDS + 2)
    edges = 700 * (10 ** (edges_mel / 2595) - 1)
    frequency = np.arange(FFT // 2 + 1) * RATE / FFT
    rising = (frequency[:, None] - edges[None, :-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[None, 2:] - frequency[:, None]) / (edges[2:] - edges[1:-1])
    return np.maximum(np.minimum(rising, falling), 0).astype(np.float32)


def _to_mel(frequency: float) -> float:
    return float(2595 * np.log10(1 + frequency / 700))


LOG_MEL_SPEC = EncoderSpec(
    name="log-mel",
    modality="audio",
    library="numpy",
    model="log-mel-1",
    width=2 * BANDS,
    token_width=BANDS,
    pooling="mean+std",
    transform={
        "rate": RATE,
        "seconds": SECONDS,
        "window": WINDOW,
        "hop": HOP,
        "fft": FFT,
        "bands": BANDS,
        "range": [LOWEST, HIGHEST],
        "log": {"floor": FLOOR, "shift": SHIFT, "scale": SCALE},
    },
    licence="Apache-2.0",
    parameters=0,
)


def load_log_mel(spec: EncoderSpec, rest: str, options: EncoderOptions) -> LogMel:
    """The `log-mel` encoder; it has no options."""
    refuse_options(spec, options)
    return LogMel(spec)
