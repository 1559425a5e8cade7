"""Many multinomial logistic regressions at once.

Shapes: G draws, R penalties (G · R problems), N samples a draw, D features, C classes, K ≤ min(N, D) + 2
coordinates.

Every problem minimises

    Σ_n v_n · CE(z_n, y_n) + λ/2 · (‖W‖² + Σ_c (a_c − 1)²),    z_nc = w_c · x_n + b_c + a_c · o_nc

over W, b and, where offsets o are given, a. With λ = 1/C this is scikit-learn's objective. Four things make
it fast, and none changes the minimum:

- features are centred (the bias takes it up) and turned into the axes of their scatter, so that few samples
  leave few coordinates (K < N) and the Hessian is nearly diagonal;
- that diagonal, brought to 1 by a change of scale, is where each step of L-BFGS starts from (`H0`);
- logits are linear in the parameters, so that a line search costs no matrix product;
- all penalties of a draw take their steps together.

Draws are solved one after the other, so that none depends on what is solved beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from uml_train.fullbatch.cross_entropy import CrossEntropy
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
    at_once = max(1, _LOGITS_AT_ONCE // (samples * classes))
    weight, bias, means, blend, steps, converged = [], [], [], [], [], []
    for g in range(draws):
        axes = principal(features[g], importance[g])
        # Penalties of a draw share its rows. Draws are solved one by one: so none depends on the others.
        found = [
            minimise(
                CrossEntropy(
                    axes.coordinates,
                    labels[g],
                    importance[g],
                    some,
                    classes,
                    counts=torch.ones(samples),
                    # The blend is sought as what it differs from 1 by, which is what is penalised.
                    shift=None if offsets is None else offsets[g],
                    offsets=None if offsets is None else offsets[g],
                ),
                tolerance,
                max_steps,
            )
            for some in penalties[g].split(at_once)
        ]
        theta, taken, solved = (torch.cat(parts) for parts in zip(*found, strict=True))
        width = axes.coordinates.shape[1]
        weight.append(theta[..., :width] @ axes.basis.T)
        bias.append(theta[..., width])
        means.append(axes.mean)
        blend.append(None if offsets is None else 1.0 + theta[..., width + 1])
        steps.append(taken)
        converged.append(solved)
    blends = [b for b in blend if b is not None]
    return Softmax(
        torch.stack(weight),
        torch.stack(bias),
        torch.stack(means),
        torch.stack(blends) if blends else None,
        torch.stack(steps),
        torch.stack(converged),
    )


@dataclass(frozen=True, eq=False)
class Axes:
    """Centred features as coordinates (N, K) float32 in an orthonormal basis (D, K) float32 of their span;
    mean (D,) float64."""

    coordinates: Tensor
    basis: Tensor
    mean: Tensor


def principal(features: Tensor, importance: Tensor, *, centred: bool = True) -> Axes:
    """The axes of the weighted scatter. In double precision: the Gram matrix squares the condition.

    Args:
        features: (N, D) and importance: (N,), of any floating type; the result is that of `Axes`.
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
