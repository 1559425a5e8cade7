"""What a bank is given and what it gives back: the rows that models see, models to train, trained ones.

Shapes: n rows of a modality, D features of a modality, W shared width, H hidden width of the trunk, C
classes, P parameters of one model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf

from torch import Tensor

from uml_train.data.rows import Rows, as_rows
from uml_train.heads.transformer import block_shapes
from uml_train.heads.weights import HeadWeights, initial_weights
from uml_train.protocols.grid import Candidate


@dataclass(frozen=True, eq=False, kw_only=True)
class Samples:
    """The rows of one modality that a model sees.

    Args:
        name: the modality's name; with the seed it fixes the order of the batches.
        features: (n, D) float32, or `Rows` wherever they lie; sequences need the transformer trunk.
        labels: (n,) int64, in 0 … C − 1.
        projected: whether the modality goes through a projection of its own.
        logit_scale: what its logits are multiplied by at the start (100 for aligned encoders).
        importance: (n,) positive weights of a target's rows, how often each counts; only heads that are
            solved know them.
    """

    name: str
    features: Tensor | Rows
    labels: Tensor
    projected: bool
    logit_scale: float = 1.0
    importance: Tensor | None = None

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

    `made` are the weights, or what makes them when they are first asked for: of many heads that are solved
    at once one is taken.
    `val_acc` is in percent; `best_step` counts the updates made before the best evaluation; `history` holds
    one record per evaluation: `step`, `val_acc`, the mean training loss per modality since the last one, and
    on some training rows each modality's accuracy and the cosine of the losses' gradients. `val_loss` is the
    cross-entropy on the validation rows, by which heads that are solved at once are told apart; `factor`
    is what made one-hot guesses of squared errors its logits. `crossed`, where there was cross-validation,
    is its accuracy and cross-entropy, which then select. `guesses` is how many rows without labels it was
    trained on, as it guessed them.
    """

    made: HeadWeights | Callable[[], HeadWeights]
    val_acc: float
    best_step: int
    steps: int
    history: list[dict[str, float]] = field(default_factory=list)
    val_loss: float = inf
    factor: float = 1.0
    crossed: tuple[float, float] | None = None
    guesses: int = 0

    @property
    def weights(self) -> HeadWeights:
        """The weights."""
        if not isinstance(self.made, HeadWeights):
            self.made = self.made()
        return self.made


def best_validated(accuracies: Sequence[float], *ties: Sequence[float]) -> int:
    """The selection rule of every table: the index of the best validation accuracy.

    Accuracies are in percent. Of equals the one with the least of the first of `ties` (such as the best
    step), then the next; then the first.
    """
    return min(range(len(accuracies)), key=lambda i: (-accuracies[i], *(tie[i] for tie in ties), i))
