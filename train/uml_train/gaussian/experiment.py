"""The arms of the Gaussian experiment, and the held-out error of each.

| arm | X | Y |
|---|---|---|
| `x` | the whole budget | – |
| `uml` | half of it | half of it |
| `x-half` | half of it | – |
| `uml-noise` | half of it | noise, half of it |

The paper's claim is `uml` < `x`: at equal budget Y's samples are worth more than as many of X. `uml` <
`x-half` says less, that Y is worth something; `uml-noise` against `x-half` is what a second batch does that
knows nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from uml_cache import InputError, unknown
from uml_train.gaussian.autoencoder import Autoencoder, Training
from uml_train.gaussian.world import World, draw

ARMS = ("x", "uml", "x-half", "uml-noise")
_HELD_OUT = 5_000


@dataclass(frozen=True, kw_only=True)
class GaussianJob:
    """One arm with one seed under one setting. `budget` counts training samples of X and Y together."""

    arm: str
    seed: int
    budget: int = 10_000
    world: World = field(default_factory=World)
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        if self.arm not in ARMS:
            raise unknown("arm", self.arm, ARMS)
        if self.budget < 2:
            raise InputError(f"a budget of {self.budget} samples cannot be halved")


def held_out_error(job: GaussianJob) -> float:
    """Mean squared error, per observed dimension, of reconstructing held-out X at full strength."""
    half = job.budget // 2
    drawn = draw(job.world, job.seed, x=job.budget, y=half, held_out=_HELD_OUT)
    data = {"x": drawn.x if job.arm == "x" else drawn.x[:half]}
    if job.arm.startswith("uml"):
        data["y"] = drawn.y if job.arm == "uml" else drawn.noise
    network = Autoencoder(list(data), job.world.observed, job.training.hidden, job.seed)
    network.fit(data, job.training, job.seed)
    return network.error(drawn.held_out, "x")
