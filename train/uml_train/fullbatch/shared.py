"""A projection and a head that modalities share, solved by turns (paper 3.2, Alg. 2, on all rows at once).

Shapes: M candidates, n rows of the target, m of an auxiliary, D features, K coordinates, W shared width,
C classes, r ≤ min(C, W), q ≤ W directions of the shared space that a head uses.

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

The head stays in the span of its start, and so do the columns of the projections: all are kept as coordinates
in q orthonormal rows of the shared space, its frame. The parts that cells have in common (what an auxiliary
says alone, its projection for the first head) are solved once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from uml_train.fullbatch.axes import (
    AxisStream,
    Solution,
    Thin,
    auxiliary_stream,
    digest_of,
    directions,
    remembered,
    squares_of,
)
from uml_train.fullbatch.cross_entropy import CrossEntropy
from uml_train.fullbatch.squared import head_of, projection_of, ridge
from uml_train.heads.models import HeadModel
from uml_train.protocols.grid import Point

_BELIEF = 0.5  # how much of the start is what the auxiliary says, the rest is each class by itself


@dataclass(frozen=True)
class Effort:
    """How far a part is solved: `tolerance` of `minimise`, its most steps, and those where it begins near."""

    tolerance: float
    steps: int
    refining: int


USUAL = Effort(2e-2, 100, 8)
EXACT = Effort(1e-4, 1_000, 50)


@dataclass(eq=False)
class _Auxiliary:
    """An auxiliary: its stream, weights (M,), λ_a (M,), and whether it has a projection."""

    stream: AxisStream
    weight: Tensor
    penalty: Tensor
    projected: bool


@dataclass(eq=False)
class _Start:
    """The first heads (M, C, q) in the frame (M, q, W); a frame of None is the whole space (q = W).

    `name` is that of both.
    """

    head: Tensor
    frame: Tensor | None
    name: str

    def within(self, maps: Tensor) -> Tensor:
        """What (W, …) is in the frame: (M, q, …)."""
        return maps if self.frame is None else self.frame @ maps

    def out(self, coordinates: Tensor, i: int) -> Tensor:
        """(…, W) of a candidate's coordinates (…, q)."""
        return coordinates if self.frame is None else coordinates @ self.frame[min(i, len(self.frame) - 1)]


def solve_shared(model: HeadModel, points: list[Point], effort: Effort = USUAL) -> Solution:
    """Solve one model, whose target has a projection, for points of one loss."""
    target = AxisStream.of(model.target, centred=True)
    strengths = torch.tensor([p.strength for p in points])
    others = []
    for samples in model.auxiliaries:
        stream = auxiliary_stream(samples)
        weight = torch.tensor([p.weight * len(target) / len(stream) for p in points])
        others.append(_Auxiliary(stream, weight, stream.spread / strengths, samples.projected))
    parts = _Squared if points[0].loss == "squared" else _Likelihood
    solver = parts(model, target, target.spread / strengths, others, effort)
    start = solver.start = _started(model, solver)
    first = start.head.expand(len(points), -1, -1)
    found = solver.projection(first)
    sides = solver.sides(first)
    head = solver.head(first, found, sides)
    found = solver.projection(head, found)
    sides = solver.sides(head, sides)
    maps = iter(sides)
    effects = [head @ found]
    effects += [head @ (next(maps) if a.projected else start.within(a.stream.basis)) for a in others]

    def part(i: int) -> tuple[Tensor, list[Tensor | None], Tensor]:
        columns = iter(sides)
        projections: list[Tensor | None] = [_unfolded(start, found, target, i)]
        projections += [_unfolded(start, next(columns), a.stream, i) if a.projected else None for a in others]
        own = start.out(head[i], i)
        assert projections[0] is not None
        shift = own.double() @ (projections[0].double() @ target.mean)
        return own, projections, solver.bias[i].double() - shift

    return Solution([target, *(a.stream for a in others)], effects, solver.bias.double(), solver.steps, part)


def _unfolded(start: _Start, maps: Tensor, stream: AxisStream, i: int) -> Tensor:
    """A candidate's projection (W, D) of its coordinates (M, q, K)."""
    return start.out((maps[i] @ stream.basis.T).T, i).T.contiguous()


