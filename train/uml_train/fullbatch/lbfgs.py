"""L-BFGS on many problems at once, for models whose logits are linear in their parameters.

Shapes: M problems, N samples, C classes, P parameters of a problem (J outputs × K coordinates).
Tensors are float32, numbers of problems and iterations int64, `converged` bool.

All problems take a step together, each with a length of its own. One that is solved leaves the batch, and the
others end where they would have ended with it.

A step goes along −H g, where H stands for the inverse Hessian. With s_i = θ_{i+1} − θ_i, y_i = g_{i+1} − g_i
and ρ_i = 1 / (s_i · y_i) of the last few steps, the two loops are (Nocedal and Wright, Numerical
Optimization, 2nd ed., alg. 7.4, with γ of eq. 7.20):

    q = g;    newest pair first:   α_i = ρ_i s_i · q,   q ← q − α_i y_i
    r = γ q,  γ = s · y / y · y of the newest pair;
              oldest pair first:   b_i = α_i − ρ_i y_i · r,   r ← r + b_i s_i;   H g = r
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

_MEMORY = 5  # pairs of the recursion; more are read and written more often than they save steps
_ARMIJO = 1e-4
_HALVINGS = 12
_NOISE = 3e-7  # float32: relative changes of a loss below this mean nothing


class BatchedProblem(Protocol):
    """M problems with parameters (M, J, K), which begin at `start`.

    `scale` (M, J, K) changes to coordinates in which the Hessian's diagonal is about 1.
    """

    start: Tensor
    scale: Tensor

    def first_logits(self) -> Tensor:
        """(M, N, C) at `start`, with whatever does not depend on the parameters."""
        ...

    def logits(self, theta: Tensor) -> Tensor:
        """(M, N, C), linear in theta."""
        ...

    def loss(self, z: Tensor, theta: Tensor, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Losses (M,) and probabilities (M, N, C) at logits z, of the problems at `index` only."""
        ...

    def gradient(self, p: Tensor, theta: Tensor) -> Tensor:
        """(M, J, K) at probabilities p, which may be overwritten."""
        ...

    def keep(self, index: Tensor) -> None:
        """Keep the problems at `index` (M′,) int64 only."""
        ...


@dataclass(eq=False)
class _Point:
    """Where the problems stand: parameters (M, J, K), logits (M, N, C) and losses (M,)."""

    theta: Tensor
    z: Tensor
    loss: Tensor

    def at(self, index: Tensor) -> _Point:
        return _Point(*(t.index_select(0, index) for t in (self.theta, self.z, self.loss)))


