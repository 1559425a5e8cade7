"""Cross-entropies that are linear in what is sought, one problem per candidate.

Shapes: M candidates, N rows, K coordinates, J outputs of the map that is sought, C classes.

Every problem minimises, over θ (J, K) and a bias b (C,),

    Σ_n v_n · CE(θ x_n · mix + shift_n + f_n · b, y_n) + λ/2 · ‖θ‖²

`mix` (J, C) stands for a head behind a projection (J outputs of the projection), `shift` for logits that are
there already, and f_n is 1 where the bias counts (the target's rows) and 0 elsewhere.
"""

from __future__ import annotations

import torch
from torch import Tensor

from uml_train.fullbatch.lbfgs import minimise


class LinearProblem:
    """What `minimise` asks for: logits, losses and gradients; parameters are (M, 1, J + C?, K').

    Args:
        x: (M, N, K) float32, best in axes in which its scatter is diagonal: the steps are scaled by it.
        labels: (N,) int64.
        importance: (M, N) v.
        penalties: (M,) λ.
        mix: (M, J, C), or None where θ are the classes' own rows (J = C).
        shift: (M, N, C) or None.
        counts: (N,) f, or None for no bias; a bias needs `mix` None.
        start: (M, J, K) where the search begins; None: zeros.
    """

    def __init__(
        self,
        x: Tensor,
        labels: Tensor,
        importance: Tensor,
        penalties: Tensor,
        classes: int,
        *,
        mix: Tensor | None = None,
        shift: Tensor | None = None,
        counts: Tensor | None = None,
        start: Tensor | None = None,
    ) -> None:
        if counts is not None:
            x = torch.cat([x, counts.expand(len(x), -1).unsqueeze(2)], dim=2)
        self.x, self.labels, self.importance, self.mix, self.shift = x, labels, importance, mix, shift
        models, rows, width = x.shape
        outputs = classes if mix is None else mix.shape[1]
        self.shape = (models, 1, outputs, width)
        free = torch.ones(width)
        if counts is not None:
            free[-1] = 0.0
        self.penalty = penalties[:, None, None, None] * free
        self.centre = torch.zeros(models, 1, outputs, width)
        if start is not None:
            self.centre[:, 0, :, : start.shape[2]] = start
        # Where classes are equally likely the Hessian is the scatter times mix · (I − 11ᵀ/C) · mixᵀ / C.
        share = torch.full((models, outputs), (1.0 - 1.0 / classes) / classes)
        if mix is not None:
            share = (mix - mix.mean(2, keepdim=True)).square().sum(2) / classes
        curvature = (importance.unsqueeze(2) * x.square()).sum(1)
        self.scale = (
            ((share[:, :, None] * curvature[:, None, :]).unsqueeze(1) + self.penalty).clamp_min(1e-12).rsqrt()
        )
        self.index = labels[None, :, None].expand(models, rows, 1)

    def keep(self, index: Tensor) -> None:
        """One penalty a candidate: there is nothing to leave out."""

    def logits(self, theta: Tensor) -> Tensor:
        """(M, N, 1, C) of θ (M, 1, J, K), without the shift."""
        z = torch.bmm(self.x, theta[:, 0].mT)
        return (z if self.mix is None else torch.bmm(z, self.mix)).unsqueeze(2)

    def loss(self, z: Tensor, theta: Tensor, penalty: Tensor) -> tuple[Tensor, Tensor]:
        """Losses (M, 1) and log-probabilities (M, N, 1, C)."""
        logits = z.squeeze(2) if self.shift is None else z.squeeze(2) + self.shift
        log_p = torch.log_softmax(logits, dim=2)
        fit = -(log_p.gather(2, self.index).squeeze(2) * self.importance).sum(1, keepdim=True)
        return fit + 0.5 * (penalty * theta.square()).sum((2, 3)), log_p.unsqueeze(2)

    def gradient(self, log_p: Tensor, theta: Tensor) -> Tensor:
        """(M, 1, J, K); `log_p` is used up."""
        # ∂CE/∂z = p − onehot(y); behind the map that is v_n (p_n − y_n) mixᵀ for every row, times x_nᵀ.
        residual = log_p.squeeze(2).exp_()
        residual.scatter_add_(2, self.index, torch.full_like(self.index, -1, dtype=residual.dtype))
        residual *= self.importance.unsqueeze(2)
        if self.mix is not None:
            residual = torch.bmm(residual, self.mix.mT)
        return torch.bmm(residual.mT, self.x).unsqueeze(1).addcmul_(self.penalty, theta)

    def solve(self, tolerance: float, max_steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """θ (M, J, K), the biases (M, C) (zeros without), and the number of steps (M,)."""
        found, steps, _ = minimise(self, tolerance, max_steps)
        theta = found[:, 0]
        if bool((self.penalty[..., -1] == 0).all()):
            return theta[..., :-1], theta[..., -1], steps[:, 0]
        classes = theta.shape[1] if self.mix is None else self.mix.shape[2]
        return theta, theta.new_zeros(len(theta), classes), steps[:, 0]