def _started(model: HeadModel, solver: _Parts) -> _Start:
    """Where heads start, and the directions that they are sought in."""
    classes, width, seed = model.classes, model.width, model.seed
    said = solver.alone() if model.head is None else model.head.unsqueeze(0)
    if said is None:
        head = directions(classes, width, seed).unsqueeze(0)
        frame = head if classes <= width else None
        own = torch.eye(classes).unsqueeze(0) if frame is not None else head
        return _Start(own, frame, digest_of("own", classes, width, seed))
    name = digest_of("said", said, classes, width, seed)
    head, frame = remembered(lambda: _beside(said, classes, width, seed), name)
    return _Start(head, frame, name)


def _beside(said: Tensor, classes: int, width: int, seed: int) -> tuple[Tensor, Tensor | None]:
    """Heads of what is said (M, C, W) and of directions of each class's own, and their frame."""
    # What all rows have in common changes no probability.
    said = said - said.mean(1, keepdim=True)
    said = said * (classes / squares_of(said).clamp_min(1e-30)).sqrt()[:, None, None]
    belief, own_share = _BELIEF**0.5, (1.0 - _BELIEF) ** 0.5
    if 2 * classes > width:
        return belief * said + own_share * directions(classes, width, seed), None
    thin = Thin.of(said)
    # The common part is gone, so a row of zeros stands in for the direction it had.
    spans = thin.right.mT
    own = torch.stack([directions(classes, width, seed, beside=span) for span in spans])
    eye = torch.eye(classes).expand(len(said), -1, -1)
    return torch.cat([belief * thin.mix.mT, own_share * eye], dim=2), torch.cat([spans, own], dim=1)


class _Parts:
    """The parts of the objective with one loss; each solves for one factor with the others as they are.

    Heads are (M, C, q) and projections (M, q, K), in the frame of `start`.
    """

    start: _Start

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
        """The target's projection for a head; `near` is the one before."""
        raise NotImplementedError

    def sides(self, head: Tensor, near: list[Tensor] | None = None) -> list[Tensor]:
        """The projections of those auxiliaries that have one; `near` are those before."""
        raise NotImplementedError

    def head(self, head: Tensor, projection: Tensor, sides: list[Tensor]) -> Tensor:
        """The head, a step of the descent from `head` on; sets the bias."""
        raise NotImplementedError

    def _seen(self, projection: Tensor, sides: list[Tensor]) -> list[tuple[AxisStream, Tensor, Tensor]]:
        """Per modality its stream, its map to what the head sees (M, q, K), and the rows' weight (M,)."""
        found = [(self.target, projection, torch.ones(len(self.penalty)))]
        maps = iter(sides)
        for a in self.others:
            side = next(maps) if a.projected else self.start.within(a.stream.basis)
            found.append((a.stream, side.expand(len(self.penalty), -1, -1), a.weight))
        return found

    def _head_penalty(self, projection: Tensor, sides: list[Tensor]) -> Tensor:
        """(M,) λ of the head where the projections stay."""
        penalty = self.penalty * squares_of(projection) / self.classes
        maps = iter(sides)
        for a in self.others:
            size = squares_of(next(maps)) / self.classes if a.projected else 1.0
            penalty = penalty + a.weight * a.penalty * size
        return penalty.clamp_min(1e-12)