def minimise(problem: BatchedProblem, tolerance: float, max_steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Minimisers (M, J, K), iterations (M,) and whether each converged (M,)."""
    best = problem.start.clone()
    models = len(best)
    steps = torch.zeros(models, dtype=torch.int64)
    converged = torch.zeros(models, dtype=torch.bool)
    active = torch.arange(models)
    z = problem.first_logits()
    loss, p = problem.loss(z, best)
    here = _Point(best.clone(), z, loss)
    gradient = problem.gradient(p, here.theta)
    gained = torch.zeros_like(loss)
    history = _History(problem.scale * gradient)
    for _ in range(max_steps):
        direction = history.direction().mul_(problem.scale)
        # −slope = gᵀ H g is about twice the decrease that is left (Newton's decrement; Boyd and Vandenberghe,
        # Convex Optimization, 9.5.1). Unlike the gradient's length it has the units of the loss.
        slope = torch.linalg.vecdot(gradient.flatten(1), direction.flatten(1))
        done = -slope <= tolerance**2 * gained
        if bool(done.all()):
            break
        if int(done.sum()) * 4 >= len(active):
            best[active], converged[active] = here.theta, done
            index = torch.nonzero(~done).flatten()
            active = active[index]
            problem.keep(index)
            history.keep(index)
            here = here.at(index)
            direction, slope, done, gained = (
                t.index_select(0, index) for t in (direction, slope, done, gained)
            )
        there, length, p = _search(problem, here, direction, slope, ~done)
        steps[active] += (length > 0).long()
        gained += (here.loss - there.loss).clamp_min(0.0)
        gradient = problem.gradient(p, there.theta)
        history.add(direction.mul_(length[:, None, None]).div_(problem.scale), problem.scale * gradient)
        here = there
        if bool(((length == 0) | done).all()):
            break
    best[active], converged[active] = here.theta, done
    return best, steps, converged


class _History:
    """The last pairs of steps s and changes of the gradient y, in coordinates in which `H0` is a multiple of
    the identity.

    The two loops run on inner products, so that a step reads every vector a few times at most: for the
    products with the newest ones, and for the sum that is the direction. Neither q nor r is formed: as
    q = g − Σ_j α_j y_j and r = γ q + Σ_j b_j s_j,

        s_i · q = s_i · g − Σ_j α_j s_i · y_j
        y_i · r = γ (y_i · g − Σ_j α_j y_i · y_j) + Σ_j b_j s_j · y_i
    """

    def __init__(self, gradient: Tensor) -> None:
        models = len(gradient)
        self.shape = gradient.shape[1:]
        # Rows: the steps, the changes, the newest gradient.
        self.vectors = torch.zeros(models, 2 * _MEMORY + 1, gradient[0].numel())
        self.vectors[:, -1] = gradient.flatten(1)
        self.with_y = np.zeros((models, 2 * _MEMORY, _MEMORY))
        self.with_gradient = np.zeros((models, 2 * _MEMORY))
        self.factor = np.zeros((models, _MEMORY))  # 1 / (s · y); 0 leaves a pair out
        self.count = 0

    def keep(self, index: Tensor) -> None:
        """Keep the problems at `index` (M′,) int64 only."""
        self.vectors = self.vectors.index_select(0, index)
        for name in ("with_y", "with_gradient", "factor"):
            setattr(self, name, getattr(self, name)[index.numpy()])

    def add(self, step: Tensor, gradient: Tensor) -> None:
        """A step (M, J, K) and the gradient behind it."""
        s = self.count % _MEMORY
        y = _MEMORY + s
        new = gradient.flatten(1)
        self.vectors[:, s] = step.flatten(1)
        torch.sub(new, self.vectors[:, -1], out=self.vectors[:, y])
        self.vectors[:, -1] = new
        # All products in one call: with a single vector at a time it takes seven times as long.
        newest = self.vectors[:, [s, y, 2 * _MEMORY]]
        products = torch.bmm(newest, self.vectors.mT).double().numpy()
        with_s, with_y, with_gradient = products[:, 0], products[:, 1], products[:, 2]
        self.with_y[:, :, s] = with_y[:, :-1]
        self.with_gradient = with_gradient[:, :-1]
        # The rows of the newest pair with the older changes: products are symmetric.
        self.with_y[:, s] = with_s[:, _MEMORY:-1]
        self.with_y[:, y] = with_y[:, _MEMORY:-1]
        # H stays positive definite only with s · y > 0; a pair with next to none says nothing in float32.
        curvature, length = with_y[:, s], with_s[:, s]
        sound = curvature > 1e-10 * length
        self.factor[:, s] = np.where(sound, 1.0 / np.where(sound, curvature, 1.0), 0.0)
        self.count += 1

    def direction(self) -> Tensor:
        """−H · gradient (M, J, K)."""
        if not self.count:
            return -self.vectors[:, -1].unflatten(1, self.shape)
        slots = [i % _MEMORY for i in range(max(0, self.count - _MEMORY), self.count)]
        s_y, y_y = self.with_y[:, :_MEMORY], self.with_y[:, _MEMORY:]
        s_g, y_g = self.with_gradient[:, :_MEMORY], self.with_gradient[:, _MEMORY:]
        alpha, beta = np.zeros_like(self.factor), np.zeros_like(self.factor)
        for i in reversed(slots):
            alpha[:, i] = self.factor[:, i] * (s_g[:, i] - (s_y[:, i] * alpha).sum(1))
        newest = slots[-1]
        spread = self.factor[:, newest] * y_y[:, newest, newest]
        scale = np.where(spread > 0, 1.0 / np.maximum(spread, 1e-30), 1.0)
        for i in slots:
            y_q = scale * (y_g[:, i] - (y_y[:, i] * alpha).sum(1)) + (s_y[:, :, i] * beta).sum(1)
            beta[:, i] = alpha[:, i] - self.factor[:, i] * y_q
        # −r = −Σ b_j s_j + γ Σ α_j y_j − γ g
        weights = np.concatenate([-beta, scale[:, None] * alpha, -scale[:, None]], axis=1)
        weights_ = torch.from_numpy(weights).float().unsqueeze(1)
        return torch.bmm(weights_, self.vectors).squeeze(1).unflatten(1, self.shape)


def _search(
    problem: BatchedProblem, here: _Point, direction: Tensor, slope: Tensor, moving: Tensor
) -> tuple[_Point, Tensor, Tensor]:
    """Where the problems go, by halving the step from 1, with step lengths (M,) and probabilities (M, N, C).

    A length is 0 where nothing descends. One is taken that brings the share `_ARMIJO` of what the slope
    promises (Nocedal and Wright, eq. 3.6a). Since the loss is convex, s · y > 0 needs no second condition.

    Args:
        moving: (M,) bool; the others stay.
    """
    along = problem.logits(direction)
    length = moving.to(slope.dtype)
    there, p = _moved(problem, here, direction, along, length)
    slack = _NOISE * here.loss.abs()
    for last in (*[False] * _HALVINGS, True):
        # Written so that a loss that is not a number fails.
        failed = moving & ~(there.loss <= here.loss + _ARMIJO * length * slope + slack)
        if not bool(failed.any()):
            break
        length = torch.where(failed, 0.0 if last else 0.5 * length, length)
        index = torch.nonzero(failed).flatten()
        by, its_logits, shorter = (t.index_select(0, index) for t in (direction, along, length))
        tried, p[index] = _moved(problem, here.at(index), by, its_logits, shorter, index)
        there.theta[index], there.z[index], there.loss[index] = tried.theta, tried.z, tried.loss
    return there, length, p


def _moved(
    problem: BatchedProblem,
    here: _Point,
    direction: Tensor,
    along: Tensor,
    length: Tensor,
    index: Tensor | None = None,
) -> tuple[_Point, Tensor]:
    """The point at a step length (M,), and its probabilities."""
    by = length[:, None, None]
    theta, z = torch.addcmul(here.theta, direction, by), torch.addcmul(here.z, along, by)
    loss, p = problem.loss(z, theta, index)
    return _Point(theta, z, loss), p
