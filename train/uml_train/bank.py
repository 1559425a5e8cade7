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
        ratio: auxiliary batches per target batch. Their losses are summed, each weighted by alpha; below 1
            every 1/ratio-th step has one, beginning with the first.
        hidden: H, the width of the trunk's hidden layer; 0 for the linear trunk.
        balanced: whether batches hold the classes in equal parts.
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
    ratio: float = 1.0
    hidden: int = 0
    balanced: bool = False

    @property
    def streams(self) -> list[Samples]:
        """The modalities in order, the target first."""
        return [self.target, *self.auxiliaries]

    def start(self) -> HeadWeights:
        """The weights before training."""
        return initial_weights(
            [(s.name, s.features.shape[1], s.projected, s.logit_scale) for s in self.streams],
            classes=self.classes,
            width=self.width,
            seed=self.seed,
            head=self.head,
            hidden=self.hidden,
        )


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
        from uml_train.one_model import Trainer

        orders = BatchOrder()
        fitted = []
        with _one_thread():
            for index, model in enumerate(self.models):
                result = Trainer(model, self.schedule, orders).fit()
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
