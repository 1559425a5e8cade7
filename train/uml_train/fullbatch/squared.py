"""Squared errors of one-hot labels: every factor in closed form, from the rows' moments alone.

Shapes: M candidates, N rows, K coordinates, q directions of the head's space, C classes.

Rows lie in the axes of their scatter, so that Σ v x xᵀ is diagonal: `squares` (K,); `against` (C, K) is
Σ v (y − share) xᵀ. Both are float64, as `AxisStream.moments` gives them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from uml_train.fullbatch.axes import Thin


def centred_targets(labels: Tensor, classes: int, importance: Tensor) -> tuple[Tensor, Tensor]:
    """One-hot labels less the classes' shares (N, C), and the shares (C,) under the importance (N,)."""
    y = torch.nn.functional.one_hot(labels, classes).float()
    share = (importance[:, None] * y).sum(0) / importance.sum()
    return y - share, share


def ridge(squares: Tensor, against: Tensor, penalties: Tensor) -> Tensor:
    """(M, C, K): Σ_n v_n ‖y_n − W x_n‖² + λ ‖W‖² for every λ (M,)."""
    return (against / (squares + penalties.double()[:, None, None]).clamp_min(1e-30)).float()


def projection_of(squares: Tensor, against: Tensor, head: Thin, penalties: Tensor) -> Tensor:
    """(M, r, K): Σ_n v_n ‖y_n − H P x_n‖² + λ ‖P‖² for heads by their factors and λ (M,), as coordinates of
    P in the directions `right` of the head."""
    values = head.values.double()
    spread = values.square()[:, :, None] * squares + penalties.double()[:, None, None]
    found = values[:, :, None] * (head.left.double().mT @ against) / spread.clamp_min(1e-30)
    return found.float()


def head_of(system: Tensor, against: Tensor, penalties: Tensor) -> Tensor:
    """(M, C, q): Σ_n v_n ‖y_n − H s_n‖² + λ ‖H‖² for rows s by Σ v s sᵀ (M, q, q), which is used up, and
    Σ v s (y − share)ᵀ (M, q, C)."""
    system.diagonal(dim1=1, dim2=2).add_(penalties.double()[:, None])
    return torch.linalg.solve(system, against).mT.float()
