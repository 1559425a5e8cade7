"""`HeadBank`: many small models that share their weights between modalities, trained in one go.

Shapes: B rows in a batch, D features of a modality, W shared width, C classes, P parameters of one model.

One model (paper 4.2) is a bias-free projection W × D for every modality that has one, a head C × W that all
modalities share, and one logit scale per modality. A step takes one batch from every modality, sums the
cross-entropies (auxiliaries weighted by alpha) and makes one AdamW update; validation selects the step.

On a CPU the bank runs its models one after the other rather than as one batched product: all of a model
(weights, gradient, both moments, its few rows) then stays in the processor's cache for thousands of steps,
where a batched step over 72 models streams some 200 MB through memory. Gradients are written out by hand,
because autograd's bookkeeping costs several times the arithmetic at these sizes. As every model is trained
by itself, what else is in the bank cannot touch its bits.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from uml_train.batches import BatchOrder
from uml_train.grid import Candidate, Schedule
from uml_train.heads import HeadWeights, initial_weights


@dataclass(frozen=True, eq=False, kw_only=True)
class Samples:
    """The rows of one modality that a model sees.

    Args:
        name: the modality's name; with the seed it fixes the order of the batches.
        features: (n, D) float32.
        labels: (n,) int64, in 0 … C − 1.
        projected: whether the modality goes through a projection of its own.
        logit_scale: what its logits are multiplied by at the start (100 for aligned encoders).
    """

    name: str
    features: Tensor
    labels: Tensor
    projected: bool
    logit_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or self.labels.shape != self.features.shape[:1]:
            shapes = f"features {tuple(self.features.shape)}, labels {tuple(self.labels.shape)}"
            raise ValueError(f"{self.name}: {shapes}; expected (n, D) and (n,)")
        if len(self.labels) == 0:
            raise ValueError(f"{self.name}: no rows")


@dataclass(frozen=True, eq=False, kw_only=True)
class HeadModel:
    """One model to be trained: its data, its hyperparameters and its seed.

    Args:
        target: rows of the modality that is to be classified.
        auxiliaries: rows of the other modalities, unpaired; empty for the unimodal methods.
        validation: (features (n, D), labels (n,)) of the target, for selection.
        classes: C.
        width: W, the width of the shared space.
        head: (C, W) initial head rows, or None for the usual random ones.
        alpha: weight of each auxiliary's loss.
    """

    target: Samples
    auxiliaries: tuple[Samples, ...] = ()
    validation: tuple[Tensor, Tensor]
    classes: int
    width: int
    seed: int
    candidate: Candidate
    head: Tensor | None = None
    alpha: float = 1.0


@dataclass(eq=False, kw_only=True)
class Fitted:
    """What came of one model: the weights of its best validated step, and its history.

    `val_acc` is in percent; `best_step` counts the updates made before the best evaluation; `history` holds
    one record per evaluation: `step`, `val_acc` and the mean training loss per modality since the last one.
    """

    weights: HeadWeights
    val_acc: float
    best_step: int
    steps: int
    history: list[dict[str, float]] = field(default_factory=list)


class HeadBank:
    """Trains models independently of each other: each equals the same model trained alone, bit for bit."""

    def __init__(self, models: Sequence[HeadModel], schedule: Schedule) -> None:
        self.models = list(models)
        self.schedule = schedule

    def fit(self, on_done: Callable[[int, Fitted], None] | None = None) -> list[Fitted]:
        """Train every model; `on_done(index, fitted)` is called as each one finishes.

        Runs on one thread: the products are far too small to be worth two.
        """
        orders = BatchOrder()
        fitted = []
        with _one_thread():
            for index, model in enumerate(self.models):
                result = _Trainer(model, self.schedule, orders).fit()
                fitted.append(result)
                if on_done is not None:
                    on_done(index, result)
        return fitted


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Trainer:
    """One model in flat, preallocated memory: parameters, gradient and moments are vectors of length P."""

    def __init__(self, model: HeadModel, schedule: Schedule, orders: BatchOrder) -> None:
        self.model, self.schedule, self.orders = model, schedule, orders
        self.streams = [model.target, *model.auxiliaries]
        self.learns_scale = model.candidate.learnable_scale
        start = initial_weights(
            [(s.name, s.features.shape[1], s.projected, s.logit_scale) for s in self.streams],
            classes=model.classes,
            width=model.width,
            seed=model.seed,
            head=model.head,
        )
        self.flat = start.flatten(scales=self.learns_scale)
        self.grad = torch.zeros_like(self.flat)
        self.moment1, self.moment2 = torch.zeros_like(self.flat), torch.zeros_like(self.flat)
        self.updates = torch.zeros(())
        self.weights = start.view_of(self.flat, scales=self.learns_scale)
        self.grads = start.view_of(self.grad, scales=self.learns_scale)
        self.batch_sizes = [min(model.candidate.batch_size, len(s.labels)) for s in self.streams]
        self.ends = [sum(self.batch_sizes[: i + 1]) for i in range(len(self.streams))]
        rows = self.ends[-1]
        self.z = torch.empty(rows, model.width)
        self.inputs = [
            torch.empty(b, s.features.shape[1]) if s.projected else self.z[end - b : end]
            for s, b, end in zip(self.streams, self.batch_sizes, self.ends, strict=True)
        ]
        self.row_weight = torch.cat(
            [torch.full((b, 1), (1.0 if i == 0 else model.alpha) / b) for i, b in enumerate(self.batch_sizes)]
        )
        self.row_scale = torch.cat(
            [torch.full((b, 1), s.logit_scale) for s, b in zip(self.streams, self.batch_sizes, strict=True)]
        )
        self.scaled = self.learns_scale or any(s.logit_scale != 1.0 for s in self.streams)
        self.products = torch.empty(rows, model.classes)
        self.delta = torch.empty(rows, model.classes)
        self.dz = torch.empty(rows, model.width)
        self.dz_used = max(
            (e for s, e in zip(self.streams, self.ends, strict=True) if s.projected), default=0
        )
        self.minus_one = torch.full((rows, 1), -1.0)

    def fit(self) -> Fitted:
        schedule = self.schedule
        best, best_step, best_weights = -1.0, 0, self.flat.clone()
        history: list[dict[str, float]] = []
        losses: list[Tensor] = []
        waited, step = 0, 0
        chunk = schedule.eval_every
        for step in range(schedule.steps):
            if step % chunk == 0:
                rows, labels = self._batches(step // chunk)
            at = step % chunk
            losses.append(self._gradient([r[at] for r in rows], labels[at]))
            self._update(step)
            if schedule.evaluates(step):
                accuracy = self._validate()
                history.append({"step": step + 1, "val_acc": accuracy, **self._mean_losses(losses)})
                losses.clear()
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

    def _batches(self, chunk: int) -> tuple[list[Tensor], Tensor]:
        """Row indices per modality (steps, B) and the labels of all of them (steps, ΣB, 1) of one chunk."""
        rows = [
            self.orders.chunk(
                seed=self.model.seed,
                name=s.name,
                rows=len(s.labels),
                batch=b,
                steps=self.schedule.eval_every,
                chunk=chunk,
            )
            for s, b in zip(self.streams, self.batch_sizes, strict=True)
        ]
        labels = [s.labels[r] for s, r in zip(self.streams, rows, strict=True)]
        return rows, torch.cat(labels, dim=1).unsqueeze(-1)

    def _gradient(self, rows: list[Tensor], labels: Tensor) -> Tensor:
        """Fill `self.grad` with the gradient of one step; returns each row's probability of its label."""
        weights, grads = self.weights, self.grads
        for i, stream in enumerate(self.streams):
            torch.index_select(stream.features, 0, rows[i], out=self.inputs[i])
            projection = weights.projections[i]
            if projection is not None:
                torch.mm(self.inputs[i], projection.T, out=self._rows_of(self.z, i))
        torch.mm(self.z, weights.head.T, out=self.products)
        if self.learns_scale:
            for i in range(len(self.streams)):
                self._rows_of(self.row_scale, i).fill_(weights.scales[i])
        logits = self.products * self.row_scale if self.scaled else self.products
        torch.softmax(logits, dim=1, out=self.delta)
        likelihood = self.delta.gather(1, labels)
        self.delta.scatter_add_(1, labels, self.minus_one).mul_(self.row_weight)
        if self.learns_scale:
            slope = (self.delta * self.products).sum(1)
            for i in range(len(self.streams)):
                grads.scales[i] = self._rows_of(slope, i).sum()
        if self.scaled:
            self.delta.mul_(self.row_scale)
        torch.mm(self.delta.T, self.z, out=grads.head)
        if self.dz_used:
            torch.mm(self.delta[: self.dz_used], weights.head, out=self.dz[: self.dz_used])
        for i, grad in enumerate(grads.projections):
            if grad is not None:
                torch.mm(self.inputs[i].T, self._rows_of(self.dz, i), out=grad.T)
        return likelihood

    def _rows_of(self, values: Tensor, i: int) -> Tensor:
        return values[self.ends[i] - self.batch_sizes[i] : self.ends[i]]

    def _validate(self) -> float:
        features, labels = self.model.validation
        return accuracy(self.weights.logits(features), labels)

    def _mean_losses(self, likelihoods: list[Tensor]) -> dict[str, float]:
        loss = torch.stack(likelihoods).clamp_min_(1e-38).log_().neg_()
        means = {}
        for i, stream in enumerate(self.streams):
            value = float(loss[:, self.ends[i] - self.batch_sizes[i] : self.ends[i]].mean())
            means[f"loss.{stream.name}"] = value if math.isfinite(value) else math.inf
        return means


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of rows whose largest logit is their label's, in percent. Shapes (n, C) and (n,)."""
    return 100.0 * float((logits.argmax(1) == labels).sum()) / len(labels)
