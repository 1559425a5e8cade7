"""All points of a grid for one model, and which of them validation selects.

Shapes: n rows, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from uml_train.data.rows import vectors
from uml_train.fullbatch.class_prior import cross_validated, solve_prior
from uml_train.fullbatch.linear import solve_linear
from uml_train.fullbatch.shared import EXACT, USUAL, Effort, Shared, solve_shared
from uml_train.grid import Point
from uml_train.heads.bank import one_thread
from uml_train.heads.fitting import watched_rows
from uml_train.heads.models import Fitted, HeadModel, best_validated
from uml_train.heads.weights import HeadWeights

_COLDEST, _HOTTEST = 1e-2, 1e3  # factors on logits whose root mean square is 1
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


def solve(
    model: HeadModel,
    points: Sequence[Point],
    factors: Sequence[float] | None = None,
    *,
    exact: bool = False,
) -> list[Fitted]:
    """The model's heads, one per point; what else is solved changes none of their bits.

    Logits of squared errors are one-hot guesses: the factor that makes them log-probabilities is the one
    with which the validation rows are likeliest.

    Args:
        factors: one per point, instead, where the validation rows are trained on.
        exact: whether the minimum is approached as far as single precision goes; accuracy rarely asks for it.
    """
    found: dict[int, Fitted] = {}
    with one_thread():
        for loss in dict.fromkeys(p.loss for p in points):
            some = [i for i, p in enumerate(points) if p.loss == loss]
            part = [points[i] for i in some]
            solved = _solver(model, part)(model, part, EXACT if exact else USUAL)
            for at, i in enumerate(some):
                weights = HeadWeights(
                    [None if p is None else p[at].contiguous() for p in solved.projections],
                    solved.head[at].contiguous(),
                    torch.tensor([s.logit_scale for s in model.streams]),
                    bias=solved.bias[at].contiguous(),
                )
                factor = None if factors is None else factors[i]
                found[i] = _judged(model, weights, int(solved.steps[at]), loss == "squared", factor)
    return [found[i] for i in range(len(points))]


def _solver(model: HeadModel, points: Sequence[Point]) -> Callable[[HeadModel, list[Point], Effort], Shared]:
    if points[0].prior is not None:
        return solve_prior
    return solve_shared if model.target.projected else solve_linear


def cross_validate(model: HeadModel, points: Sequence[Point], fitted: Sequence[Fitted]) -> None:
    """Say of every head how its point does in cross-validation, where there is one (`ridge`, `prior`)."""
    with one_thread():
        crossed = None if points[0].prior is None else cross_validated(model, points)
    if crossed is None:
        return
    logits, labels = crossed
    for head, z in zip(fitted, logits, strict=True):
        accuracy = 100.0 * float((z.argmax(1) == labels).sum()) / len(labels)
        loss = float(torch.nn.functional.cross_entropy(temperature(z, labels) * z, labels))
        head.crossed = (accuracy, loss)
        head.history[-1] |= {"crossed_acc": accuracy, "crossed_loss": loss}


def select(points: Sequence[Point], fitted: Sequence[Fitted]) -> int:
    """The index of the most accurate point on validation, or in cross-validation where there was one.

    Of equally accurate ones a cross-entropy goes before squared errors, then the likelier one: where there is
    one validation row per class many points tie, and which of them is merely first means nothing.

    Of points with a prior the strength is chosen first, without the prior, and then the prior's share at this
    strength: what a few rows happen to say of strengths would else drown what they say of the prior.
    """
    every = range(len(points))
    if points[0].prior is None:
        return _best(points, fitted, every)
    plain = _best(points, fitted, [i for i in every if points[i].prior == 0.0] or every)
    return _best(points, fitted, [i for i in every if points[i].strength == points[plain].strength])


def _best(points: Sequence[Point], fitted: Sequence[Fitted], among: Sequence[int]) -> int:
    order = {"cross-entropy": 0, "squared": 1}
    scores = [f.crossed or (f.val_acc, f.val_loss) for f in (fitted[i] for i in among)]
    losses = [order[points[i].loss] for i in among]
    return among[best_validated([s[0] for s in scores], losses, [s[1] for s in scores])]


def _judged(
    model: HeadModel, weights: HeadWeights, steps: int, tempered: bool, factor: float | None
) -> Fitted:
    features, labels = model.validation
    logits = weights.logits(vectors(features)).double()
    if not tempered:
        factor = 1.0
    elif factor is None:
        factor = temperature(logits, labels)
    if tempered:
        weights.head = weights.head * factor
        weights.bias = None if weights.bias is None else weights.bias * factor
    loss = float(torch.nn.functional.cross_entropy(factor * logits, labels))
    accuracy = 100.0 * float((logits.argmax(1) == labels).sum()) / len(labels)
    record = {"step": steps, "val_acc": accuracy, "val_loss": loss, **_remarks(model, weights)}
    return Fitted(
        weights=weights, val_acc=accuracy, val_loss=loss, best_step=steps, steps=steps, history=[record],
        factor=factor,
    )  # fmt: skip


def temperature(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> float:
    """The factor on the logits (n, C) with the least cross-entropy; rows count as `weights` (n,) say."""
    centred = logits - logits.mean(1, keepdim=True)
    share = torch.full((len(labels),), 1.0 / len(labels)) if weights is None else weights / weights.sum()
    share = share.to(logits)
    size = (share @ centred.square()).mean().sqrt().clamp_min(1e-12)
    unit = centred / size

    def loss(power: float) -> float:
        losses = torch.nn.functional.cross_entropy(unit * math.exp(power), labels, reduction="none")
        return float(share @ losses)

    # The loss is convex in the factor, so it has one valley in the factor's logarithm, too.
    low, high = math.log(_COLDEST), math.log(_HOTTEST)
    while high - low > 0.02:
        a, b = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        low, high = (low, b) if loss(a) <= loss(b) else (a, high)
    return math.exp((low + high) / 2.0) / float(size)


def _remarks(model: HeadModel, weights: HeadWeights) -> dict[str, float]:
    """Per modality loss and accuracy in percent, on some of its training rows."""
    remarks: dict[str, float] = {}
    for i, stream in enumerate(model.streams):
        rows = watched_rows([len(stream.labels)])[0][0]
        logits = weights.logits(stream.rows.take(rows), i)
        labels = stream.labels[rows]
        loss = float(torch.nn.functional.cross_entropy(logits, labels))
        remarks[f"loss.{stream.name}"] = loss if math.isfinite(loss) else math.inf
        remarks[f"acc.{stream.name}"] = 100.0 * float((logits.argmax(1) == labels).sum()) / len(labels)
    return remarks
