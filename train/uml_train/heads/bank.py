"""`HeadBank`: many small models that share their weights between modalities, trained in one go.

Shapes: B rows in a batch, D features of a modality, W shared width, C classes, P parameters of one model.

One model (paper 3.2, Alg. 2) is a bias-free projection W × D for every modality that has one, a head C × W
that all modalities share, and one logit scale per modality. A step takes one batch from every modality, sums
the cross-entropies (auxiliaries weighted by alpha) and makes one AdamW update; validation selects the step.

The sum is that of the paper's Alg. 2; its text speaks of alternating. The projection is the reference code's:
the paper has one shared head, and does not say what makes encoders of different width fit it.

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

from uml_train.data.batches import BatchOrder
from uml_train.data.rows import Rows, as_rows
from uml_train.heads.grid import Candidate, Schedule
from uml_train.heads.transformer import block_shapes
from uml_train.heads.weights import HeadWeights, initial_weights


@dataclass(frozen=True, eq=False, kw_only=True)
class Samples:
    """The rows of one modality that a model sees.

    Args:
        name: the modality's name; with the seed it fixes the order of the batches.
        features: (n, D) float32, or `Rows` wherever they lie; sequences need the transformer trunk.
        labels: (n,) int64, in 0 … C − 1.
        projected: whether the modality goes through a projection of its own.
        logit_scale: what its logits are multiplied by at the start (100 for aligned encoders).
    """

    name: str
    features: Tensor | Rows
    labels: Tensor
    projected: bool
    logit_scale: float = 1.0

    def __post_init__(self) -> None:
        flat = not isinstance(self.features, Tensor) or self.features.ndim == 2
        if not flat or self.labels.shape != (len(self.features),):
            given = (
                self.features.shape if isinstance(self.features, Tensor) else (len(self.features), self.dim)
            )
            shapes = f"features {tuple(given)}, labels {tuple(self.labels.shape)}"
            raise ValueError(f"{self.name}: {shapes}; expected (n, D) and (n,)")
        if len(self.labels) == 0:
            raise ValueError(f"{self.name}: no rows")

    @property
    def dim(self) -> int:
        """D."""
        return int(self.features.shape[1]) if isinstance(self.features, Tensor) else self.features.dim

    @property
    def rows(self) -> Rows:
        """The features as `Rows`."""
        return as_rows(self.features)


@dataclass(frozen=True, eq=False, kw_only=True)
class HeadModel:
    """One model to be trained: its data, its hyperparameters and its seed.

    Args:
        target: rows of the modality that is to be classified.
        auxiliaries: rows of the other modalities, unpaired; empty for the unimodal methods.
        validation: (features (n, D) or `Rows`, labels (n,)) of the target, for selection.
        classes: C.
        width: W, the width of the shared space.
        head: (C, W) initial head rows, or None for the usual random ones.
        alpha: weight of each auxiliary's loss.
        ratio: auxiliary batches per target batch. Their losses are summed, each weighted by alpha; below 1
            every 1/ratio-th step has one, beginning with the first.
        hidden: H, the width of the trunk's hidden layer; 0 for the linear trunk.
        layers: blocks of the transformer trunk, of hidden width H; 0 for the other trunks.
        balanced: whether batches hold the classes in equal parts.
        kernel: (C, C) float64, how alike the classes are in an auxiliary (`prior`), or None.
    """

    target: Samples
    auxiliaries: tuple[Samples, ...] = ()
    validation: tuple[Tensor | Rows, Tensor]
    classes: int
    width: int
    seed: int
    candidate: Candidate
    head: Tensor | None = None
    alpha: float = 1.0
    ratio: float = 1.0
    hidden: int = 0
    layers: int = 0
    balanced: bool = False
    kernel: Tensor | None = None

    def __post_init__(self) -> None:
        parts = [s.features for s in self.streams] + [self.validation[0]]
        if not self.layers and any(not isinstance(p, Tensor) and p.ragged for p in parts):
            raise ValueError("sequences need the transformer trunk (layers > 0); pooled features do not")

    @property
    def streams(self) -> list[Samples]:
        """The modalities in order, the target first."""
        return [self.target, *self.auxiliaries]

    @property
    def parameters(self) -> int:
        """P, the number of trained parameters."""
        dims = sum(s.dim for s in self.streams if s.projected)
        scales = len(self.streams) if self.candidate.learnable_scale else 0
        trunk = 2 * self.hidden * self.width
        if self.layers:
            trunk = self.layers * sum(a * b for a, b in block_shapes(self.width, self.hidden))
        return self.width * (dims + self.classes) + trunk + scales

    def start(self) -> HeadWeights:
        """The weights before training."""
        return initial_weights(
            [(s.name, s.dim, s.projected, s.logit_scale) for s in self.streams],
            classes=self.classes,
            width=self.width,
            seed=self.seed,
            head=self.head,
            hidden=self.hidden,
            layers=self.layers,
        )


@dataclass(eq=False, kw_only=True)
class Fitted:
    """What came of one model: the weights of its best validated step, and its history.

    `val_acc` is in percent; `best_step` counts the updates made before the best evaluation; `history` holds
    one record per evaluation: `step`, `val_acc`, the mean training loss per modality since the last one, and
    on some training rows each modality's accuracy and the cosine of the losses' gradients. `val_loss` is the
    cross-entropy on the validation rows, which only heads that are solved at once are selected by;
    `crossed`, where there was cross-validation, is its accuracy and cross-entropy, which then select.
    """

    weights: HeadWeights
    val_acc: float
    best_step: int
    steps: int
    history: list[dict[str, float]] = field(default_factory=list)
    val_loss: float = math.inf
    crossed: tuple[float, float] | None = None


class HeadBank:
    """Trains models independently of each other.

    On a CPU each model equals the same model trained alone, bit for bit. Stacked (the default on CUDA) models
    of one shape and batch size run as one batched product, and a model equals itself alone within rounding.
    Those with the transformer trunk train one after the other on either device.

    Args:
        models: any mix of shots, seeds, methods and hyperparameters.
        schedule: of all models, or one for each.
        device: where they train.
        stacked: whether models of one shape run together; by default on CUDA only.
        precision: of the stacked products: `float32`, `bfloat16` or `float16`; weights, moments and losses
            are float32 always.
        memory: bytes that a stack may take; by default most of what is free on a CUDA device, else 1 GiB. A
            larger bank is trained in several stacks.
    """

    def __init__(
        self,
        models: Sequence[HeadModel],
        schedule: Schedule | Sequence[Schedule],
        *,
        device: str = "cpu",
        stacked: bool | None = None,
        precision: str = "float32",
        memory: int | None = None,
    ) -> None:
        self.models = list(models)
        self.schedules = [schedule] * len(self.models) if isinstance(schedule, Schedule) else list(schedule)
        if len(self.schedules) != len(self.models):
            raise ValueError(f"{len(self.schedules)} schedules for {len(self.models)} models")
        self.device = device
        self.stacked = device != "cpu" if stacked is None else stacked
        if device != "cpu" and not self.stacked:
            raise ValueError(f"one model at a time is for the CPU; on {device} the bank is stacked")
        self.precision = precision
        self.memory = memory

    def fit(self, on_done: Callable[[int, Fitted], None] | None = None) -> list[Fitted]:
        """Train every model; `on_done(index, fitted)` is called as each one finishes."""
        found: dict[int, Fitted] = {}
        for index, fitted in self.finished():
            found[index] = fitted
            if on_done is not None:
                on_done(index, fitted)
        return [found[index] for index in range(len(self.models))]

    def finished(self) -> Iterator[tuple[int, Fitted]]:
        """Train every model and give each with its index as it finishes.

        Runs on one thread on a CPU: the products are far too small to be worth two.
        """
        from uml_train.heads.one_model import Trainer
        from uml_train.heads.sequence_model import SequenceTrainer
        from uml_train.heads.stacked import fit_stacked

        orders = BatchOrder()
        together = [i for i, model in enumerate(self.models) if self.stacked and not model.layers]
        stacked = fit_stacked(
            [self.models[i] for i in together],
            [self.schedules[i] for i in together],
            orders,
            device=torch.device(self.device),
            precision=self.precision,
            memory=self.memory,
        )
        for at, fitted in stacked:
            yield together[at], fitted
        for index in sorted(set(range(len(self.models))) - set(together)):
            model, schedule = self.models[index], self.schedules[index]
            with one_thread():
                if model.layers:
                    fitted = SequenceTrainer(
                        model, schedule, orders, device=torch.device(self.device), precision=self.precision
                    ).fit()
                else:
                    fitted = Trainer(model, schedule, orders).fit()
            yield index, fitted


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread; a sum is then made in the same order in every process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
