"""L-BFGS on many problems at once, for models whose logits are linear in their parameters.

Shapes: G draws, R penalties (M = G · R problems), N samples a draw, C classes, K coordinates of a class,
P = C · K parameters of a problem.

All problems take a step together, each with a length of its own; those that are solved stay where they are,
and a penalty whose draws are all solved leaves the batch.

A step goes along −H g, where H stands for the inverse Hessian. With s_i = θ_{i+1} − θ_i, y_i = g_{i+1} − g_i
and ρ_i = 1 / (s_i · y_i) of the last few steps, the two loops are (Nocedal and Wright, Numerical
Optimization, 2nd ed., alg. 7.4, with γ of eq. 7.20):

    q = g;    newest pair first:   α_i = ρ_i s_i · q,   q ← q − α_i y_i
    r = γ q,  γ = s · y / y · y of the newest pair;
              oldest pair first:   b_i = α_i − ρ_i y_i · r,   r ← r + b_i s_i;   H g = r
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

_MEMORY = 5  # pairs of the recursion; more are read and written more often than they save steps
_ARMIJO = 1e-4
_HALVINGS = 12
_NOISE = 3e-7  # float32: relative changes of a loss below this mean nothing


class BatchedProblem(Protocol):
    """G × R problems with parameters (G, R, C, K) = `shape`, which start at `centre`.

    `scale` changes to coordinates in which the Hessian's diagonal is about 1.
    """

    shape: tuple[int, int, int, int]
    centre: Tensor
    scale: Tensor
    penalty: Tensor

    def logits(self, theta: Tensor) -> Tensor:
        """(G, N, R, C), linear in theta."""
        ...

    def loss(self, z: Tensor, theta: Tensor, penalty: Tensor) -> tuple[Tensor, Tensor]:
        """Losses (G, R) and log-probabilities (G, N, R, C)."""
        ...

    def gradient(self, log_p: Tensor, theta: Tensor) -> Tensor:
        """(G, R, C, K); `log_p` may be overwritten."""
        ...

    def keep(self, index: Tensor) -> None:
        """Keep the penalties at `index` only."""
        ...


def minimise(problem: BatchedProblem, tolerance: float, max_steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Minimisers (G, R, C, K), iterations (G, R) and whether each converged (G, R)."""
    draws, penalties = problem.shape[:2]
    best = problem.centre.expand(problem.shape).clone()
    steps = torch.zeros(draws, penalties, dtype=torch.int64)
    converged = torch.zeros(draws, penalties, dtype=torch.bool)
    active = torch.arange(penalties)
    theta = best.clone()
    z = problem.logits(theta)
    loss, log_p = problem.loss(z, theta, problem.penalty)
    gradient = problem.gradient(log_p, theta)
    gained = torch.zeros_like(loss)
    history = _History(problem.scale * gradient)
    for _ in range(max_steps):
        direction = history.direction().mul_(problem.scale)
        # −slope = gᵀ H g is about twice the decrease that is left (Newton's decrement; Boyd and Vandenberghe,
        # Convex Optimization, 9.5.1). Unlike the gradient's length it has the units of the loss.
        slope = _dot(gradient, direction)
        done = -slope <= tolerance**2 * gained
        stop = done.all(0)
        if bool(stop.all()):
            break
        if int(stop.sum()) * 4 >= len(active):
            best[:, active] = theta
            converged[:, active] = done
            index = torch.nonzero(~stop).flatten()
            active = active[index]
            problem.keep(index)
            history.keep(index)
            theta, gradient, direction = (t.index_select(1, index) for t in (theta, gradient, direction))
            loss, slope, done, gained = (t.index_select(1, index) for t in (loss, slope, done, gained))
            z = z.index_select(2, index)
        along = problem.logits(direction)
        length, found, log_p = _search(problem, (theta, z), (direction, along), loss, slope, ~done)
        steps[:, active] += (length > 0).long()
        gained += (loss - found).clamp_min(0.0)
        loss = found
        direction.mul_(length[:, :, None, None])
        theta.add_(direction)
        z.addcmul_(along, length[:, None, :, None])
        gradient = problem.gradient(log_p, theta)
        history.add(direction.div_(problem.scale), problem.scale * gradient)
        if bool(((length == 0) | done).all()):
            break
    best[:, active] = theta
    converged[:, active] = done
    return best, steps, converged


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """(G, R) inner products of stacks of parameters (G, R, C, K)."""
    return torch.linalg.vecdot(a.flatten(2), b.flatten(2))


