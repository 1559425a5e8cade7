"""One linear layer, solved: `unimodal`, and every head of encoders that share a space.

Shapes: M candidates, n rows, D features, C classes.

Alone it is penalised logistic regression or ridge regression of centred features. Where the target needs no
projection because its encoder shares a space with an auxiliary's, the rows of both train the same layer, and
with class means to start from (`init`) the penalty pulls to them instead of to zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

from uml_train.fullbatch.axes import (
    AxisStream,
    Solution,
    Thin,
    auxiliary_stream,
    remembered,
    squares_of,
)
from uml_train.fullbatch.cross_entropy import CrossEntropy
from uml_train.fullbatch.shared import USUAL, Effort
from uml_train.fullbatch.softmax import principal
from uml_train.fullbatch.squared import centred_targets, head_of, projection_of, ridge
from uml_train.heads.models import HeadModel
from uml_train.protocols.grid import Point


def solve_linear(model: HeadModel, points: list[Point], effort: Effort = USUAL) -> Solution:
    """Solve one model, whose target has no projection, for points of one loss."""
    target = AxisStream.of(model.target, centred=True)
    strengths = torch.tensor([p.strength for p in points])
    penalty = target.spread / strengths
    if model.auxiliaries or model.head is not None:
        return _joint(model, points, target, penalty, effort)
    steps = torch.ones(len(points), dtype=torch.int64)
    if points[0].loss == "squared":
        squares, against, share = target.moments(model.classes)
        theta, bias = ridge(squares, against, penalty), share.expand(len(points), -1)
    else:

        def likeliest() -> tuple[Tensor, Tensor, Tensor]:
            problem = CrossEntropy(
                target.x, target.labels, target.importance, penalty, model.classes,
                counts=torch.ones(len(target)),
            )  # fmt: skip
            return problem.solve(effort.tolerance, effort.steps)

        # The choice of a draw's normalisation has solved the same problem before.
        key = "linear", target.name, target.labels, penalty, model.classes, effort
        theta, bias, steps = remembered(likeliest, *key)
    bias = bias.double()
    return single_layer(target, theta, bias, steps, model.target.logit_scale)


def single_layer(
    target: AxisStream, theta: Tensor, bias: Tensor, steps: Tensor, logit_scale: float
) -> Solution:
    """Of layers (M, C, K) and their biases (M, C) float64 for rows in their axes.

    The heads are these layers over `logit_scale` > 0, by which every head multiplies its logits.
    """

    def part(i: int) -> tuple[Tensor, list[Tensor | None], Tensor]:
        head = theta[i].double() @ target.basis.double().T
        return (head / logit_scale).float(), [None], bias[i] - head @ target.mean

    return Solution([target], [theta.float()], bias, steps, part)


def _joint(
    model: HeadModel, points: list[Point], target: AxisStream, penalty: Tensor, effort: Effort
) -> Solution:
    """The layer that the rows of several modalities share, in the raw space that they have in common."""
    models, classes, scale = len(points), model.classes, model.target.logit_scale
    streams = [auxiliary_stream(s) for s in model.auxiliaries]
    weights = [torch.tensor([p.weight * len(target) / len(s) for p in points]) for s in streams]
    pairs = list(zip(model.auxiliaries, streams, weights, strict=True))
    labels, rows = [target.labels], [target.x @ target.basis.T + target.mean.float()]
    importance = [target.importance.expand(models, -1)]
    total = penalty.clone()
    for samples, stream, weight in pairs:
        if not samples.projected:
            rows.append(stream.x @ stream.basis.T)
            labels.append(stream.labels)
            importance.append(weight[:, None].expand(-1, len(stream)))
            total = total + weight * stream.spread / torch.tensor([p.strength for p in points])
    shared = torch.cat(rows)
    axes = principal(shared, torch.ones(len(shared)), centred=False)
    pull = None if model.head is None else scale * model.head
    squared = points[0].loss == "squared"
    solve = _squared if squared else _likelihood
    theta, bias, steps = solve(
        axes.coordinates, torch.cat(labels), torch.cat(importance, 1), total, classes, pull, axes.basis,
        len(target), effort,
    )  # fmt: skip
    head = theta @ axes.basis.T
    bias = bias.double()
    sides, effects = [], [head @ target.basis]
    for samples, stream, _ in pairs:
        if samples.projected:  # a modality with a projection of its own joins the head that is there
            sides.append(_side(head, stream, points, squared, effort))
            effects.append(head @ sides[-1])
        else:
            effects.append(head @ stream.basis)

    def part(i: int) -> tuple[Tensor, list[Tensor | None], Tensor]:
        columns = iter(sides)
        projections: list[Tensor | None] = [
            next(columns)[i] @ stream.basis.T * (scale / samples.logit_scale) if samples.projected else None
            for samples, stream, _ in pairs
        ]
        return head[i] / scale, [None, *projections], bias[i]

    centred = bias + head.double() @ target.mean
    return Solution([target, *streams], effects, centred, steps, part)


def _likelihood(
    x: Tensor, labels: Tensor, importance: Tensor, penalty: Tensor, classes: int, pull: Tensor | None,
    basis: Tensor, own: int, effort: Effort,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    counts = (torch.arange(len(labels)) < own).float()
    start = None if pull is None else pull @ basis
    shift = None if start is None else x @ start.T
    problem = CrossEntropy(x, labels, importance, penalty, classes, counts=counts, shift=shift)
    theta, bias, steps = problem.solve(effort.tolerance, effort.steps)
    return (theta if start is None else theta + start), bias, steps


def _squared(
    x: Tensor, labels: Tensor, importance: Tensor, penalty: Tensor, classes: int, pull: Tensor | None,
    basis: Tensor, own: int, effort: Effort,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    y, share = centred_targets(labels, classes, importance[0])
    steps = torch.ones(len(penalty), dtype=torch.int64)
    start = torch.zeros(classes, x.shape[1])
    if pull is not None:
        guess = x @ (pull @ basis).T
        guess_ = guess - guess.mean(1, keepdim=True)
        # Logits and one-hot labels have different scales: the one factor that fits best.
        factor = ((guess_ * y).sum() / guess_.square().sum().clamp_min(1e-12)).clamp_min(0.0)
        start = factor * (pull - pull.mean(0)) @ basis
    rows = x.double()
    weighted = importance.double().unsqueeze(2) * rows
    system = weighted.mT @ rows
    found = head_of(system, weighted.mT @ (y - x @ start.T).double(), penalty) + start
    return found, (share - (x[:own] @ found.mT).mean(1)), steps


def _side(head: Tensor, stream: AxisStream, points: list[Point], squared: bool, effort: Effort) -> Tensor:
    """The projection (M, W, K) of one more modality for heads (M, C, W), which stay."""
    thin, classes = Thin.of(head), head.shape[1]
    penalty = stream.spread / torch.tensor([p.strength for p in points]) * squares_of(head) / classes
    if squared:
        squares, against, _ = stream.moments(classes)
        return thin.right @ projection_of(squares, against, thin, penalty)
    problem = CrossEntropy(stream.x, stream.labels, stream.importance, penalty, classes, mix=thin.mix)
    return thin.right @ problem.solve(effort.tolerance, effort.refining)[0]
