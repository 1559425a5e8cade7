"""One model, trained by itself in the processor's cache.

Shapes: B rows of a step (all modalities together), D features of a modality, W shared width, H hidden
width of the trunk, C classes, P parameters of the model.

Gradients are written out by hand, because autograd's bookkeeping costs several times the arithmetic at these
sizes; the same equations, batched, are in `stacked.py`. With X_m the rows of modality m, P_m its projection,
Z the rows of all modalities one below the other, head R, scale s and weight r of each row (1 over the batch,
an auxiliary's times alpha), labels y as one-hot rows Y, and U, V the trunk (without one H = Z):

    Z_m = X_m P_mᵀ,  A = relu(Z Uᵀ),  H = Z + A Vᵀ,  L = s ∘ H Rᵀ,  loss = −Σ r log softmax(L)_y

The derivative of −log softmax(L)_y by L is softmax(L) − Y (Bishop, PRML, eq. 4.109). By the chain rule:

    Δ = r ∘ (softmax(L) − Y),  ∂s = Σ Δ ∘ H Rᵀ over a modality's rows,  then Δ ← s ∘ Δ
    ∂R = Δᵀ H,  ∂H = Δ R
    ∂V = ∂Hᵀ A,  ∂A = (∂H V) ∘ [A > 0],  ∂U = ∂Aᵀ Z,  ∂Z = ∂H + ∂A U
    ∂P_m = ∂Z_mᵀ X_m

A step without auxiliaries has no rows of theirs; their projections and scales then have gradient 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from uml_train.data.batches import BatchOrder
from uml_train.heads.fitting import Fitting
from uml_train.heads.models import HeadModel
from uml_train.protocols.grid import Schedule


class Trainer(Fitting):
    """One model of pooled features; every buffer of a step is there before the first."""

    def __init__(self, model: HeadModel, schedule: Schedule, orders: BatchOrder) -> None:
        super().__init__(model, schedule, orders)
        plan = self.plan
        rows = self.ends[-1]
        self.z = torch.empty(rows, model.width)
        self.inputs = [
            torch.empty(n, s.dim) if s.projected else self.z[end - n : end]
            for s, n, end in zip(self.streams, plan.rows, self.ends, strict=True)
        ]
        self.row_weight = torch.cat(
            [
                torch.full((n, 1), (1.0 if i == 0 else model.alpha) / b)
                for i, (n, b) in enumerate(zip(plan.rows, plan.batch, strict=True))
            ]
        )
        self.row_scale = torch.cat(
            [torch.full((n, 1), s.logit_scale) for s, n in zip(self.streams, plan.rows, strict=True)]
        )
        self.scaled = self.learns_scale or any(s.logit_scale != 1.0 for s in self.streams)
        self.products = torch.empty(rows, model.classes)
        self.delta = torch.empty(rows, model.classes)
        self.dh = torch.empty(rows, model.width)
        self.projected_end = max(
            (e for s, e in zip(self.streams, self.ends, strict=True) if s.projected), default=0
        )
        self.minus_one = torch.full((rows, 1), -1.0)
        # Views made once: at these sizes a view costs as much as the arithmetic on it.
        self.z_of = [self._rows_of(self.z, i) for i in range(len(self.streams))]
        self.dz_of = [self._rows_of(self.dh, i) for i in range(len(self.streams))]
        self.head_wc = self.weights.head.T
        self.projections_dw = [None if p is None else p.T for p in self.weights.projections]
        self.grads_dw = [None if p is None else p.T for p in self.grads.projections]
        self.inputs_dn = [x.T for x in self.inputs]
        step_wide = (self.z, self.products, self.delta, self.row_scale, self.row_weight, self.minus_one)
        self.parts = {n: [values[:n] for values in step_wide] for n in (self.ends[0], rows)}
        self.delta_cn = {n: self.delta[:n].T for n in self.parts}
        # The rows whose gradient goes on behind the head: all with a trunk, else those of projections.
        goes_on = {n: n if self.weights.trunk is not None else min(n, self.projected_end) for n in self.parts}
        self.behind = {n: (used, self.delta[:used], self.dh[:used]) for n, used in goes_on.items()}

    def _bring(self, i: int, rows: Tensor) -> None:
        """Put one step's rows of a modality into its inputs."""
        feed, inputs, features = self.feeds[i], self.inputs[i], self.streams[i].features
        if isinstance(features, Tensor):
            torch.index_select(features, 0, rows, out=inputs)
        elif feed is None:
            inputs.copy_(features.take(rows).values)
        else:
            for part in inputs.split(self.plan.batch[i]):
                part.copy_(next(feed).values)

    def _gradient(self, step: int) -> Tensor:
        """Fill `self.grad` with the gradient of one step; returns each row's probability of its label."""
        weights, grads = self.weights, self.grads
        at, full, active = self._place(step)
        n = self.ends[active - 1]
        labels = self.all_labels[full] if step % self.plan.period == 0 else self.target_labels[at]
        z, products, delta, row_scale, row_weight, minus_one = self.parts[n]
        for i in range(active):
            self._bring(i, self.rows[i][at if i == 0 else full])
            projection = self.projections_dw[i]
            if projection is not None:
                torch.mm(self.inputs[i], projection, out=self.z_of[i])
        h = z
        if weights.trunk is not None:
            up, down = weights.trunk  # U, V
            active_units = torch.relu_(z @ up.T)  # A
            h = torch.addmm(z, active_units, down.T)
        torch.mm(h, self.head_wc, out=products)
        if self.learns_scale:
            for i in range(active):
                self._rows_of(self.row_scale, i).fill_(weights.scales[i])
        logits = products * row_scale if self.scaled else products
        torch.softmax(logits, dim=1, out=delta)
        likelihood = delta.gather(1, labels)
        delta.scatter_add_(1, labels, minus_one).mul_(row_weight)  # Δ, before the scale
        if self.learns_scale:
            slope = (delta * products).sum(1)
            for i in range(len(self.streams)):
                grads.scales[i] = self._rows_of(slope, i).sum() if i < active else 0.0
        if self.scaled:
            delta.mul_(row_scale)
        torch.mm(self.delta_cn[n], h, out=grads.head)
        used, delta_behind, dz = self.behind[n]
        if used:
            torch.mm(delta_behind, weights.head, out=dz)
        if weights.trunk is not None and grads.trunk is not None:
            up, down = weights.trunk
            torch.mm(dz.T, active_units, out=grads.trunk[1])
            d_raised = (dz @ down).mul_(active_units > 0)  # ∂A; dz was ∂H so far
            torch.mm(d_raised.T, z, out=grads.trunk[0])
            dz.addmm_(d_raised, up)
        for i, grad in enumerate(self.grads_dw):
            if grad is not None:
                if i < active:
                    torch.mm(self.inputs_dn[i], self.dz_of[i], out=grad)
                else:
                    grad.zero_()
        return likelihood
