"""The network of one model, backbones and head as one module, and what it is fed with.

Shapes: B samples of a batch, D features of a modality, W shared width, C classes, S modalities, the target
first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from uml_train.finetune.network.backbones import Backbone
from uml_train.finetune.samples import Loader
from uml_train.heads.models import HeadModel
from uml_train.heads.weights import HeadWeights


@dataclass(eq=False, kw_only=True)
class TunedStream:
    """Where one modality's inputs come from.

    `rows` (n,) are manifest rows of the model's samples, for a modality with a network of its own
    (`backbone`, `loader`); a modality of cached features has neither. `unit` features are divided by their
    norm, as cached ones of an encoder that shares a space with another's are.
    """

    backbone: Backbone | None = None
    loader: Loader | None = None
    rows: np.ndarray | None = None
    lr: float | None = None
    unit: bool = False


@dataclass(eq=False, kw_only=True)
class TuningTask:
    """One model to be trained: the head model (its target's features are yet to be made) and its inputs.

    `validation` (v,) are manifest rows of the target; `unfreeze_at` is the step from which nothing is frozen,
    None for never.
    """

    model: HeadModel
    streams: list[TunedStream]
    validation: np.ndarray
    unfreeze_at: int | None = None


class TunedNetwork(nn.Module):
    """Backbones and head as one module. Its `forward` is a step's loss, so that it can be run in parallel."""

    def __init__(self, model: HeadModel, streams: Sequence[TunedStream]) -> None:
        super().__init__()
        start = model.start()
        self.backbones = [stream.backbone for stream in streams]
        self.unit = [stream.unit for stream in streams]
        self.networks = nn.ModuleDict(
            {str(i): b.network for i, b in enumerate(self.backbones) if b is not None}
        )
        self.projections = nn.ParameterDict(
            {str(i): nn.Parameter(p) for i, p in enumerate(start.projections) if p is not None}
        )
        self.head = nn.Parameter(start.head)
        self.scales = nn.Parameter(start.scales, requires_grad=model.candidate.learnable_scale)
        self.trunk = None if start.trunk is None else nn.ParameterList(start.trunk)

    def logits(self, stream: int, inputs: Any) -> Tensor:
        """Logits (B, C) float32 of one modality: samples as its network takes them, or cached features."""
        backbone = self.backbones[stream]
        features = inputs if backbone is None else backbone.features(inputs, training=self.training)
        if self.unit[stream]:
            features = nn.functional.normalize(features, dim=1)
        return self.weights.logits(features, stream).float()

    @property
    def weights(self) -> HeadWeights:
        """Projections, head and scales as they are."""
        projections: list[Tensor | None] = [self.projections.get(str(i)) for i in range(len(self.backbones))]
        trunk = None if self.trunk is None else (self.trunk[0], self.trunk[1])
        return HeadWeights(projections, self.head, self.scales, trunk)

    def forward(self, batches: Sequence[tuple[int, Any, Tensor, float]]) -> tuple[Tensor, Tensor]:
        """The loss, and per modality (S, 3) the sum of losses, how many are right, of how many; all float32.

        Args:
            batches: (modality, inputs, labels (b,) int64, what each row's loss is multiplied by).
        """
        total = torch.zeros((), device=self.head.device)
        seen = torch.zeros(len(self.backbones), 3, device=self.head.device)
        for stream, inputs, labels, weight in batches:
            logits = self.logits(stream, inputs)
            loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
            total = total + weight * loss
            right = (logits.detach().argmax(1) == labels).sum()
            seen[stream] += torch.stack([loss.detach(), right, torch.full_like(right, len(labels))])
        return total, seen


def moved(inputs: Any, device: torch.device) -> Any:
    """Tensors, and tuples and lists of them, on a device."""
    if isinstance(inputs, Tensor):
        return inputs.to(device, non_blocking=True)
    return type(inputs)(moved(part, device) for part in inputs)
