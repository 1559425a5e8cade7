"""Squared errors of one-hot labels: every factor in closed form.

Shapes: M candidates, N rows, K coordinates, q directions of the head's space, W shared width, C classes.
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


def ridge(x: Tensor, y: Tensor, importance: Tensor, penalties: Tensor) -> Tensor:
    """(M, C, K): Σ_n v_n ‖y_n − W x_n‖² + λ ‖W‖² for every λ (M,).

    Args:
        x: (N, K) coordinates in the axes of the weighted scatter, in which it is diagonal.
        y: (N, C) centred targets; importance: (N,) v.
    """
    weighted = importance.double()[:, None] * x.double()
    squares = (weighted * x.double()).sum(0)
    return ((y.double().T @ weighted) / (squares + penalties.double()[:, None, None])).float()


def projection_of(x: Tensor, y: Tensor, importance: Tensor, head: Thin, penalties: Tensor) -> Tensor:
    """(M, W, K): Σ_n v_n ‖y_n − H P x_n‖² + λ ‖P‖² for heads by their factors and λ (M,); as `ridge`."""
    weighted = importance.double()[:, None] * x.double()
    squares, values = (weighted * x.double()).sum(0), head.values.double()
    against = head.left.double().mT @ (y.double().T @ weighted)
    spread = values.square()[:, :, None] * squares + penalties.double()[:, None, None]
    found = values[:, :, None] * against / spread.clamp_min(1e-30)
    return head.right @ found.float()


def head_of(rows: Tensor, y: Tensor, importance: Tensor, penalties: Tensor) -> Tensor:
    """(M, C, q): Σ_n v_n ‖y_n − H s_n‖² + λ ‖H‖² for rows s (M, N, q), v (M, N) and λ (M,)."""
    s = rows.double()
    weighted = s * importance.double().unsqueeze(2)
    system = weighted.mT @ s
    system.diagonal(dim1=1, dim2=2).add_(penalties.double()[:, None])
    return torch.linalg.solve(system, weighted.mT @ y.double()).mT.float()
