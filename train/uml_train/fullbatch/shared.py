"""A projection and a head that modalities share, solved by turns (paper 3.2, Alg. 2, on all rows at once).

Shapes: M candidates, n rows of the target, m of an auxiliary, D features, K coordinates, W shared width,
C classes, r ≤ min(C, W).

A candidate's objective is

    Σ_target CE(H P x + b) + Σ_a w_a · Σ_a CE(H z) + λ/2C · ‖H‖² ‖P‖² + Σ_a w_a · penalty_a,   w_a = α · n / m

with z the rows of an auxiliary that goes straight to the head (penalty λ_a/2 · ‖H‖²), or P_a times the rows
of one that has a projection of its own (penalty λ_a/2C · ‖H‖² ‖P_a‖²). The product of both norms does not
change when one factor grows and the other shrinks; at its least it is the squared nuclear norm of H P over C,
which is ‖H P‖² where the classes are equally far apart: a strength means what it means for one linear layer.
λ and λ_a are the features' mean squared length over the strength.

Every part is convex with the others fixed, and with H fixed P is a linear classifier with as many outputs as
H has directions, however wide the shared space is. So: P (and P_a), H, then P again. One turn is enough: the
first P is as good as one linear layer already, and each later part only descends.

The start of H is what a method says about classes, in equal parts with directions of its own for every class
(so that classes without auxiliary data, or with texts that do not tell them apart, can still be learnt):
class means (`init`), else the head of the first auxiliary alone, else nothing but the directions, with which
the first P is one linear layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from uml_train.data.rows import vectors
from uml_train.fullbatch.axes import AxisStream, Thin, axes_of, directions, remembered, squares_of
from uml_train.fullbatch.cross_entropy import LinearProblem
from uml_train.fullbatch.squared import centred_targets, head_of, projection_of
from uml_train.grid import Point
from uml_train.heads.models import HeadModel, Samples

_BELIEF = 0.5  # how much of the start is what the auxiliary says, the rest is each class by itself


@dataclass(frozen=True)
class Effort:
    """How far a part is solved: `tolerance` of `minimise`, its most steps, and those where it begins near."""

    tolerance: float
    steps: int
    refining: int


USUAL = Effort(2e-2, 100, 8)
EXACT = Effort(1e-4, 1_000, 50)


@dataclass(frozen=True, eq=False)
class Shared:
    """M solved heads: head (M, C, W), projections per modality (M, W, D) or None, bias (M, C) float64,
    steps (M,)."""

    head: Tensor
    projections: list[Tensor | None]
    bias: Tensor
    steps: Tensor


@dataclass(eq=False)
class _Auxiliary:
    """An auxiliary: its stream, weights (M,), λ_a (M,), and whether it has a projection."""

    stream: AxisStream
    weight: Tensor
    penalty: Tensor
    projected: bool


def solve_shared(model: HeadModel, points: list[Point], effort: Effort = USUAL) -> Shared:
    """Solve one model, whose target has a projection, for points of one loss."""
    target = AxisStream.of(model.target, centred=True)
    strengths = torch.tensor([p.strength for p in points])
    n = len(target)
    others = []
    for samples in model.auxiliaries:
        stream = auxiliary_stream(samples)
        weight = torch.tensor([p.weight * n / len(stream) for p in points])
        others.append(_Auxiliary(stream, weight, stream.spread / strengths, samples.projected))
    parts = _Squared if points[0].loss == "squared" else _Likelihood
    solver = parts(model, target, target.spread / strengths, others, effort)
    head, frame = _start(model, solver, len(points))
    found = solver.projection(head)
    sides = solver.sides(head)
    head = solver.head(head, found, sides, frame)
    found = solver.projection(head, found)
    sides = solver.sides(head, sides)
    own = found @ target.basis.T
    projections: list[Tensor | None] = [own]
    straight = iter(sides)
    projections += [next(straight) @ a.stream.basis.T if a.projected else None for a in others]
    shift = head.double() @ (own.double() @ target.mean).unsqueeze(2)
    bias = solver.bias.double() - shift.squeeze(2)
    return Shared(head, projections, bias, solver.steps)


def _start(model: HeadModel, solver: _Parts, candidates: int) -> tuple[Tensor, Tensor]:
    """The first heads (M, C, W), and the rows (M, q, W) that heads are sought in the span of."""
    classes, width = model.classes, model.width
    if model.head is not None:
        said: Tensor | None = model.head.expand(candidates, -1, -1)
    else:
        said = solver.alone()
    if said is None:
        own = directions(classes, width, model.seed).expand(candidates, -1, -1)
        return own, own if classes <= width else torch.eye(width).expand(candidates, -1, -1)
    # What all rows have in common changes no probability.
    said = said - said.mean(1, keepdim=True)
    said = said * (classes / squares_of(said).clamp_min(1e-30)).sqrt()[:, None, None]
    if 2 * classes > width:
        own = directions(classes, width, model.seed).expand(candidates, -1, -1)
        frame = torch.eye(width).expand(candidates, -1, -1)
    else:
        spans = Thin.of(said).right.mT
        # The common part is gone, so a row of zeros stands in for the direction it had.
        own = torch.stack([directions(classes, width, model.seed, beside=span) for span in spans])
        frame = torch.cat([spans, own], dim=1)
    return _BELIEF**0.5 * said + (1.0 - _BELIEF) ** 0.5 * own, frame


def auxiliary_stream(samples: Samples) -> AxisStream:
    """An auxiliary's rows; the axes of a large one take as long as a small head."""
    features = vectors(samples.features)
    ones = torch.ones(len(features))
    x, basis, mean, spread = remembered(lambda: axes_of(features, ones, centred=False), "axes", features)
    return AxisStream(x, basis, mean, samples.labels, spread, ones)