class _Likelihood(_Parts):
    """Cross-entropies, by L-BFGS."""

    def alone(self) -> Tensor | None:
        if not self.others or self.others[0].projected:
            return None
        first = self.others[0]
        stream, effort = first.stream, self.effort

        def solve() -> tuple[Tensor, Tensor]:
            problem = CrossEntropy(stream.x, stream.labels, stream.importance, first.penalty, self.classes)
            theta, _, steps = problem.solve(effort.tolerance, effort.steps)
            return theta @ stream.basis.T, steps

        key = "alone", stream.name, stream.labels, first.penalty, self.classes, effort
        head, steps = remembered(solve, *key)
        self.steps += steps
        return head

    def projection(self, head: Tensor, near: Tensor | None = None) -> Tensor:
        found, steps = self._projection(head, self.target, self.penalty, self.bias, near)
        self.steps += steps
        return found

    def sides(self, head: Tensor, near: list[Tensor] | None = None) -> list[Tensor]:
        projected = [a for a in self.others if a.projected]
        none = torch.zeros_like(self.bias)
        found = []
        for i, a in enumerate(projected):

            def solve(a: _Auxiliary = a, at: Tensor | None = None) -> tuple[Tensor, Tensor]:
                return self._projection(head, a.stream, a.penalty, none, at)

            if near is None:
                key = a.stream.name, a.stream.labels, a.penalty, self.start.name, self.effort
                side, steps = remembered(solve, "side", *key)
            else:
                side, steps = solve(at=near[i])
            self.steps += steps
            found.append(side)
        return found

    def _projection(
        self, head: Tensor, stream: AxisStream, penalty: Tensor, bias: Tensor, near: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        thin = Thin.of(head)
        problem = CrossEntropy(
            stream.x,
            stream.labels,
            stream.importance,
            penalty * squares_of(head) / self.classes,
            self.classes,
            mix=thin.mix,
            shift=bias[:, None, :],
            start=None if near is None else thin.right.mT @ near,
        )
        most = self.effort.steps if near is None else self.effort.refining
        theta, _, steps = problem.solve(self.effort.tolerance, most)
        return thin.right @ theta, steps

    def head(self, head: Tensor, projection: Tensor, sides: list[Tensor]) -> Tensor:
        seen = self._seen(projection, sides)
        problem = CrossEntropy(
            torch.cat([self._rows(stream, maps) for stream, maps, _ in seen], 1),
            torch.cat([stream.labels for stream, _, _ in seen]),
            torch.cat([weight[:, None] * stream.importance for stream, _, weight in seen], 1),
            self._head_penalty(projection, sides),
            self.classes,
            counts=torch.cat([torch.full((len(s),), float(s is self.target)) for s, _, _ in seen]),
            start=head,
        )
        found, self.bias, steps = problem.solve(self.effort.tolerance, self.effort.refining)
        self.steps += steps
        return found

    def _rows(self, stream: AxisStream, maps: Tensor) -> Tensor:
        """What the head sees of a modality (M, n, q); of rows that go straight to it, one for all cells."""
        if stream is self.target or any(a.projected and a.stream is stream for a in self.others):
            return stream.x @ maps.mT
        return remembered(lambda: (stream.x @ maps.mT,), "rows", stream.name, self.start.name, len(maps))[0]


class _Squared(_Parts):
    """Squared errors of one-hot labels, in closed form."""

    def alone(self) -> Tensor | None:
        if not self.others or self.others[0].projected:
            return None
        first = self.others[0]
        squares, against, _ = first.stream.moments(self.classes)
        return ridge(squares, against, first.penalty) @ first.stream.basis.T

    def projection(self, head: Tensor, near: Tensor | None = None) -> Tensor:
        return self._projection(head, self.target, self.penalty)

    def sides(self, head: Tensor, near: list[Tensor] | None = None) -> list[Tensor]:
        return [self._projection(head, a.stream, a.penalty) for a in self.others if a.projected]

    def _projection(self, head: Tensor, stream: AxisStream, penalty: Tensor) -> Tensor:
        thin = Thin.of(head)
        squares, against, _ = stream.moments(self.classes)
        penalties = penalty * squares_of(head) / self.classes
        return thin.right @ projection_of(squares, against, thin, penalties)

    def head(self, head: Tensor, projection: Tensor, sides: list[Tensor]) -> Tensor:
        system, rows = torch.zeros(()), torch.zeros(())
        for stream, maps, weight in self._seen(projection, sides):
            squares, against, share = stream.moments(self.classes)
            weighted = weight.double()[:, None, None] * maps.double()
            # Σ v s sᵀ and Σ v s yᵀ of rows s = maps · x, from the moments of x.
            system = system + (weighted * squares) @ maps.double().mT
            rows = rows + weighted @ against.T
            if stream is self.target:
                self.bias = share.float().expand_as(self.bias)
        self.steps += 1
        return head_of(system, rows, self._head_penalty(projection, sides))
