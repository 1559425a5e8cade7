"""Feature normalisation, fitted on the rows that a model trains on, each modality by itself.

Shapes: n vectors (rows, or the tokens of all rows), D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
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

    @property
    def identity(self) -> bool:
        """Whether features stay as they are."""
        return self.mean is None and self.scale is None and not self.unit

    @classmethod
    def fit(cls, kind: str, features: Tensor) -> Normalizer:
        """Fit `none`, `center`, `l2` or `standard` on features (n, D).

        A feature that does not vary keeps its scale under `standard`.
        """
        return cls.fit_blocks(kind, lambda: [features])

    @classmethod
    def fit_blocks(cls, kind: str, blocks: Callable[[], Iterable[Tensor]]) -> Normalizer:
        """Fit on vectors that come in blocks (n', D); `blocks` is called once for each pass over them.

        Sums are float64, so that a large set's mean does not drown in rounding.
        """
        if kind == "none":
            return cls()
        if kind == "l2":
            return cls(unit=True)
        count, total, low, high = 0, torch.zeros(()), torch.tensor(torch.inf), torch.tensor(-torch.inf)
        for block in blocks():
            count += len(block)
            total = total + block.sum(0, dtype=torch.float64)
            low, high = torch.minimum(low, block.amin(0)), torch.maximum(high, block.amax(0))
        mean = total / count
        if kind == "center":
            return cls(mean=mean.float())
        squares = torch.zeros_like(mean)
        for block in blocks():
            squares += (block - mean).square().sum(0)
        deviation = (squares / count).sqrt().float()
        return cls(mean=mean.float(), scale=torch.where((high > low) & (deviation > 0), deviation, 1.0))

    def __call__(self, features: Tensor) -> Tensor:
        if self.unit:
            return torch.nn.functional.normalize(features, dim=1)
        if self.mean is not None:
            features = features - self.mean
        return features if self.scale is None else features / self.scale
