"""One linear layer, solved: `unimodal`, and every head of encoders that share a space.

Shapes: M candidates, n rows, D features, C classes.

Alone it is penalised logistic regression or ridge regression of centred features. Where the target needs no
projection because its encoder shares a space with an auxiliary's, the rows of both train the same layer, and
with class means to start from (`init`) the penalty pulls to them instead of to zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

from uml_train.fullbatch.axes import AxisStream, Thin, squares_of
from uml_train.fullbatch.cross_entropy import LinearProblem
from uml_train.fullbatch.shared import USUAL, Effort, Shared, auxiliary_stream
from uml_train.fullbatch.softmax import principal
from uml_train.fullbatch.squared import centred_targets, head_of, projection_of, ridge
from uml_train.grid import Point
from uml_train.heads.models import HeadModel


def solve_linear(model: HeadModel, points: list[Point], effort: Effort = USUAL) -> Shared:
    """Solve one model, whose target has no projection, for points of one loss."""
    target = AxisStream.of(model.target, centred=True)
    strengths = torch.tensor([p.strength for p in points])
    penalty = target.spread / strengths
    if model.auxiliaries or model.head is not None:
        return _joint(model, points, target, penalty, effort)
    models = len(points)
    steps = torch.ones(models, dtype=torch.int64)
    if points[0].loss == "squared":
        y, share = centred_targets(target.labels, model.classes, target.importance)
        theta, bias = ridge(target.x, y, target.importance, penalty), share.expand(models, -1)
    else:
        problem = LinearProblem(
            target.x.expand(models, -1, -1),
            target.labels,
            target.importance.expand(models, -1),
            penalty,
            model.classes,
            counts=torch.ones(len(target)),
        )
        theta, bias, steps = problem.solve(effort.tolerance, effort.steps)
    head = theta @ target.basis.T
    return Shared(head / model.target.logit_scale, [None], bias.double() - head.double() @ target.mean, steps)


def _joint(
    model: HeadModel, points: list[Point], target: AxisStream, penalty: Tensor, effort: Effort
) -> Shared:
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
    x = axes.coordinates.expand(models, -1, -1)
    pull = None if model.head is None else scale * model.head
    squared = points[0].loss == "squared"
    solve = _squared if squared else _likelihood
    theta, bias, steps = solve(
        x, torch.cat(labels), torch.cat(importance, 1), total, classes, pull, axes.basis, len(target), effort
    )
    head = theta @ axes.basis.T
    sides: list[Tensor | None] = [None]
    for samples, stream, _ in pairs:
        # A modality with a projection of its own joins the head that is there.
        side = (
            _side(head, samples.logit_scale, scale, stream, points, squared, effort)
            if samples.projected
            else None
        )
        sides.append(side)
    return Shared(head / scale, sides, bias.double(), steps)


def _likelihood(
    x: Tensor, labels: Tensor, importance: Tensor, penalty: Tensor, classes: int, pull: Tensor | None,
    basis: Tensor, own: int, effort: Effort,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    counts = (torch.arange(len(labels)) < own).float()
    start = None if pull is None else pull @ basis
    shift = None if start is None else x @ start.T
    problem = LinearProblem(x, labels, importance, penalty, classes, counts=counts, shift=shift)
    theta, bias, steps = problem.solve(effort.tolerance, effort.steps)
    return (theta if start is None else theta + start), bias, steps


def _squared(
    x: Tensor, labels: Tensor, importance: Tensor, penalty: Tensor, classes: int, pull: Tensor | None,
    basis: Tensor, own: int, effort: Effort,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    y, share = centred_targets(labels, classes, importance[0])
    steps = torch.ones(len(x), dtype=torch.int64)
    start = torch.zeros(classes, x.shape[2])
    if pull is not None:
        guess = x[0] @ (pull @ basis).T
        guess_ = guess - guess.mean(1, keepdim=True)
        # Logits and one-hot labels have different scales: the one factor that fits best.
        factor = ((guess_ * y).sum() / guess_.square().sum().clamp_min(1e-12)).clamp_min(0.0)
        start = factor * (pull - pull.mean(0)) @ basis
    found = head_of(x, y - x[0] @ start.T, importance, penalty) + start
    return found, (share - (x[0, :own] @ found.mT).mean(1)), steps


def _side(
    head: Tensor,
    own_scale: float,
    scale: float,
    stream: AxisStream,
    points: list[Point],
    squared: bool,
    effort: Effort,
) -> Tensor:
    """The projection (M, W, D) of one more modality for heads (M, C, W), which stay."""
    thin, classes = Thin.of(head), head.shape[1]
    penalty = stream.spread / torch.tensor([p.strength for p in points]) * squares_of(head) / classes
    if squared:
        y, _ = centred_targets(stream.labels, classes, stream.importance)
        found = projection_of(stream.x, y, stream.importance, thin, penalty)
    else:
        problem = LinearProblem(
            stream.x.expand(len(points), -1, -1),
            stream.labels,
            torch.ones(len(points), len(stream)),
            penalty,
            classes,
            mix=thin.mix,
        )
        found = thin.right @ problem.solve(effort.tolerance, effort.refining)[0]
    return found @ stream.basis.T * (scale / own_scale)
