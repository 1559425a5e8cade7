"""Cross-entropies that are linear in what is sought, one problem per candidate.

Shapes: M candidates, N rows, K coordinates, J outputs of the map that is sought, C classes.

Every problem minimises, over θ (J, K), a bias b (C,) and a blend a (C,),

    Σ_n v_n · CE(θ x_n · mix + shift_n + f_n · b + a ∘ o_n, y_n) + λ/2 · (‖θ‖² + ‖a‖²)

`mix` (J, C) stands for a head behind a projection (J outputs of the projection), `shift` for logits that are
there already, f_n is 1 where the bias counts (the target's rows) and 0 elsewhere, and o_n are offsets of
which each class takes a share of its own. Bias and blend are for problems without `mix`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from uml_train.fullbatch.lbfgs import minimise

_TINY = 1e-30  # a probability below this may have lost its digits


class CrossEntropy:
    """What `minimise` asks for: logits, losses and gradients; parameters are (M, J, K'), where K' counts a
    column for the bias and one for the blend.

    Args:
        x: (N, K) float32 that all candidates share, or (M, N, K); best in axes in which its scatter is
            diagonal: the steps are scaled by it.
        labels: (N,) int64.
        importance: (N,) or (M, N) v.
        penalties: (M,) λ.
        mix: (M, J, C), or None where θ are the classes' own rows (J = C).
        shift: (M, N, C) or what broadcasts to it, or None.
        counts: (N,) f, or None for no bias.
        offsets: (N, C) o, or None for no blend.
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
        offsets: Tensor | None = None,
        start: Tensor | None = None,
    ) -> None:
        models = len(penalties)
        self.biased = counts is not None
        if counts is not None:
            x = torch.cat([x, counts.unsqueeze(1).expand(*x.shape[:-1], 1)], dim=-1)
        self.x = x if x.ndim == 3 else x.expand(models, -1, -1)
        self.mix, self.shift, self.offsets = mix, shift, offsets
        self.importance = importance.expand(models, len(labels)).unsqueeze(2)
        self.index = labels[None, :, None].expand(models, -1, 1)
        outputs, width = classes if mix is None else mix.shape[1], self.x.shape[2]
        blends = 0 if offsets is None else 1
        free = torch.ones(width + blends)
        if self.biased:
            free[width - 1] = 0.0
        self.penalty = penalties[:, None, None] * free
        self.start = torch.zeros(models, outputs, width + blends)
        if start is not None:
            self.start[:, :, : start.shape[2]] = start
        # Where classes are equally likely the Hessian is the scatter times mix · (I − 11ᵀ/C) · mixᵀ / C.
        share = torch.full((1, outputs), (1.0 - 1.0 / classes) / classes)
        if mix is not None:
            share = (mix - mix.mean(2, keepdim=True)).square().sum(2) / classes
        seen = _scatter(self.importance, x).unsqueeze(1).expand(-1, outputs, -1)
        if offsets is not None:
            centred = (offsets - offsets.mean(1, keepdim=True)).square()
            own = (self.importance[:1] * centred).sum(1).unsqueeze(2)
            seen = torch.cat([seen[:1], own], dim=2)
        self.scale = (
            (share.unsqueeze(2) * seen + self.penalty).clamp_min(torch.finfo(torch.float32).tiny).rsqrt()
        )

    def keep(self, index: Tensor) -> None:
        """Keep the candidates at `index` (M′,) int64 only."""
        if self.x.stride(0):
            self.x = self.x.index_select(0, index)
        else:
            self.x = self.x[: len(index)]
        self.importance = _some(self.importance, index)
        self.index = self.index[: len(index)]
        self.penalty, self.scale = (t.index_select(0, index) for t in (self.penalty, self.scale))
        self.mix = None if self.mix is None else self.mix.index_select(0, index)

    def first_logits(self) -> Tensor:
        """(M, N, C) at `start`."""
        models, rows, _ = self.x.shape
        if bool(self.start.any()):
            z = self.logits(self.start)
        else:
            z = self.x.new_zeros(models, rows, self.start.shape[1] if self.mix is None else self.mix.shape[2])
        return z if self.shift is None else z + self.shift

    def logits(self, theta: Tensor) -> Tensor:
        """(M, N, C) of θ (M, J, K'), without the shift."""
        if self.offsets is None:
            z = torch.bmm(self.x, theta.mT)
        else:
            z = torch.bmm(self.x, theta[..., :-1].mT) + self.offsets * theta[..., -1].unsqueeze(1)
        return z if self.mix is None else torch.bmm(z, self.mix)

    def loss(self, z: Tensor, theta: Tensor, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Losses (M,) and probabilities (M, N, C), of the candidates at `index`."""
        importance, penalty = self.importance, self.penalty
        if index is not None:
            importance, penalty = _some(importance, index), penalty.index_select(0, index)
        labels = self.index[: len(z)]
        p = torch.softmax(z, dim=2)
        own = p.gather(2, labels)
        if bool((own > _TINY).all()):
            log_p = own.log()
        else:
            log_p = torch.log_softmax(z, dim=2).gather(2, labels)
        fit = -(log_p * importance).sum((1, 2))
        return fit + 0.5 * torch.linalg.vecdot((penalty * theta).flatten(1), theta.flatten(1)), p

    def gradient(self, p: Tensor, theta: Tensor) -> Tensor:
        """(M, J, K′) at probabilities `p` (M, N, C), which are used up."""
        # ∂CE/∂z = p − onehot(y); behind the map that is v_n (p_n − y_n) mixᵀ for every row, times x_nᵀ.
        residual = p.scatter_add_(2, self.index, torch.full_like(self.index, -1, dtype=p.dtype))
        residual *= self.importance
        blend = None if self.offsets is None else (residual * self.offsets).sum(1).unsqueeze(2)
        if self.mix is not None:
            residual = torch.bmm(residual, self.mix.mT)
        found = torch.bmm(residual.mT, self.x)
        if blend is not None:
            found = torch.cat([found, blend], dim=2)
        return found.addcmul_(self.penalty, theta)

    def solve(self, tolerance: float, max_steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """θ (M, J, K), the biases (M, C) (zeros without), and the number of steps (M,)."""
        classes = self.start.shape[1] if self.mix is None else self.mix.shape[2]
        found, steps, _ = minimise(self, tolerance, max_steps)
        if self.biased:
            return found[..., :-1], found[..., -1], steps
        return found, found.new_zeros(len(found), classes), steps


def _scatter(importance: Tensor, x: Tensor) -> Tensor:
    """Σ_n v_n x_n² (M, K) of x (N, K) or (M, N, K); (1, K) where nothing in it differs between candidates."""
    if x.ndim == 2 and not importance.stride(0):
        return (importance[0] * x.square()).sum(0, keepdim=True)
    return (importance * x.square()).sum(1)


def _some(values: Tensor, index: Tensor) -> Tensor:
    """The entries at `index` along the first dimension; without a copy where all are alike."""
    return values.index_select(0, index) if values.stride(0) else values[: len(index)]
