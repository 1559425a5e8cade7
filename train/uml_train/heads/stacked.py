"""Many models as one: every product is a batched one over the models of a stack, every update one pass.

Shapes: M models of a stack, n rows of a step (all modalities together), D features of a modality, W shared
width, H hidden width of the trunk, C classes, P parameters of a model.

Models share a stack when they have the same shapes, batch sizes and schedule; learning rate, decay, alpha,
seed and data are each model's own. The equations are those of `one_model.py`. Whatever a stack's models have
in common (rows of the same draw) lies on the device once. A model that has finished leaves: the rest move
together and its memory is free for others. A bank that does not fit is cut into several stacks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from uml_train.data.batches import BatchOrder, BatchPlan
from uml_train.data.pool import Pool
from uml_train.data.rows import Held, Rows, as_rows
from uml_train.heads.adamw import update_for
from uml_train.heads.fitting import head_gradient, watched_rows
from uml_train.heads.models import Fitted, HeadModel
from uml_train.heads.stacks import stacks
from uml_train.heads.weights import HeadWeights
from uml_train.protocols.grid import Schedule

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Gradients of half-precision products below 6e-8 would vanish; float16 carries them scaled.
HALF_SCALE = 1024.0
_VALIDATION_BLOCK = 1 << 26  # numbers in the largest intermediate of a validation


def fit_stacked(
    models: Sequence[HeadModel],
    schedules: Sequence[Schedule],
    orders: BatchOrder,
    *,
    device: torch.device,
    precision: str = "float32",
    memory: int | None = None,
) -> Iterator[tuple[int, Fitted]]:
    """Train models in stacks and give each with its index as it finishes."""
    if memory is None:
        memory = int(0.8 * torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else 1 << 30
    for members in stacks(models, schedules, memory):
        stack = _Stack(
            [models[i] for i in members], members, schedules[members[0]], orders, device, precision
        )
        yield from stack.fit()


class _Stack:
    """Models of one shape, trained together."""

    def __init__(
        self,
        models: Sequence[HeadModel],
        indices: Sequence[int],
        schedule: Schedule,
        orders: BatchOrder,
        device: torch.device,
        precision: str,
    ) -> None:
        self.models, self.indices = list(models), list(indices)
        self.schedule, self.orders, self.device = schedule, orders, device
        self.half = PRECISIONS[precision]
        self.grad_scale = HALF_SCALE if self.half == torch.float16 else 1.0
        first = models[0]
        self.plan = plan = BatchPlan.of(first)
        self.ends = [sum(plan.rows[: i + 1]) for i in range(len(plan.rows))]
        self.learns_scale = first.candidate.learnable_scale
        self.template = first.start()
        self.flat = torch.stack([m.start().flatten(scales=self.learns_scale) for m in models]).to(device)
        self.moment1, self.moment2 = torch.zeros_like(self.flat), torch.zeros_like(self.flat)
        self.best = self.flat.clone()
        self.scales = torch.tensor([[s.logit_scale for s in m.streams] for m in models], device=device)
        self.alpha = torch.tensor([m.alpha for m in models], device=device)
        self.decay = torch.tensor([[m.candidate.weight_decay] for m in models], device=device)
        self.pools = [Pool([m.streams[i] for m in models], device) for i in range(len(plan.rows))]
        self.best_acc = [-1.0] * len(models)
        self.best_step = [0] * len(models)
        self.waited = [0] * len(models)
        self.history: list[list[dict[str, float]]] = [[] for _ in models]
        self.update = update_for(device)
        self.unscale = torch.tensor(1.0 / self.grad_scale, device=device)
        self._arrange()

    def _arrange(self) -> None:
        """Buffers and views for the models that are left."""
        self.grad = torch.zeros_like(self.flat)
        self.weights = self._views(self.flat)
        self.grads = self._views(self.grad)
        parts = [
            torch.full((len(self.models), n, 1), 1.0 / b, device=self.device)
            * (1.0 if i == 0 else self.alpha[:, None, None])
            for i, (n, b) in enumerate(zip(self.plan.rows, self.plan.batch, strict=True))
        ]
        self.row_weight = torch.cat(parts, 1) * self.grad_scale
        self.validation: list[tuple[slice, Rows, Tensor]] = []
        start = 0
        for m in range(1, len(self.models) + 1):
            if m == len(self.models) or self.models[m].validation[0] is not self.models[start].validation[0]:
                x, y = self.models[start].validation
                self.validation.append((slice(start, m), self._there(x), y.to(self.device)))
                start = m

    def _there(self, features: Tensor | Rows) -> Rows:
        rows = as_rows(features)
        return rows.to(self.device) if isinstance(rows, Held) else rows

    def _views(self, flat: Tensor) -> HeadWeights:
        return self.template.view_of(flat, scales=self.learns_scale)

    def fit(self) -> Iterator[tuple[int, Fitted]]:
        schedule = self.schedule
        likelihoods: list[Tensor] = []
        for step in range(schedule.steps):
            if step % schedule.eval_every == 0:
                self._draw(step, min(schedule.eval_every, schedule.steps - step))
            likelihoods.append(self._gradient(step))
            at = step - self.start
            self.update(
                self.flat,
                self.grad,
                self.moment1,
                self.moment2,
                self.rates[at],
                self.decay,
                *self.corrections[at],
                self.unscale,
            )
            if schedule.evaluates(step):
                self._judge(step, likelihoods)
                likelihoods = []
                yield from self._leave(step, last=step == schedule.steps - 1)
                if not self.models:
                    return

    def _draw(self, start: int, steps: int) -> None:
        drawn = [self.orders.draw(model, self.plan, start, steps) for model in self.models]
        self.rows = [
            torch.stack([d[i] for d in drawn], 1).to(self.device) + pool.offsets
            for i, pool in enumerate(self.pools)
        ]
        self.start, self.first_full = start, -(-start // self.plan.period)
        # Of all steps at once: a copy to the device at every step would make it wait for the host.
        span = range(start, start + steps)
        rates = [[[self.schedule.lr(m.candidate.lr, step)] for m in self.models] for step in span]
        self.rates = torch.tensor(rates, device=self.device)
        pairs = [[1.0 - 0.9 ** (step + 1), math.sqrt(1.0 - 0.999 ** (step + 1))] for step in span]
        self.corrections = torch.tensor(pairs, device=self.device)

    def _product(self, a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
        if self.half is None:
            return torch.bmm(a, b) if out is None else torch.bmm(a, b, out=out)
        product = torch.bmm(a.to(self.half), b.to(self.half))
        return product.float() if out is None else out.copy_(product)

    def _gradient(self, step: int) -> Tensor:
        """Fill `self.grad` for one step; returns each row's probability of its label (M, n, 1)."""
        weights, grads = self.weights, self.grads
        at, full = step - self.start, step // self.plan.period - self.first_full
        active = len(self.pools) if step % self.plan.period == 0 else 1
        n = self.ends[active - 1]
        rows = [self.rows[i][at if i == 0 else full] for i in range(active)]
        inputs = [self.pools[i].take(rows[i]) for i in range(active)]
        labels = torch.cat([self.pools[i].labels[rows[i]] for i in range(active)], 1).unsqueeze(-1)
        parts = [
            x if projection is None else self._product(x, projection.mT)
            for x, projection in zip(inputs, weights.projections, strict=False)
        ]
        z = h = torch.cat(parts, 1)
        if weights.trunk is not None:
            up, down = weights.trunk
            hidden = self._product(z, up.mT).relu_()
            h = z + self._product(hidden, down.mT)
        products = self._product(h, weights.head.mT)
        scales = weights.scales if self.learns_scale else self.scales
        row_scale = torch.cat(
            [scales[:, i, None, None].expand(-1, self.plan.rows[i], 1) for i in range(active)], 1
        )
        delta = torch.softmax(products * row_scale, dim=2)
        likelihood = delta.gather(2, labels)
        delta.scatter_add_(2, labels, torch.full_like(likelihood, -1.0)).mul_(self.row_weight[:, :n])
        if self.learns_scale:
            slope = (delta * products).sum(2)
            for i in range(len(self.pools)):
                grads.scales[:, i] = self._rows_of(slope, i).sum(1) if i < active else 0.0
        delta = delta * row_scale
        self._product(delta.mT, h, grads.head)
        dz = self._product(delta, weights.head)
        if weights.trunk is not None and grads.trunk is not None:
            up, down = weights.trunk
            self._product(dz.mT, hidden, grads.trunk[1])
            d_raised = self._product(dz, down).mul_(hidden > 0)
            self._product(d_raised.mT, z, grads.trunk[0])
            dz = dz + self._product(d_raised, up)
        for i, grad in enumerate(grads.projections):
            if grad is not None:
                if i < active:
                    self._product(inputs[i].mT, self._rows_of(dz, i), grad.mT)
                else:
                    grad.zero_()
        return likelihood

    def _rows_of(self, values: Tensor, i: int) -> Tensor:
        return values[:, self.ends[i] - self.plan.rows[i] : self.ends[i]]

    def _judge(self, step: int, likelihoods: list[Tensor]) -> None:
        """Validate all models; keep those weights that are the best so far."""
        accuracies = self._validate()
        remarks = self._remarks(likelihoods)
        better = []
        for m, value in enumerate(accuracies):
            self.history[m].append({"step": step + 1, "val_acc": value, **remarks[m]})
            better.append(value > self.best_acc[m])
            if better[m]:
                self.best_acc[m], self.best_step[m], self.waited[m] = value, step + 1, 0
            else:
                self.waited[m] += 1
        chosen = torch.tensor(better, device=self.device)
        self.best[chosen] = self.flat[chosen]

    def _validate(self) -> list[float]:
        found: list[float] = []
        for members, features, labels in self.validation:
            count = members.stop - members.start
            step = max(1, _VALIDATION_BLOCK // (count * self.models[0].width))
            correct = torch.zeros(count, device=self.device)
            for part, block in features.blocks():
                values = block.values.to(self.device)
                for x, y in zip(values.split(step), labels[part].split(step), strict=True):
                    space = self._space(x.expand(count, *x.shape), 0, members)
                    logits = torch.bmm(space, self.weights.head[members].mT)  # a scale orders nothing
                    correct += (logits.argmax(2) == y).sum(1)
            found += [100.0 * value / len(labels) for value in correct.tolist()]
        return found

    def _space(self, x: Tensor, i: int, members: slice = slice(None)) -> Tensor:
        """What the heads get (M, n, W) of one modality's rows (M, n, D)."""
        projection, trunk = self.weights.projections[i], self.weights.trunk
        z = x if projection is None else torch.bmm(x, projection[members].mT)
        if trunk is not None:
            z = z + torch.bmm(torch.bmm(z, trunk[0][members].mT).relu_(), trunk[1][members].mT)
        return z

    def _remarks(self, likelihoods: list[Tensor]) -> list[dict[str, float]]:
        remarks: list[dict[str, float]] = [{} for _ in self.models]
        scales = self.weights.scales if self.learns_scale else self.scales
        gradients: list[Tensor] = []
        for i, pool in enumerate(self.pools):
            parts = [self._rows_of(p, i) for p in likelihoods if p.shape[1] >= self.ends[i]]
            losses: list[float | None] = [None] * len(self.models)
            if parts:
                losses = torch.stack(parts).clamp_min_(1e-38).log_().neg_().mean((0, 2, 3)).tolist()
            rows, mask = watched_rows([len(m.streams[i].labels) for m in self.models])
            index = rows.to(self.device) + pool.offsets
            space, labels = self._space(pool.take(index), i), pool.labels[index]
            logits = scales[:, i, None, None] * torch.bmm(space, self.weights.head.mT)
            hits, seen = logits.argmax(2) == labels, mask.to(self.device)
            cosines = [0.0] * len(self.models)
            if len(self.pools) > 1:
                gradients.append(head_gradient(space, logits, scales[:, i], labels, seen).flatten(1))
                cosines = torch.cosine_similarity(gradients[0], gradients[i], dim=1).tolist()
            shares = ((hits & seen).sum(1) / seen.sum(1)).tolist()
            for m, model in enumerate(self.models):
                name, loss = model.streams[i].name, losses[m]
                if loss is not None:
                    remarks[m][f"loss.{name}"] = loss if math.isfinite(loss) else math.inf
                remarks[m][f"acc.{name}"] = 100.0 * shares[m]
                if i and cosines[m]:
                    remarks[m][f"cos.{name}"] = cosines[m]
        return remarks

    def _leave(self, step: int, *, last: bool) -> Iterator[tuple[int, Fitted]]:
        """Give the models that have finished and make room for the others."""
        done = [last or waited >= self.schedule.patience for waited in self.waited]
        if not any(done):
            return
        for m in [m for m, finished in enumerate(done) if finished]:
            weights = self._views(self.best[m].cpu()).clone()
            if not self.learns_scale:
                weights.scales = self.scales[m].cpu()
            yield (
                self.indices[m],
                Fitted(
                    made=weights,
                    val_acc=self.best_acc[m],
                    best_step=self.best_step[m],
                    steps=step + 1,
                    history=self.history[m],
                ),
            )
        stay = [m for m, finished in enumerate(done) if not finished]
        for name in ("models", "indices", "best_acc", "best_step", "waited", "history"):
            setattr(self, name, [getattr(self, name)[m] for m in stay])
        index = torch.tensor(stay, dtype=torch.int64, device=self.device)
        self.weights = self.grads = self._views(self.flat)
        self.grad = self.flat[:0]
        for name in ("flat", "moment1", "moment2", "best", "scales", "alpha", "decay"):
            setattr(self, name, getattr(self, name).index_select(0, index))
        self.rows = [rows.index_select(1, index) for rows in self.rows]
        self.rates = self.rates.index_select(1, index)
        for pool in self.pools:
            pool.keep(index)
        if stay:
            self._arrange()
