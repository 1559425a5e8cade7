"""Two modalities of one Gaussian world (paper E.14): linear views of common and private factors.

Shapes: n samples, O observed dimensions of either modality; c common factors, x and y private ones.

X sees most of the common factors faintly, Y sees them whole. Whoever reconstructs X at full strength has to
know directions that X's own training data hardly shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from uml_cache import InputError
from uml_train.heads.weights import seeded


@dataclass(frozen=True, kw_only=True)
class World:
    """The distribution. `noise` is a standard deviation (the paper gives the variance 0.09), and `projection`
    that of the projections' entries, which the paper does not give.

    X's training samples keep the first `kept` part of the common factors and scale the others by
    `attenuation`; held-out samples of X are not attenuated, and come through the same projections.
    """

    common: int = 10
    private_x: int = 5
    private_y: int = 5
    observed: int = 50
    noise: float = 0.3
    kept: float = 0.1
    attenuation: float = 0.05
    projection: float = 1.0

    def __post_init__(self) -> None:
        if self.noise < 0 or self.attenuation < 0:
            raise InputError("noise and attenuation must not be negative")
        if self.projection <= 0:
            raise InputError(f"projection is {self.projection:g}; it is a standard deviation above 0")


@dataclass(frozen=True, eq=False)
class WorldSamples:
    """One draw of a world: x (n, O), y (m, O) and held-out x (v, O), float32, and noise like y (m, O)."""

    x: Tensor
    y: Tensor
    noise: Tensor
    held_out: Tensor


def draw(world: World, seed: int, *, x: int, y: int, held_out: int) -> WorldSamples:
    """Draw projections (normal entries) and samples; smaller sets begin like larger ones."""
    strength = np.full(world.common, world.attenuation)
    strength[: round(world.kept * world.common)] = 1.0

    def view(name: str, part: str, rows: int, private: int, scale: np.ndarray | float) -> Tensor:
        common = _normal(seed, "common factors", f"{name} {part}", shape=(rows, world.common)) * scale
        own = _normal(seed, "private factors", f"{name} {part}", shape=(rows, private))
        of_common = _normal(seed, "common projection", name, shape=(world.common, world.observed))
        of_own = _normal(seed, "private projection", name, shape=(private, world.observed))
        error = world.noise * _normal(seed, "noise", f"{name} {part}", shape=(rows, world.observed))
        seen = world.projection * (common @ of_common + own @ of_own)
        return torch.from_numpy((seen + error).astype(np.float32))

    ys = view("y", "train", y, world.private_y, 1.0)
    noise = torch.from_numpy(_normal(seed, "pure noise", "", shape=(y, world.observed)).astype(np.float32))
    return WorldSamples(
        x=view("x", "train", x, world.private_x, strength),
        y=ys,
        noise=noise * ys.std(),
        held_out=view("x", "held out", held_out, world.private_x, 1.0),
    )


def _normal(seed: int, *name: str, shape: tuple[int, int]) -> np.ndarray:
    return seeded(seed, "gaussian", *name).standard_normal(shape)
