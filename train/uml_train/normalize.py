"""Feature normalisation, fitted on the rows that a model trains on, each modality by itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Normalizer:
    """Maps features x (n, D) to (x − mean) / scale, or to x / ‖x‖ with `unit`.

    `mean` and `scale` are (D,) float32, or None where the mapping has none.
    """

    mean: Tensor | None = None
    scale: Tensor | None = None
    unit: bool = False

    @classmethod
    def fit(cls, kind: str, features: Tensor) -> Normalizer:
        """Fit `none`, `center`, `l2` or `standard` on features (n, D).

        A feature that does not vary keeps its scale under `standard`.
        """
        if kind == "none":
            return cls()
        if kind == "l2":
            return cls(unit=True)
        mean = features.mean(0)
        if kind == "center":
            return cls(mean=mean)
        deviation = (features - mean).square().mean(0).sqrt()
        return cls(mean=mean, scale=torch.where(deviation > 0, deviation, 1.0))

    def __call__(self, features: Tensor) -> Tensor:
        if self.unit:
            return torch.nn.functional.normalize(features, dim=1)
        if self.mean is not None:
            features = features - self.mean
        return features if self.scale is None else features / self.scale
