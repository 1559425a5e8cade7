"""One model, trained by itself in the processor's cache.

Shapes: B rows of a step (all modalities together), D features of a modality, W shared width, H hidden
width of the trunk, C classes, P parameters of the model.

Gradients are written out by hand, because autograd's bookkeeping costs several times the arithmetic at these
sizes; the same equations, batched, are in `stacked.py`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from uml_train.bank import Fitted, HeadModel
from uml_train.batches import BatchOrder, BatchPlan
from uml_train.grid import Schedule

_WATCHED = 128  # training rows of each modality that the reported training accuracy looks at


class Trainer:
    """One model in flat, preallocated memory: parameters, gradient and moments are vectors of length P."""

    def __init__(self, model: HeadModel, schedule: Schedule, orders: BatchOrder) -> None:
        self.model, self.schedule, self.orders = model, schedule, orders
        self.streams = model.streams
        self.learns_scale = model.candidate.learnable_scale
        start = model.start()
        self.flat = start.flatten(scales=self.learns_scale)
        self.grad = torch.zeros_like(self.flat)
        self.moment1, self.moment2 = torch.zeros_like(self.flat), torch.zeros_like(self.flat)
        self.updates = torch.zeros(())
        self.weights = start.view_of(self.flat, scales=self.learns_scale)
        self.grads = start.view_of(self.grad, scales=self.learns_scale)
        self.plan = plan = BatchPlan.of(model)
        self.ends = [sum(plan.rows[: i + 1]) for i in range(len(self.streams))]
        rows = self.ends[-1]
        self.z = torch.empty(rows, model.width)
        self.inputs = [
            torch.empty(n, s.features.shape[1]) if s.projected else self.z[end - n : end]
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
        # Views made once: at these sizes a slice costs as much as the arithmetic on it.
        self.z_of = [self._rows_of(self.z, i) for i in range(len(self.streams))]
        self.dz_of = [self._rows_of(self.dh, i) for i in range(len(self.streams))]
        step_wide = (self.z, self.products, self.delta, self.row_scale, self.row_weight, self.minus_one)
        self.parts = {n: [values[:n] for values in step_wide] for n in (self.ends[0], rows)}
        self.watched = [watched_rows([len(s.labels)])[0][0] for s in self.streams]

    def fit(self) -> Fitted:
        schedule = self.schedule
        best, best_step, best_weights = -1.0, 0, self.flat.clone()
        history: list[dict[str, float]] = []
        likelihoods: list[Tensor] = []
        waited, step = 0, 0
        for step in range(schedule.steps):
            if step % schedule.eval_every == 0:
                self._draw(step, min(schedule.eval_every, schedule.steps - step))
            likelihoods.append(self._gradient(step))
            self._update(step)
            if schedule.evaluates(step):
                accuracy = self._validate()
                history.append({"step": step + 1, "val_acc": accuracy, **self._remarks(likelihoods)})
                likelihoods.clear()
                if accuracy > best:
                    best, best_step, waited = accuracy, step + 1, 0
                    best_weights.copy_(self.flat)
                else:
                    waited += 1
                    if waited >= schedule.patience:
                        break
        self.flat.copy_(best_weights)
        return Fitted(
            weights=self.weights.clone(), val_acc=best, best_step=best_step, steps=step + 1, history=history
        )

    def _update(self, step: int) -> None:
        """One AdamW update, with weight decay on every parameter.

        The kernel behind `torch.optim.AdamW(fused=True)`, called on one flat vector: weights, gradient and
        moments pass through the cache once. The optimiser around it costs more than the update itself.
        """
        self.updates += 1
        torch._fused_adamw_(
            [self.flat],
            [self.grad],
            [self.moment1],
            [self.moment2],
            [],
            [self.updates],
            lr=self.schedule.lr(self.model.candidate.lr, step),
            beta1=0.9,
            beta2=0.999,
            weight_decay=self.model.candidate.weight_decay,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )

    def _draw(self, start: int, steps: int) -> None:
        """Row indices per modality, and the labels of whole steps and of steps without auxiliaries."""
        self.rows = self.orders.draw(self.model, self.plan, start, steps)
        labels = [s.labels[r] for s, r in zip(self.streams, self.rows, strict=True)]
        self.target_labels = labels[0].unsqueeze(-1)
        with_auxiliaries = self.plan.steps_with_auxiliaries(start, steps)
        self.all_labels = torch.cat([labels[0][with_auxiliaries], *labels[1:]], dim=1).unsqueeze(-1)
        self.start = start
        self.first_full = -(-start // self.plan.period)

    def _gradient(self, step: int) -> Tensor:
        """Fill `self.grad` with the gradient of one step; returns each row's probability of its label."""
        weights, grads = self.weights, self.grads
        at, full = step - self.start, step // self.plan.period - self.first_full
        whole = step % self.plan.period == 0
        active = len(self.streams) if whole else 1
        n = self.ends[active - 1]
        labels = self.all_labels[full] if whole else self.target_labels[at]
        z, products, delta, row_scale, row_weight, minus_one = self.parts[n]
        for i in range(active):
            rows = self.rows[i][at if i == 0 else full]
            torch.index_select(self.streams[i].features, 0, rows, out=self.inputs[i])
            projection = weights.projections[i]
            if projection is not None:
                torch.mm(self.inputs[i], projection.T, out=self.z_of[i])
        h = z
        if weights.trunk is not None:
            up, down = weights.trunk
            active_units = torch.relu_(z @ up.T)
            h = torch.addmm(z, active_units, down.T)
        torch.mm(h, weights.head.T, out=products)
        if self.learns_scale:
            for i in range(active):
                self._rows_of(self.row_scale, i).fill_(weights.scales[i])
        logits = products * row_scale if self.scaled else products
        torch.softmax(logits, dim=1, out=delta)
        likelihood = delta.gather(1, labels)
        delta.scatter_add_(1, labels, minus_one).mul_(row_weight)
        if self.learns_scale:
            slope = (delta * products).sum(1)
            for i in range(len(self.streams)):
                grads.scales[i] = self._rows_of(slope, i).sum() if i < active else 0.0
        if self.scaled:
            delta.mul_(row_scale)
        torch.mm(delta.T, h, out=grads.head)
        used = n if weights.trunk is not None else min(n, self.projected_end)
        dz = self.dh[:used]
        if used:
            torch.mm(delta[:used], weights.head, out=dz)
        if weights.trunk is not None and grads.trunk is not None:
            up, down = weights.trunk
            torch.mm(dz.T, active_units, out=grads.trunk[1])
            d_raised = (dz @ down).mul_(active_units > 0)
            torch.mm(d_raised.T, z, out=grads.trunk[0])
            dz.addmm_(d_raised, up)
        for i, grad in enumerate(grads.projections):
            if grad is not None:
                if i < active:
                    torch.mm(self.inputs[i].T, self.dz_of[i], out=grad.T)
                else:
                    grad.zero_()
        return likelihood

    def _rows_of(self, values: Tensor, i: int) -> Tensor:
        return values[self.ends[i] - self.plan.rows[i] : self.ends[i]]

    def _validate(self) -> float:
        features, labels = self.model.validation
        return accuracy(self.weights.logits(features), labels)

    def _remarks(self, likelihoods: list[Tensor]) -> dict[str, float]:
        """Per modality the mean loss since the last evaluation, and the accuracy on some training rows.

        A modality that had no batch since has no loss.
        """
        remarks = {}
        for i, stream in enumerate(self.streams):
            parts = [self._rows_of(p, i) for p in likelihoods if len(p) >= self.ends[i]]
            if parts:
                loss = float(torch.stack(parts).clamp_min_(1e-38).log_().neg_().mean())
                remarks[f"loss.{stream.name}"] = loss if math.isfinite(loss) else math.inf
            rows = self.watched[i]
            logits = self.weights.logits(stream.features[rows], i)
            remarks[f"acc.{stream.name}"] = accuracy(logits, stream.labels[rows])
        return remarks


def watched_rows(lengths: list[int]) -> tuple[Tensor, Tensor]:
    """Evenly spaced rows (M, n) of sets of M lengths, and (M, n) which of them count: all but the padding."""
    spaced = [torch.arange(0, length, -(-length // _WATCHED)) for length in lengths]
    rows = torch.nn.utils.rnn.pad_sequence(spaced, batch_first=True)
    counts = torch.tensor([len(part) for part in spaced])
    return rows, torch.arange(rows.shape[1]) < counts[:, None]


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of rows whose largest logit is their label's, in percent. Shapes (n, C) and (n,)."""
    return 100.0 * float((logits.argmax(1) == labels).sum()) / len(labels)
