"""Pictures, sounds and sentences of three classes that any encoder can tell apart, made on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("blue ring", "green bar", "red dot")
_COLOURS = ((30, 60, 220), (40, 200, 60), (220, 40, 30))
_WORDS = ("a blue ring lies there", "some green bar stands up", "one red dot is seen")


def pictures(each: int, seed: int = 0) -> tuple[list[Image.Image], list[str]]:
    """`each` pictures of 24 × 24 pixels of every class, and their labels."""
    rng = np.random.default_rng(seed)
    found, labels = [], []
    for name, colour in zip(CLASSES, _COLOURS, strict=True):
        for _ in range(each):
            values = rng.normal(128, 40, (24, 24, 3))
            values[6:18, 6:18] = np.array(colour) + rng.normal(0, 40, (12, 12, 3))
            found.append(Image.fromarray(values.clip(0, 255).astype(np.uint8)))
            labels.append(name)
    return found, labels


def sentences(each: int) -> tuple[list[str], list[str]]:
    """`each` sentences about every class, and their labels."""
    texts = [f"{words}, number {i}" for words in _WORDS for i in range(each)]
    return texts, [name for name in CLASSES for _ in range(each)]


def write_pictures(folder: Path, each: int, seed: int = 0) -> list[Path]:
    """The pictures as PNG files, a folder for every class."""
    paths = []
    for at, (image, label) in enumerate(zip(*pictures(each, seed), strict=True)):
        path = folder / label / f"{at:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
        paths.append(path)
    return paths