class _History:
    """The last pairs of steps s and changes of the gradient y, in coordinates in which `H0` is a multiple of
    the identity.

    The two loops run on inner products, so that a step reads every vector twice: once for the products with
    the newest ones, once for the sum that is the direction. Neither q nor r is formed: as q = g − Σ_j α_j y_j
    and r = γ q + Σ_j b_j s_j,

        s_i · q = s_i · g − Σ_j α_j s_i · y_j
        y_i · r = γ (y_i · g − Σ_j α_j y_i · y_j) + Σ_j b_j s_j · y_i
    """

    def __init__(self, gradient: Tensor) -> None:
        draws, penalties = gradient.shape[:2]
        self.shape = gradient.shape[2:]
        # Rows: the steps, the changes, the newest gradient.
        self.vectors = torch.zeros(draws, penalties, 2 * _MEMORY + 1, gradient[0, 0].numel())
        self.vectors[:, :, -1] = gradient.flatten(2)
        self.with_y = torch.zeros(draws, penalties, 2 * _MEMORY, _MEMORY)
        self.with_gradient = torch.zeros(draws, penalties, 2 * _MEMORY)
        self.factor = torch.zeros(draws, penalties, _MEMORY)  # 1 / (s · y); 0 leaves a pair out
        self.count = 0

    def keep(self, index: Tensor) -> None:
        """Keep the penalties at `index` only."""
        for name in ("vectors", "with_y", "with_gradient", "factor"):
            setattr(self, name, getattr(self, name).index_select(1, index))

    def add(self, step: Tensor, gradient: Tensor) -> None:
        """A step (G, R, C, K) and the gradient behind it."""
        s = self.count % _MEMORY
        y = _MEMORY + s
        new = gradient.flatten(2)
        self.vectors[:, :, s] = step.flatten(2)
        torch.sub(new, self.vectors[:, :, -1], out=self.vectors[:, :, y])
        self.vectors[:, :, -1] = new
        products = torch.matmul(self.vectors, self.vectors[:, :, [s, y, -1]].transpose(2, 3))
        self.with_y[..., s] = products[:, :, :-1, 1]
        self.with_gradient = products[:, :, :-1, 2]
        # The rows of the newest pair with the older changes: products are symmetric.
        self.with_y[:, :, s] = products[:, :, _MEMORY:-1, 0]
        self.with_y[:, :, y] = products[:, :, _MEMORY:-1, 1]
        # H stays positive definite only with s · y > 0; a pair with next to none says nothing in float32.
        curvature, length = products[:, :, s, 1], products[:, :, s, 0]
        self.factor[..., s] = torch.where(curvature > 1e-10 * length, curvature.reciprocal(), 0.0)
        self.count += 1

    def direction(self) -> Tensor:
        """−H · gradient (G, R, C, K)."""
        if not self.count:
            return -self.vectors[:, :, -1].unflatten(2, self.shape)
        slots = [i % _MEMORY for i in range(max(0, self.count - _MEMORY), self.count)]
        s_y, y_y = self.with_y[:, :, :_MEMORY], self.with_y[:, :, _MEMORY:]
        s_g, y_g = self.with_gradient[..., :_MEMORY], self.with_gradient[..., _MEMORY:]
        alpha, beta = torch.zeros_like(self.factor), torch.zeros_like(self.factor)
        for i in reversed(slots):
            alpha[..., i] = self.factor[..., i] * (s_g[..., i] - (s_y[:, :, i] * alpha).sum(2))
        newest = slots[-1]
        spread = self.factor[..., newest] * y_y[:, :, newest, newest]
        scale = torch.where(spread > 0, spread.clamp_min(1e-30).reciprocal(), 1.0).unsqueeze(2)
        for i in slots:
            y_q = scale[..., 0] * (y_g[..., i] - (y_y[:, :, i] * alpha).sum(2))
            y_q = y_q + (s_y[..., i] * beta).sum(2)
            beta[..., i] = alpha[..., i] - self.factor[..., i] * y_q
        # −r = −Σ b_j s_j + γ Σ α_j y_j − γ g
        weights = torch.cat([-beta, scale * alpha, -scale], dim=2).unsqueeze(2)
        return torch.matmul(weights, self.vectors).squeeze(2).unflatten(2, self.shape)


def _search(
    problem: BatchedProblem,
    at: tuple[Tensor, Tensor],
    along: tuple[Tensor, Tensor],
    loss: Tensor,
    slope: Tensor,
    moving: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Step lengths (G, R) by halving from 1, 0 where nothing descends; with the losses and log-probabilities.

    A length is taken that brings the share `_ARMIJO` of what the slope promises (Nocedal and Wright, eq.
    3.6a). Since the loss is convex, s · y > 0 needs no second condition.

    Args:
        at, along: parameters and logits of the point and of the direction.
        moving: (G, R) bool; the others stay.
    """
    length = moving.to(loss.dtype)
    found, log_p = problem.loss(*_point(at, along, length), problem.penalty)
    slack = _NOISE * loss.abs()
    for _ in range(_HALVINGS):
        # Written so that a loss that is not a number fails.
        failed = moving & ~(found <= loss + _ARMIJO * length * slope + slack)
        if not bool(failed.any()):
            return length, found, log_p
        length = torch.where(failed, 0.5 * length, length)
        index = torch.nonzero(failed.any(0)).flatten()
        some_at = at[0].index_select(1, index), at[1].index_select(2, index)
        some_along = along[0].index_select(1, index), along[1].index_select(2, index)
        tried = _point(some_at, some_along, length[:, index])
        found[:, index], log_p[:, :, index] = problem.loss(*tried, problem.penalty[:, index])
    failed = moving & ~(found <= loss + _ARMIJO * length * slope + slack)
    length = torch.where(failed, 0.0, length)
    return length, *problem.loss(*_point(at, along, length), problem.penalty)


def _point(at: tuple[Tensor, Tensor], along: tuple[Tensor, Tensor], length: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and parameters at a step length (G, R)."""
    logits = torch.addcmul(at[1], along[1], length[:, None, :, None])
    return logits, torch.addcmul(at[0], along[0], length[:, :, None, None])
