"""All points of a grid for one model, and which of them validation selects.

Shapes: n rows, C classes. Logits and weights have any floating type, labels are int64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from uml_train.data.rows import vectors
from uml_train.fullbatch.axes import Solution
from uml_train.fullbatch.class_prior import cross_validated, solve_prior
from uml_train.fullbatch.linear import solve_linear
from uml_train.fullbatch.shared import EXACT, USUAL, Effort, solve_shared
from uml_train.heads.bank import one_thread
from uml_train.heads.fitting import watched_rows
from uml_train.heads.models import Fitted, HeadModel, best_validated
from uml_train.heads.weights import HeadWeights
from uml_train.protocols.grid import Point

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
        for some, solution in _solutions(model, points, EXACT if exact else USUAL):
            given = None if factors is None else [factors[i] for i in some]
            tempered = points[some[0]].loss == "squared"
            found |= zip(some, _judged(model, solution, tempered, given), strict=True)
    return [found[i] for i in range(len(points))]


def held_out_logits(model: HeadModel, points: Sequence[Point]) -> Tensor:
    """What the head of every point says of the validation rows: (M, n, C) float64, without any factor."""
    features, labels = model.validation
    found = torch.empty(len(points), len(labels), model.classes, dtype=torch.float64)
    with one_thread():
        for some, solution in _solutions(model, points, USUAL):
            found[some] = solution.logits(vectors(features))
    return found


def _solutions(
    model: HeadModel, points: Sequence[Point], effort: Effort
) -> Iterator[tuple[list[int], Solution]]:
    """The heads of all points, those of one loss together, with their indices."""
    for loss in dict.fromkeys(p.loss for p in points):
        some = [i for i, p in enumerate(points) if p.loss == loss]
        part = [points[i] for i in some]
        yield some, _solver(model, part)(model, part, effort)


def _solver(
    model: HeadModel, points: Sequence[Point]
) -> Callable[[HeadModel, list[Point], Effort], Solution]:
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
    hits, losses = _scores(logits, labels, temperatures(logits, labels))
    for head, accuracy, loss in zip(fitted, hits, losses, strict=True):
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
    model: HeadModel, solution: Solution, tempered: bool, factors: Sequence[float] | None
) -> list[Fitted]:
    """What the heads say of the validation rows and of some of those that they were trained on."""
    features, labels = model.validation
    logits = solution.logits(vectors(features))
    if not tempered:
        found = torch.ones(len(logits), dtype=torch.float64)
    elif factors is None:
        found = temperatures(logits, labels)
    else:
        found = torch.tensor(factors, dtype=torch.float64)
    scores = zip(*_scores(logits, labels, found), strict=True)
    remarks = _remarks(model, solution, found)
    fitted = []
    for i, (accuracy, loss) in enumerate(scores):
        steps, factor = int(solution.steps[i]), float(found[i])
        record = {"step": steps, "val_acc": accuracy, "val_loss": loss, **remarks[i]}
        fitted.append(
            Fitted(
                made=partial(_weights, model, solution, i, factor), val_acc=accuracy, val_loss=loss,
                best_step=steps, steps=steps, history=[record], factor=factor,
            )
        )  # fmt: skip
    return fitted


def _weights(model: HeadModel, solution: Solution, i: int, factor: float) -> HeadWeights:
    """A candidate's weights; what is not selected never has any."""
    head, projections, bias = solution.parts(i)
    if factor != 1.0:
        head, bias = head * factor, bias * factor
    scales = torch.tensor([s.logit_scale for s in model.streams])
    return HeadWeights(projections, head.contiguous(), scales, bias=bias.contiguous())


def _scores(logits: Tensor, labels: Tensor, factors: Tensor) -> tuple[list[float], list[float]]:
    """Accuracies in percent and cross-entropies of logits (M, n, C), with factors (M,) on them."""
    hits = (logits.argmax(2) == labels).sum(1).double() * 100.0 / len(labels)
    return hits.tolist(), cross_entropies(factors[:, None, None] * logits, labels).mean(1).tolist()


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropies (M, n) of logits (M, n, C)."""
    own = logits.gather(2, labels[None, :, None].expand(len(logits), -1, 1)).squeeze(2)
    return logits.logsumexp(2) - own


def temperature(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> float:
    """The factor > 0 on the logits (n, C) with the least cross-entropy; rows count as `weights` (n,) say."""
    return float(temperatures(logits.unsqueeze(0), labels, weights)[0])


def temperatures(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """As `temperature`, for each of logits (M, n, C): (M,) float64."""
    centred = logits.double() - logits.double().mean(2, keepdim=True)
    share = torch.full((len(labels),), 1.0 / len(labels)) if weights is None else weights / weights.sum()
    share = share.double()
    size = (centred.square().mean(2) @ share).sqrt().clamp_min(1e-12)
    unit = (centred / size[:, None, None]).float()  # single precision tells a hundredth of a factor apart

    # As `cross_entropies` of unit · factor, bit for bit: a positive factor rounds the largest to the largest.
    most = unit.amax(2)
    own = unit.gather(2, labels[None, :, None].expand(len(unit), -1, 1)).squeeze(2)
    scaled = torch.empty_like(unit)

    def loss(power: Tensor) -> Tensor:
        factor = power.exp().float()[:, None]
        top = most * factor
        torch.mul(unit, factor.unsqueeze(2), out=scaled)
        total = scaled.sub_(top.unsqueeze(2)).exp_().sum(2).log_().add_(top)
        return total.sub_(own * factor).double() @ share

    # The loss is convex in the factor, so it has one valley in the factor's logarithm, too: golden section.
    low = torch.full_like(size, math.log(_COLDEST))
    high = torch.full_like(size, math.log(_HOTTEST))
    a, b = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_a, at_b = loss(a), loss(b)
    while float(high[0] - low[0]) > 0.02:
        left = at_a <= at_b
        low, high = torch.where(left, low, a), torch.where(left, b, high)
        new = torch.where(left, high - _GOLDEN * (high - low), low + _GOLDEN * (high - low))
        at_new = loss(new)
        a, b = torch.where(left, new, b), torch.where(left, a, new)
        at_a, at_b = torch.where(left, at_new, at_b), torch.where(left, at_a, at_new)
    return ((low + high) / 2.0).exp() / size


def _remarks(model: HeadModel, solution: Solution, factors: Tensor) -> list[dict[str, float]]:
    """Per head and modality loss and accuracy in percent, on some of its training rows."""
    remarks: list[dict[str, float]] = [{} for _ in factors]
    for i, (samples, stream, effect) in enumerate(
        zip(model.streams, solution.streams, solution.effects, strict=True)
    ):
        rows = watched_rows([len(stream)])[0][0]
        logits = (stream.x[rows] @ effect.mT).double()
        if i == 0:
            logits = logits + solution.bias[:, None, :]
        hits, losses = _scores(logits, stream.labels[rows], factors)
        for remark, accuracy, loss in zip(remarks, hits, losses, strict=True):
            remark[f"loss.{samples.name}"] = loss if math.isfinite(loss) else math.inf
            remark[f"acc.{samples.name}"] = accuracy
    return remarks
