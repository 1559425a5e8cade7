"""What training one model is, whatever its trunk: draw, gradient, AdamW, validation, early stopping.

Shapes: n rows of a step (all modalities together), C classes, P parameters of the model.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Generator

import torch
from torch import Tensor

from uml_train.data.batches import BatchOrder, BatchPlan
from uml_train.data.rows import Packed, Stored, as_rows
from uml_train.heads.models import Fitted, HeadModel
from uml_train.protocols.grid import Schedule

_WATCHED = 128  # training rows of each modality that the reported training accuracy looks at


class Fitting(ABC):
    """One model in flat memory: parameters, gradient and moments are vectors of length P."""

    def __init__(
        self, model: HeadModel, schedule: Schedule, orders: BatchOrder, device: torch.device | str = "cpu"
    ) -> None:
        self.model, self.schedule, self.orders = model, schedule, orders
        self.streams = model.streams
        self.learns_scale = model.candidate.learnable_scale
        self.template = start = model.start()
        self.flat = start.flatten(scales=self.learns_scale).to(device)
        self.grad = torch.zeros_like(self.flat)
        self.moment1, self.moment2 = torch.zeros_like(self.flat), torch.zeros_like(self.flat)
        self.weights = start.view_of(self.flat, scales=self.learns_scale)
        self.grads = start.view_of(self.grad, scales=self.learns_scale)
        self.plan = plan = BatchPlan.of(model)
        self.ends = [sum(plan.rows[: i + 1]) for i in range(len(self.streams))]
        self.feeds = [self._feed(i) for i in range(len(self.streams))]
        watched = [watched_rows([len(s.labels)])[0][0] for s in self.streams]
        self.watched = [
            (s.rows.take(rows).to(device), s.labels[rows].to(device))
            for s, rows in zip(self.streams, watched, strict=True)
        ]

    @abstractmethod
    def _gradient(self, step: int) -> Tensor:
        """Fill `self.grad` with one step's gradient; returns each row's probability of its label (n, 1)."""

    def fit(self) -> Fitted:
        """Train to the end of the schedule or of patience; gives the best validated weights."""
        try:
            return self._fit()
        finally:
            for feed in self.feeds:
                if feed is not None:
                    feed.close()

    def _fit(self) -> Fitted:
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
        weights = self.template.view_of(best_weights.cpu(), scales=self.learns_scale).clone()
        return Fitted(made=weights, val_acc=best, best_step=best_step, steps=step + 1, history=history)

    def _update(self, step: int) -> None:
        """One AdamW update, with weight decay on every parameter.

        The kernel behind `torch.optim.AdamW(fused=True)`, called on one flat vector: weights, gradient and
        moments pass through the cache once. The optimiser around it costs more than the update itself.
        """
        torch._fused_adamw_(
            [self.flat],
            [self.grad],
            [self.moment1],
            [self.moment2],
            [],
            [self.updates[step - self.start]],
            lr=self.schedule.lr(self.model.candidate.lr, step),
            beta1=0.9,
            beta2=0.999,
            weight_decay=self.model.candidate.weight_decay,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )

    def _feed(self, i: int) -> Generator[Packed, None, None] | None:
        """The batches of a modality that stays in its store; None where its rows are in memory."""
        stream = self.streams[i]
        if not isinstance(stream.features, Stored):
            return None
        labels = stream.labels if self.model.balanced else None
        return stream.features.batches(
            seed=self.model.seed, name=stream.name, batch=self.plan.batch[i], labels=labels
        )

    def _draw(self, start: int, steps: int) -> None:
        """Row indices per modality, and the labels of whole steps and of steps without auxiliaries."""
        self.rows = self.orders.draw(self.model, self.plan, start, steps)
        labels = [s.labels[r] for s, r in zip(self.streams, self.rows, strict=True)]
        self.target_labels = labels[0].unsqueeze(-1)
        with_auxiliaries = self.plan.steps_with_auxiliaries(start, steps)
        self.all_labels = torch.cat([labels[0][with_auxiliaries], *labels[1:]], dim=1).unsqueeze(-1)
        self.start = start
        counts = torch.arange(start + 1, start + steps + 1, dtype=torch.float32, device=self.flat.device)
        self.updates = counts.unbind()
        self.first_full = -(-start // self.plan.period)

    def _place(self, step: int) -> tuple[int, int, int]:
        """Where a step is in the draw, where among those with auxiliaries, and how many modalities it has."""
        at, full = step - self.start, step // self.plan.period - self.first_full
        return at, full, len(self.streams) if step % self.plan.period == 0 else 1

    def _rows_of(self, values: Tensor, i: int) -> Tensor:
        return values[self.ends[i] - self.plan.rows[i] : self.ends[i]]

    def _validate(self) -> float:
        """Accuracy on the validation rows, in percent."""
        features, labels = self.model.validation
        correct = 0
        for part, block in as_rows(features).blocks():
            logits = self.weights.logits(block.to(self.flat.device))
            correct += int((logits.argmax(1).cpu() == labels[part]).sum())
        return 100.0 * correct / len(labels)

    def _remarks(self, likelihoods: list[Tensor]) -> dict[str, float]:
        """Per modality the mean loss since the last evaluation, and the accuracy on some training rows.

        On the same rows, for every auxiliary: the cosine between the gradients that its loss and the target's
        have with respect to the shared head, above 0 where both pull it one way. A modality that had no batch
        since has no loss; a gradient of zero has no cosine.
        """
        remarks = {}
        gradients: list[Tensor] = []
        for i, stream in enumerate(self.streams):
            parts = [self._rows_of(p, i) for p in likelihoods if len(p) >= self.ends[i]]
            if parts:
                loss = float(torch.stack(parts).clamp_min_(1e-38).log_().neg_().mean())
                remarks[f"loss.{stream.name}"] = loss if math.isfinite(loss) else math.inf
            samples, labels = self.watched[i]
            space = self.weights.space(samples, i)
            logits = self.weights.scales[i] * (space @ self.weights.head.T)
            remarks[f"acc.{stream.name}"] = 100.0 * float((logits.argmax(1) == labels).sum()) / len(labels)
            if len(self.streams) > 1:
                gradients.append(head_gradient(space, logits, self.weights.scales[i], labels))
                cosine = float(torch.cosine_similarity(gradients[0].flatten(), gradients[i].flatten(), dim=0))
                if i and cosine:
                    remarks[f"cos.{stream.name}"] = cosine
        return remarks


def head_gradient(
    space: Tensor, logits: Tensor, scale: Tensor, labels: Tensor, counts: Tensor | None = None
) -> Tensor:
    """(…, C, W) gradient of the mean cross-entropy with respect to the shared head.

    Args:
        space: (…, n, W) what the head gets; logits: (…, n, C) scale · space · headᵀ; labels: (…, n).
        scale: (…,) of the logits.
        counts: (…, n) bool, the rows that count; None: all.
    """
    # ∂R = Δᵀ H with Δ = s · (softmax − Y) / n: the equations of `one_model.py`, for the head alone.
    delta = logits.softmax(-1)
    delta.scatter_add_(-1, labels.unsqueeze(-1), delta.new_full((1,), -1.0).expand(*labels.shape, 1))
    rows: Tensor | int = labels.shape[-1]
    if counts is not None:
        delta = delta * counts.unsqueeze(-1)
        rows = counts.sum(-1)[..., None, None]
    return (delta.mT @ space) * (scale[..., None, None] / rows)


def watched_rows(lengths: list[int]) -> tuple[Tensor, Tensor]:
    """Evenly spaced rows (M, n) int64 of M sets of such lengths, and (M, n) bool: which are no padding."""
    spaced = [torch.arange(0, length, -(-length // _WATCHED)) for length in lengths]
    rows = torch.nn.utils.rnn.pad_sequence(spaced, batch_first=True)
    counts = torch.tensor([len(part) for part in spaced])
    return rows, torch.arange(rows.shape[1]) < counts[:, None]
