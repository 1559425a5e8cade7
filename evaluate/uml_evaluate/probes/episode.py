"""What every probe is given and what it gives back.

Shapes: n training rows, v validation rows, m rows of the auxiliary, D features, W its width, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class Episode:
    """The rows of one (shots, seed) as `uml train` prepares them: drawn, normalised.

    Args:
        features, labels: (n, D) float32 and (n,) int64, the training rows.
        validation: the same of the rows that choose.
        classes: C.
        seed: fixes whatever else a probe draws.
        text: (m, W) and (m,) of the first auxiliary, or None for probes that use the target alone.
        class_means: (C, W) unit rows, each class's mean in the first auxiliary (random where it has none):
            what `init-only` starts from, and a zero-shot head where the encoders share a space. Or None.
        scale: what logits of unit vectors are multiplied by.
    """

    features: Tensor
    labels: Tensor
    validation: tuple[Tensor, Tensor]
    classes: int
    seed: int
    text: tuple[Tensor, Tensor] | None = None
    class_means: Tensor | None = None
    scale: float = 1.0

    def auxiliary(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rows (m, W), labels (m,) and class means (C, W) of the first auxiliary. `ValueError` without
        one."""
        if self.text is None or self.class_means is None:
            raise ValueError("this probe needs an auxiliary")
        return (*self.text, self.class_means)


@dataclass(frozen=True, eq=False)
class Linear:
    """x ↦ (x − centre) · weightᵀ + bias.

    Features lose what they all share before anything is multiplied, so that a large offset, or a column that
    does not vary, takes no digits from what tells the classes apart.

    Args:
        weight: (C, D); in float64 the products are, too, for what must tell near classes from far ones.
        bias: (C,), float64 where its digits matter.
        centre: (D,) float64, usually the mean of the training rows; None: 0.
    """

    weight: Tensor
    bias: Tensor
    centre: Tensor | None = None

    def __call__(self, features: Tensor) -> Tensor:
        """Logits (q, C) of features (q, D), in the precision of the weights."""
        x = features if self.centre is None else features - self.centre
        return x.to(self.weight.dtype) @ self.weight.T + self.bias

    def plain(self) -> tuple[Tensor, Tensor]:
        """Weight (C, D) and bias (C,) float64 of the same map without a centre."""
        weight, bias = self.weight.double(), self.bias.double()
        return weight, bias if self.centre is None else bias - weight @ self.centre.double()


@dataclass(frozen=True, eq=False)
class Candidate:
    """One fitted classifier: its hyperparameters, (n, D) ↦ logits (n, C), and the iterations it took."""

    hyperparameters: dict[str, Any]
    logits: Callable[[Tensor], Tensor]
    steps: int = 0


Fit = Callable[[list[Episode]], list[list[Candidate]]]
"""Candidates of every episode; all episodes have the same number of training rows and of classes.

Of candidates that validate alike the first counts, so that the most careful stands first.
"""


def rows_of_both(model: Any) -> tuple[Tensor, Tensor]:
    """Coefficients (C, D) and intercepts (C,) float64 of a linear classifier of scikit-learn.

    Of two classes it keeps one row, by which the second is ahead: each gets half of it.
    """
    coefficients = torch.from_numpy(model.coef_).double()
    intercepts = torch.from_numpy(model.intercept_).double()
    if len(model.classes_) > 2:
        return coefficients, intercepts
    return torch.cat([-coefficients, coefficients]) / 2, torch.cat([-intercepts, intercepts]) / 2