class _Parts:
    """The parts of the objective with one loss; each solves for one factor with the others as they are."""

    def __init__(
        self,
        model: HeadModel,
        target: AxisStream,
        penalty: Tensor,
        others: list[_Auxiliary],
        effort: Effort,
    ) -> None:
        self.effort = effort
        self.classes, self.target, self.penalty, self.others = model.classes, target, penalty, others
        self.bias = torch.zeros(len(penalty), model.classes)
        self.steps = torch.zeros(len(penalty), dtype=torch.int64)

    def alone(self) -> Tensor | None:
        """The heads (M, C, W) that the first auxiliary would have by itself; None where it is projected."""
        raise NotImplementedError

    def projection(self, head: Tensor, near: Tensor | None = None) -> Tensor:
        """The target's projection (M, W, K) for a head (M, C, W); `near` is the one before."""
        raise NotImplementedError

    def sides(self, head: Tensor, near: list[Tensor] | None = None) -> list[Tensor]:
        """The projections (M, W, K) of those auxiliaries that have one; `near` are those before."""
        raise NotImplementedError

    def head(self, head: Tensor, projection: Tensor, sides: list[Tensor], frame: Tensor) -> Tensor:
        """The head (M, C, W), a step of the descent from `head` on, in the span of `frame`; sets the bias."""
        raise NotImplementedError

    def _stacked(
        self, projection: Tensor, sides: list[Tensor], frame: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the head sees: rows (M, N, q), labels (N,), importance (M, N), and its penalty (M,)."""
        models = len(self.penalty)
        rows = [self.target.x.expand(models, -1, -1) @ (frame @ projection).mT]
        importance = [self.target.importance.expand(models, -1)]
        penalty = self.penalty * squares_of(projection) / self.classes
        maps = iter(sides)
        for a in self.others:
            if a.projected:
                side = next(maps)
                rows.append(a.stream.x.expand(models, -1, -1) @ (frame @ side).mT)
                penalty = penalty + a.weight * a.penalty * squares_of(side) / self.classes
            else:
                rows.append(a.stream.x.expand(models, -1, -1) @ (frame @ a.stream.basis).mT)
                penalty = penalty + a.weight * a.penalty
            importance.append(a.weight[:, None].expand(-1, len(a.stream)))
        labels = torch.cat([self.target.labels, *(a.stream.labels for a in self.others)])
        return torch.cat(rows, 1), labels, torch.cat(importance, 1), penalty.clamp_min(1e-12)


class _Likelihood(_Parts):
    """Cross-entropies, by L-BFGS."""

    def alone(self) -> Tensor | None:
        if not self.others or self.others[0].projected:
            return None
        first = self.others[0]
        stream, models = first.stream, len(self.penalty)

        def solve() -> tuple[Tensor, Tensor]:
            x, ones = stream.x.expand(models, -1, -1), torch.ones(models, len(stream))
            problem = LinearProblem(x, stream.labels, ones, first.penalty, self.classes)
            theta, _, steps = problem.solve(self.effort.tolerance, self.effort.steps)
            return theta @ stream.basis.T, steps

        head, steps = remembered(
            solve, "alone", stream.x, stream.labels, first.penalty, self.classes, self.effort
        )
        self.steps += steps
        return head

    def projection(self, head: Tensor, near: Tensor | None = None) -> Tensor:
        return self._projection(head, self.target, self.penalty, self.bias, near)

    def sides(self, head: Tensor, near: list[Tensor] | None = None) -> list[Tensor]:
        none = torch.zeros_like(self.bias)
        projected = [a for a in self.others if a.projected]
        starts: list[Tensor | None] = [None] * len(projected) if near is None else list(near)
        return [
            self._projection(head, a.stream, a.penalty, none, start)
            for a, start in zip(projected, starts, strict=True)
        ]

    def _projection(
        self, head: Tensor, stream: AxisStream, penalty: Tensor, bias: Tensor, near: Tensor | None
    ) -> Tensor:
        thin, models = Thin.of(head), len(penalty)
        problem = LinearProblem(
            stream.x.expand(models, -1, -1),
            stream.labels,
            stream.importance.expand(models, -1),
            penalty * squares_of(head) / self.classes,
            self.classes,
            mix=thin.mix,
            shift=bias[:, None, :],
            start=None if near is None else thin.right.mT @ near,
        )
        return (
            thin.right @ self._solve(problem, self.effort.steps if near is None else self.effort.refining)[0]
        )

    def head(self, head: Tensor, projection: Tensor, sides: list[Tensor], frame: Tensor) -> Tensor:
        rows, labels, importance, penalty = self._stacked(projection, sides, frame)
        counts = (torch.arange(len(labels)) < len(self.target)).float()
        problem = LinearProblem(
            rows, labels, importance, penalty, self.classes, counts=counts, start=head @ frame.mT
        )
        found, self.bias = self._solve(problem, self.effort.refining)
        return found @ frame

    def _solve(self, problem: LinearProblem, steps: int) -> tuple[Tensor, Tensor]:
        theta, bias, taken = problem.solve(self.effort.tolerance, steps)
        self.steps += taken
        return theta, bias


class _Squared(_Parts):
    """Squared errors of one-hot labels, in closed form."""

    def alone(self) -> Tensor | None:
        if not self.others or self.others[0].projected:
            return None
        first = self.others[0]
        y, _ = centred_targets(first.stream.labels, self.classes, first.stream.importance)
        x = first.stream.x.expand(len(self.penalty), -1, -1)
        return head_of(x, y, torch.ones(x.shape[:2]), first.penalty) @ first.stream.basis.T

    def projection(self, head: Tensor, near: Tensor | None = None) -> Tensor:
        return self._projection(head, self.target, self.penalty)

    def sides(self, head: Tensor, near: list[Tensor] | None = None) -> list[Tensor]:
        return [self._projection(head, a.stream, a.penalty) for a in self.others if a.projected]

    def _projection(self, head: Tensor, stream: AxisStream, penalty: Tensor) -> Tensor:
        y, _ = centred_targets(stream.labels, self.classes, stream.importance)
        return projection_of(
            stream.x, y, stream.importance, Thin.of(head), penalty * squares_of(head) / self.classes
        )

    def head(self, head: Tensor, projection: Tensor, sides: list[Tensor], frame: Tensor) -> Tensor:
        rows, _, importance, penalty = self._stacked(projection, sides, frame)
        streams = [self.target, *(a.stream for a in self.others)]
        targets = [centred_targets(s.labels, self.classes, s.importance) for s in streams]
        y = torch.cat([found for found, _ in targets])
        self.bias = targets[0][1].expand_as(self.bias)
        self.steps += 1
        return head_of(rows, y, importance, penalty) @ frame
