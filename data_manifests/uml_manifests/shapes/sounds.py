"""Sounds of the shapes world: half a second of 8 kHz mono; timbre is the shape, pitch the colour, length the
size. Pitch, length, onset, loudness, balance of the harmonics and noise vary."""

from __future__ import annotations

import numpy as np

from uml_manifests.shapes.world import Kind

RATE = 8000  # samples a second
LENGTH = RATE // 2
_PITCHES = (196.0, 262.0, 349.0, 466.0)  # Hz, one a colour
_SECONDS = (0.15, 0.31)  # small, large
_HARMONICS = 8
# Strength of the harmonics 1 to 8 for each shape; the last two are told apart by tremolo and by detuning.
_TIMBRES = np.array(
    [
        [1.0, 0.12, 0.05, 0.0, 0.0, 0.0, 0.0, 0.0],  # circle: nearly pure
        [1.0, 0.0, 0.5, 0.0, 0.35, 0.0, 0.25, 0.0],  # square: odd harmonics
        [1.0, 0.55, 0.4, 0.3, 0.25, 0.2, 0.16, 0.12],  # triangle: all of them, falling
        [0.35, 0.3, 0.35, 0.7, 0.9, 1.0, 0.7, 0.5],  # star: bright
        [1.0, 0.1, 0.05, 0.8, 0.05, 0.05, 0.0, 0.5],  # cross: hollow, octaves
        [0.8, 1.0, 0.1, 0.1, 0.0, 0.3, 0.0, 0.0],  # ring: beating
    ]
)
_RING = 5


def make_sound(kind: Kind, rng: np.random.Generator) -> np.ndarray:
    """One sound of a class: (LENGTH,) int16 samples at `RATE` Hz."""
    pitch = _PITCHES[kind.colour] * 2 ** rng.normal(0, 0.11)
    seconds = _SECONDS[kind.size] * rng.uniform(0.75, 1.3)
    count = int(seconds * RATE)
    time = np.arange(count) / RATE
    harmonics = np.arange(1, _HARMONICS + 1)
    strength = _TIMBRES[kind.shape] * rng.uniform(0.35, 1.5, _HARMONICS) + rng.uniform(0, 0.12, _HARMONICS)
    strength[pitch * harmonics > 0.48 * RATE] = 0.0  # nothing above the Nyquist frequency
    phase = 2 * np.pi * pitch * np.outer(harmonics, time) + rng.uniform(0, 2 * np.pi, (_HARMONICS, 1))
    tone = strength @ np.sin(phase)
    if kind.shape == _RING:
        tone *= 1 + 0.5 * np.sin(2 * np.pi * rng.uniform(10, 18) * time)
    attack = np.minimum(1.0, time / rng.uniform(0.004, 0.03))
    release = np.minimum(1.0, (seconds - time) / 0.03).clip(0)
    tone *= attack * release * np.exp(-time * rng.uniform(0.0, 4.0))
    tone /= np.sqrt(np.mean(tone**2)) + 1e-9
    sound = rng.standard_normal(LENGTH) * rng.uniform(0.15, 0.7)
    start = int(rng.integers(0, LENGTH - count))
    sound[start : start + count] += tone
    loudness = rng.uniform(0.08, 0.2)
    return (np.clip(sound * loudness, -1, 1) * 32767).astype(np.int16)
