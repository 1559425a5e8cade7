"""Feature normalisation, fitted on the rows that a model trains on, each modality by itself.

Shapes: n vectors (rows, or the tokens of all rows), D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

VALIDATED, VALIDATED_LENGTHS = "validated", "validated-lengths"
VALIDATIONS = (VALIDATED, VALIDATED_LENGTHS)


@dataclass(frozen=True, eq=False)
class Normalizer:
    """Maps features x (n, D) to (x − mean) / scale, and that to unit length with `unit`.

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
        """Fit one of the kinds to features (n, D).

        `none`; `center` subtracts the mean; `l2` divides by the length; `center-l2` does both; `standard`
        subtracts the mean and divides by the deviation, where there is one; `shrunk` divides by the root of
        the variance and the mean variance of all features, and brings the result to unit length. A handful
        of rows says little about a feature's deviation: shrunk, nearly dead features are not blown up.
        `scaled` is `shrunk` with rows of their own lengths, whose mean square is 1. `validated` and
        `validated-lengths` are `shrunk` here; of a target's draw validation chooses before.
        """
        return cls.fit_blocks(kind, lambda: [features])

    @classmethod
    def fit_weighted(cls, kind: str, features: Tensor, importance: Tensor) -> Normalizer:
        """As `fit`, where row i of features (n, D) counts `importance[i]` times; importance (n,) positive."""
        if bool((importance == importance[0]).all()):
            return cls.fit(kind, features)
        kind = "shrunk" if kind in VALIDATIONS else kind
        share = (importance / importance.sum()).double().unsqueeze(1)
        mean = (share * features).sum(0)
        variance = (share * (features - mean).square()).sum(0)
        plain = cls.fit(kind, features)  # which parts the kind has, and which features vary at all
        scale = None
        if kind in ("shrunk", "scaled"):
            scale = _shrunk(variance, lengths=kind == "scaled")
        elif plain.scale is not None:
            varies = features.amax(0) > features.amin(0)
            scale = torch.where(varies & (variance > 0), variance.sqrt().float(), 1.0)
        return cls(mean=None if plain.mean is None else mean.float(), scale=scale, unit=plain.unit)

    @classmethod
    def fit_blocks(cls, kind: str, blocks: Callable[[], Iterable[Tensor]]) -> Normalizer:
        """Fit on vectors that come in blocks (n', D); `blocks` is called once for each pass over them.

        Sums are float64, so that a large set's mean does not drown in rounding.
        """
        if kind == "none":
            return cls()
        kind = "shrunk" if kind in VALIDATIONS else kind
        if kind == "l2":
            return cls(unit=True)
        count, total, low, high = 0, torch.zeros(()), torch.tensor(torch.inf), torch.tensor(-torch.inf)
        for block in blocks():
            count += len(block)
            total = total + block.sum(0, dtype=torch.float64)
            low, high = torch.minimum(low, block.amin(0)), torch.maximum(high, block.amax(0))
        mean = total / count
        if kind in ("center", "center-l2"):
            return cls(mean=mean.float(), unit=kind == "center-l2")
        squares = torch.zeros_like(mean)
        for block in blocks():
            squares += (block - mean).square().sum(0)
        if kind in ("shrunk", "scaled"):
            scale = _shrunk(squares / count, lengths=kind == "scaled")
            return cls(mean=mean.float(), scale=scale, unit=kind == "shrunk")
        deviation = (squares / count).sqrt().float()
        return cls(mean=mean.float(), scale=torch.where((high > low) & (deviation > 0), deviation, 1.0))

    def __call__(self, features: Tensor) -> Tensor:
        """Normalised features (n, D)."""
        if self.mean is not None:
            features = features - self.mean
        if self.scale is not None:
            features = features / self.scale
        return torch.nn.functional.normalize(features, dim=1) if self.unit else features


def _shrunk(variance: Tensor, *, lengths: bool) -> Tensor:
    """What features are divided by, (D,) float32, from variance (D,) float64; with `lengths` so that the mean
    square of a row's length is 1."""
    shrunk = variance + variance.mean()
    root = shrunk.sqrt()
    if lengths:
        root = root * (variance / shrunk.clamp_min(1e-300)).sum().sqrt()
    return torch.where(root > 0, root, 1.0).float()
