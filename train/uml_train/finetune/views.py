"""What a training picture is turned into before the network sees it: crop, flip or random crop.

The paper does not say how its pictures were varied (B.4.2, E.1.1).

Shapes: H × W pixels of the network's input. Randomness comes from the caller's generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

_AREA = (0.08, 1.0)  # of the picture
_RATIO = (3 / 4, 4 / 3)  # width to height
_TRIES = 10


@dataclass(frozen=True)
class Views:
    """A random view of a picture, as (3, H, W) float32.

    Args:
        kind: `crop`, `flip` or `random-crop` (`FinetuneSettings`).
        own: the encoder's own transform, which is also what validation and test pictures go through.
        size: (H, W).
        mean, std: of the three channels, on the scale 0 … 1.
        interpolation: `bicubic`, `bilinear` or `nearest`.
    """

    kind: str
    own: Callable[[Any], np.ndarray]
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str

    def __call__(self, picture: Image, generator: np.random.Generator) -> np.ndarray:
        """One random view of a picture, prepared as the network takes it."""
        if self.kind == "crop":
            return self.own(picture)
        values = self._cropped(picture, generator) if self.kind == "random-crop" else self.own(picture)
        return values[:, :, ::-1].copy() if generator.random() < 0.5 else values

    def _cropped(self, picture: Image, generator: np.random.Generator) -> np.ndarray:
        from PIL.Image import Resampling

        box = random_box(picture.width, picture.height, generator)
        height, width = self.size
        resized = picture.resize((width, height), Resampling[self.interpolation.upper()], box=box)
        values = np.asarray(resized, dtype=np.float32).transpose(2, 0, 1) / np.float32(255)
        mean, std = (np.asarray(v, dtype=np.float32)[:, None, None] for v in (self.mean, self.std))
        return np.ascontiguousarray((values - mean) / std)


def random_box(width: int, height: int, generator: np.random.Generator) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of 8 to 100 % of the area, 3:4 to 4:3; the middle where none fits."""
    for _ in range(_TRIES):
        area = width * height * generator.uniform(*_AREA)
        ratio = math.exp(generator.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(generator.integers(0, width - w + 1)), int(generator.integers(0, height - h + 1))
            return left, top, left + w, top + h
    w = min(width, max(1, round(height * _RATIO[1])))
    h = min(height, max(1, round(width / _RATIO[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
