"""What exists in the shapes world: 6 shapes × 4 colours × 2 sizes = 48 classes, and how samples are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLOURS = ("red", "yellow", "green", "blue")
SIZES = ("small", "large")

_STREAMS = {"image": 1, "text": 2, "audio": 3}


@dataclass(frozen=True)
class Kind:
    """One class: attributes by index into `SHAPES`, `COLOURS` and `SIZES`."""

    shape: int
    colour: int
    size: int

    @property
    def name(self) -> str:
        """Such as `small red circle`."""
        return f"{SIZES[self.size]} {COLOURS[self.colour]} {SHAPES[self.shape]}"


KINDS = tuple(
    Kind(shape, colour, size)
    for shape in range(len(SHAPES))
    for colour in range(len(COLOURS))
    for size in range(len(SIZES))
)


def generator(seed: int, modality: str, label: int, number: int) -> np.random.Generator:
    """A generator of its own for each sample: no modality knows anything of another's draws."""
    return np.random.default_rng((seed, _STREAMS[modality], label, number))
