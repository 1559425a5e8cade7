"""Many multinomial logistic regressions at once.

Shapes: G draws, R penalties (M = G · R problems), N samples a draw, D features, C classes, K ≤ min(N, D) + 2
coordinates, P = C · K parameters of a problem.

Every problem minimises

    Σ_n v_n · CE(z_n, y_n) + λ/2 · (‖W‖² + Σ_c (a_c − 1)²),    z_nc = w_c · x_n + b_c + a_c · o_nc

over W, b and, where offsets o are given, a. With λ = 1/C this is scikit-learn's objective. Four things make
it fast, and none changes the minimum:

- features are centred (the bias takes it up) and turned into the axes of their scatter, so that few samples
  leave few coordinates (K < N) and the Hessian is nearly diagonal;
- that diagonal, brought to 1 by a change of scale, is where each step of L-BFGS starts from (`H0`);
- logits are linear in the parameters, so that a line search costs no matrix product;
- all penalties of a draw share their products: (N, K) × (K, R · C).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from uml_train.fullbatch.lbfgs import minimise

_NEGLIGIBLE = 1e-6  # singular values below this share of the largest carry nothing
_LOGITS_AT_ONCE = 30_000_000


@dataclass(frozen=True, eq=False)
class Softmax:
    """Fitted classifiers: `weight` (G, R, C, D), `bias` (G, R, C), `blend` (G, R, C) or None, float32.

    Weight and bias are for features without `means` (G, D) float64, the weighted mean of each draw: a bias
    for features as they are would lose its digits where they share a large offset.

    `steps` (G, R) int64 counts iterations, `converged` (G, R) bool tells where the tolerance was reached.
    """

    weight: Tensor
    bias: Tensor
    means: Tensor
    blend: Tensor | None
    steps: Tensor
    converged: Tensor


def fit_softmax(
    features: Tensor,
    labels: Tensor,
    penalties: Tensor,
    classes: int,
    *,
    importance: Tensor | None = None,
    offsets: Tensor | None = None,
    tolerance: float = 1e-4,
    max_steps: int = 500,
) -> Softmax:
    """Fit one classifier per draw and penalty.

    Args:
        features: (G, N, D) float32.
        labels: (G, N) int64 below `classes`.
        penalties: (G, R) λ, positive, in the units of the features.
        importance: (G, N) v, positive; None: 1.
        offsets: (G, N, C) o; None: none.
        tolerance: a problem is solved where the decrease that its next step promises is below the square of
            this share of what all steps before have brought.

    Raises:
        ValueError: shapes that do not fit, or a penalty that is not positive.
    """
    draws, samples, _ = features.shape
    if labels.shape != (draws, samples) or penalties.ndim != 2 or len(penalties) != draws:
        shapes = [tuple(t.shape) for t in (features, labels, penalties)]
        raise ValueError(f"features, labels and penalties are {shapes}; expected (G, N, D), (G, N), (G, R)")
    if not bool((penalties > 0).all()):
        raise ValueError("penalties must be positive")
    if importance is None:
        importance = torch.ones(draws, samples)
    axes = [principal(x, v) for x, v in zip(features, importance, strict=True)]
    width = max(a.coordinates.shape[1] for a in axes)
    x = torch.stack(
        [torch.nn.functional.pad(a.coordinates, (0, width - a.coordinates.shape[1])) for a in axes]
    )
    x = torch.cat([x, torch.ones(draws, samples, 1)], dim=2)
    at_once = max(1, _LOGITS_AT_ONCE // (draws * samples * classes))
    parts = []
    for some in penalties.split(at_once, dim=1):
        problem = SoftmaxProblem(x, labels, importance, some, classes, offsets)
        parts.append(minimise(problem, tolerance, max_steps))
    theta, steps, converged = (torch.cat(found, dim=1) for found in zip(*parts, strict=True))
    weight = torch.stack(
        [t[..., : a.basis.shape[1]] @ a.basis.T for t, a in zip(theta[..., :width], axes, strict=True)]
    )
    means = torch.stack([a.mean for a in axes])
    blend = None if offsets is None else theta[..., width + 1]
    return Softmax(weight, theta[..., width], means, blend, steps, converged)


@dataclass(frozen=True, eq=False)
class Axes:
    """Centred features as coordinates (N, K) in an orthonormal basis (D, K) of their span; mean (D,)
    float64."""

    coordinates: Tensor
    basis: Tensor
    mean: Tensor


def principal(features: Tensor, importance: Tensor, *, centred: bool = True) -> Axes:
    """The axes of the weighted scatter. In double precision: the Gram matrix squares the condition.

    Args:
        features: (N, D); importance: (N,).
        centred: whether the mean is subtracted; otherwise it is given as zeros.
    """
    x, v = features.double(), importance.double().unsqueeze(1)
    mean = (v * x).sum(0) / v.sum() if centred else torch.zeros_like(x[0])
    x = x - mean
    y = v.sqrt() * x
    if x.shape[0] < x.shape[1]:
        values, left = torch.linalg.eigh(y @ y.T)
        keep = values > values[-1] * _NEGLIGIBLE**2
        basis = y.T @ left[:, keep] / values[keep].sqrt()
    else:
        values, right = torch.linalg.eigh(y.T @ y)
        basis = right[:, values > values[-1] * _NEGLIGIBLE**2]
    return Axes((x @ basis).float(), basis.float(), mean)


class SoftmaxProblem:
    """Logits, losses and gradients of G × R problems; parameters are (G, R, C, K)."""

    def __init__(
        self,
        x: Tensor,
        labels: Tensor,
        importance: Tensor,
        penalties: Tensor,
        classes: int,
        offsets: Tensor | None,
    ) -> None:
        self.x, self.offsets, self.classes = x, offsets, classes
        self.importance = importance
        self.labels = labels
        draws, _, width = x.shape
        extra = 0 if offsets is None else 1
        self.shape = (draws, penalties.shape[1], classes, width + extra)
        # The bias, the last column of x, is free.
        free = torch.ones(width + extra)
        free[width - 1] = 0.0
        self.penalty = penalties[:, :, None, None] * free
        self.centre = torch.zeros(width + extra)
        v = importance.unsqueeze(2)
        curvature = (v * x.square()).sum(1)[:, None, None, :].expand(draws, 1, classes, width)
        if offsets is not None:
            self.centre[width] = 1.0
            seen = (v * (offsets - offsets.mean(2, keepdim=True)).square()).sum(1)
            curvature = torch.cat([curvature, seen[:, None, :, None]], dim=3)
        # Where classes are equally likely the Hessian's diagonal is (1 − 1/C)/C times the scatter's.
        share = (1.0 - 1.0 / classes) / classes
        # Coordinates in which this diagonal is 1.
        self.scale = (share * curvature + self.penalty).clamp_min(torch.finfo(curvature.dtype).tiny).rsqrt()
        self.total = importance.sum(1)

    def keep(self, index: Tensor) -> None:
        """Keep the penalties at `index` only."""
        self.penalty = self.penalty.index_select(1, index)
        self.scale = self.scale.index_select(1, index)
        self.shape = (self.shape[0], len(index), *self.shape[2:])

    def logits(self, theta: Tensor) -> Tensor:
        """(G, N, R, C) of parameters (G, R, C, K)."""
        draws, samples, width = self.x.shape
        some = theta.shape[1]
        flat = theta[..., :width].reshape(draws, some * self.classes, width)
        z = torch.bmm(self.x, flat.transpose(1, 2)).view(draws, samples, some, self.classes)
        if self.offsets is not None:
            z += self.offsets.unsqueeze(2) * theta[..., width].unsqueeze(1)
        return z

    def loss(self, z: Tensor, theta: Tensor, penalty: Tensor) -> tuple[Tensor, Tensor]:
        """Loss (G, R) and log-probabilities (G, N, R, C) at logits z."""
        log_p = torch.log_softmax(z, dim=3)
        index = self.labels[:, :, None, None].expand(*z.shape[:3], 1)
        fit = -(log_p.gather(3, index).squeeze(3) * self.importance.unsqueeze(2)).sum(1)
        return fit + 0.5 * (penalty * self._offset(theta).square()).sum((2, 3)), log_p

    def _offset(self, theta: Tensor) -> Tensor:
        """From where the penalty pulls to."""
        return theta if self.offsets is None else theta - self.centre

    def gradient(self, log_p: Tensor, theta: Tensor) -> Tensor:
        """(G, R, C, K); `log_p` is used up."""
        # ∂CE/∂z = p − onehot(y), and z is linear: Σ_n v_n (p_n − y_n) x_nᵀ, and the penalty's λ (θ − centre).
        residual = log_p.exp_()
        index = self.labels[:, :, None, None].expand(*residual.shape[:3], 1)
        residual.scatter_add_(3, index, torch.full_like(index, -1, dtype=residual.dtype))
        residual *= self.importance[:, :, None, None]
        draws, samples, some, classes = residual.shape
        flat = residual.view(draws, samples, some * classes)
        found = torch.bmm(flat.transpose(1, 2), self.x).view(draws, some, classes, -1)
        if self.offsets is not None:
            blend = (residual * self.offsets.unsqueeze(2)).sum(1)
            found = torch.cat([found, blend.unsqueeze(3)], dim=3)
        return found.addcmul_(self.penalty, self._offset(theta))
