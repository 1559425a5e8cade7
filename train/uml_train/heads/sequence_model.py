"""One model with the transformer trunk, on sequences of tokens (paper 3.2, Alg. 2, h a transformer).

Shapes: T tokens of a batch, n samples of a step (all modalities together), C classes, P parameters.

Gradients are autograd's: at these sizes its bookkeeping is nothing beside the products. Each modality goes
through the blocks by itself, so that short texts are not padded to the length of pictures.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from uml_train.data.batches import BatchOrder
from uml_train.data.rows import Held, Packed, as_rows
from uml_train.heads.fitting import Fitting
from uml_train.heads.models import HeadModel
from uml_train.heads.stacked import HALF_SCALE, PRECISIONS
from uml_train.heads.transformer import Block
from uml_train.heads.weights import HeadWeights
from uml_train.protocols.grid import Schedule


class SequenceTrainer(Fitting):
    """One model; its rows lie on the device where they are in memory, else each batch is brought there."""

    def __init__(
        self,
        model: HeadModel,
        schedule: Schedule,
        orders: BatchOrder,
        *,
        device: torch.device,
        precision: str = "float32",
    ) -> None:
        super().__init__(model, schedule, orders, device)
        self.device = device
        self.half = PRECISIONS[precision] if device.type == "cuda" else None
        self.loss_scale = HALF_SCALE if self.half == torch.float16 else 1.0
        sources = [as_rows(s.features) for s in self.streams]
        self.sources = [s.to(device) if isinstance(s, Held) else s for s in sources]
        self.leaves = _leaves(self.weights, self.grads, scales=self.learns_scale)

    def _gradient(self, step: int) -> Tensor:
        at, full, active = self._place(step)
        labels = self.all_labels[full] if step % self.plan.period == 0 else self.target_labels[at]
        labels = labels.to(self.device)
        self.grad.zero_()
        found = []
        for i in range(active):
            samples = self._bring(i, self.rows[i][at if i == 0 else full])
            wanted = self._rows_of(labels, i)
            with torch.autocast(self.device.type, dtype=self.half, enabled=self.half is not None):
                logits = self.leaves.logits(samples, i).float()
            likelihood = functional.log_softmax(logits, dim=1).gather(1, wanted)
            weight = (1.0 if i == 0 else self.model.alpha) / self.plan.batch[i]
            (likelihood.sum() * (-weight * self.loss_scale)).backward()
            found.append(likelihood.detach().exp())
        if self.loss_scale != 1.0:
            self.grad.div_(self.loss_scale)
        return torch.cat(found)

    def _bring(self, i: int, rows: Tensor) -> Packed:
        """One step's samples of a modality, on the device."""
        feed, source = self.feeds[i], self.sources[i]
        if feed is None or isinstance(source, Held):
            return source.take(rows.to(self.device) if isinstance(source, Held) else rows).to(self.device)
        parts = [_kept(next(feed)) for _ in range(self.plan.rows[i] // self.plan.batch[i])]
        return _joined(parts).to(self.device)


def _leaves(weights: HeadWeights, grads: HeadWeights, *, scales: bool) -> HeadWeights:
    """The weights as leaves of autograd, whose gradients are added into the vector that `grads` views."""

    def leaf(value: Tensor, grad: Tensor) -> Tensor:
        found = value.detach().requires_grad_()
        found.grad = grad
        return found

    projections = [
        None if p is None or g is None else leaf(p, g)
        for p, g in zip(weights.projections, grads.projections, strict=True)
    ]
    blocks = tuple(
        Block(*(leaf(p, g) for p, g in zip(ours.parts, theirs.parts, strict=True)))
        for ours, theirs in zip(weights.blocks, grads.blocks, strict=True)
    )
    return HeadWeights(
        projections,
        leaf(weights.head, grads.head),
        leaf(weights.scales, grads.scales) if scales else weights.scales,
        None,
        blocks,
    )


def _kept(samples: Packed) -> Packed:
    """A copy: a loader's memory is used again for its next batch."""
    return Packed(samples.values.clone(), samples.offsets)


def _joined(parts: list[Packed]) -> Packed:
    if len(parts) == 1:
        return parts[0]
    values = torch.cat([part.values for part in parts])
    if parts[0].offsets is None:
        return Packed(values)
    lengths = torch.cat([part.offsets.diff() for part in parts if part.offsets is not None])
    return Packed(values, torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]))
