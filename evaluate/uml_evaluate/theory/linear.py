"""Fisher information of the linear model, variance per direction, exchange rates.

Shapes: N scalar observations, P shared factors θ_c, Q private factors; M (P, P) information matrices.

The model of paper 3.1, one modality at a time: x = A θ_c + B θ_x + ε with ε ~ N(0, σ²), where θ_c is shared
by all modalities and θ_x belongs to this one. Rows of A and B are known; θ_c and θ_x are to be estimated.

Two traps, both kept apart here. The information is (1/σ²)·AᵀA, with the noise (a modality of low noise says
more per row); and what is left for θ_c when θ_x must be estimated too is the Schur complement
(1/σ²)·Aᵀ(I − BB⁺)A, which equals the former only where AᵀB = 0 ("Fisher-orthogonal"). Where A and B span the
same columns the modality says nothing of θ_c, however many rows it has.

A direction v has variance vᵀM⁺v if v lies in range(M), else infinite variance: no unbiased estimate of vᵀθ_c
exists. Whether it lies there is decided with a relative tolerance, because rounding makes null directions
look like very badly known ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

TOLERANCE = 1e-9
"""Eigenvalues below this times the largest one count as 0; a direction whose part outside the range is longer
than the square root of this, relative to its length, lies outside."""


@dataclass(frozen=True, eq=False)
class Design:
    """How one modality's observations depend on the factors.

    Args:
        shared: A (N, P).
        private: B (N, Q), or None for a modality without factors of its own.
        noise: σ > 0, standard deviation of each observation: one number, or (N,) of them.

    Raises:
        ValueError: shapes that do not fit, noise that is not positive, values that are not finite.
    """

    shared: NDArray[np.float64]
    private: NDArray[np.float64] | None = None
    noise: float | NDArray[np.float64] = 1.0

    def __post_init__(self) -> None:
        shared = np.asarray(self.shared, dtype=np.float64)
        private = None if self.private is None else np.asarray(self.private, dtype=np.float64)
        noise = np.asarray(self.noise, dtype=np.float64)
        if shared.ndim != 2 or (private is not None and (private.ndim, len(private)) != (2, len(shared))):
            shapes = f"shared {shared.shape}, private {None if private is None else private.shape}"
            raise ValueError(f"{shapes}; expected (N, P) and (N, Q)")
        if noise.shape not in ((), (len(shared),)) or not (noise > 0).all():
            raise ValueError(f"noise has shape {noise.shape}; expected one positive number or (N,) of them")
        for name, values in (("shared", shared), ("private", private), ("noise", noise)):
            if values is not None and not np.isfinite(values).all():
                raise ValueError(f"{name} holds values that are not finite")
        object.__setattr__(self, "shared", shared)
        object.__setattr__(self, "private", private)

    @property
    def whitened(self) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """A (N, P) and B (N, Q), or None, with every row divided by its noise."""
        scale = np.broadcast_to(np.asarray(self.noise, dtype=np.float64), len(self.shared))[:, None]
        return self.shared / scale, None if self.private is None else self.private / scale

    def repeated(self, times: int) -> Design:
        """The same rows observed `times` times, independently."""
        noise = np.asarray(self.noise, dtype=np.float64)
        return Design(
            np.tile(self.shared, (times, 1)),
            None if self.private is None else np.tile(self.private, (times, 1)),
            np.tile(noise, times) if noise.ndim else float(noise),
        )


def information(design: Design) -> NDArray[np.float64]:
    """Information (P + Q, P + Q) on all factors, shared ones first: the inverse covariance of least
    squares."""
    shared, private = design.whitened
    both = shared if private is None else np.concatenate([shared, private], axis=1)
    return both.T @ both


def shared_information(design: Design, *, private_known: bool = False) -> NDArray[np.float64]:
    """Information M (P, P) on the shared factors.

    Private factors are unknown and estimated along: M is the Schur complement AᵀA − AᵀB(BᵀB)⁺BᵀA over σ².

    Args:
        private_known: take them as known, AᵀA/σ². The paper's proofs do so; it is the same only where the
            design is Fisher-orthogonal, and never less.
    """
    shared, private = design.whitened
    if private is not None and not private_known:
        left = _column_space(private)
        # Projecting the rows keeps M positive where subtracting two large products would lose it to rounding.
        projected = shared - left @ (left.T @ shared)
        lost = np.linalg.norm(projected, axis=0) <= np.sqrt(TOLERANCE) * np.linalg.norm(shared, axis=0)
        shared = np.where(lost, 0.0, projected)
    return shared.T @ shared


def is_fisher_orthogonal(design: Design) -> bool:
    """Whether shared and private factors do not share information: AᵀB = 0 within the tolerance."""
    shared, private = design.whitened
    if private is None:
        return True
    scale = np.linalg.norm(shared) * np.linalg.norm(private)
    return bool(np.abs(shared.T @ private).max(initial=0.0) <= np.sqrt(TOLERANCE) * max(scale, 1e-300))


def identifiable(m_pp: ArrayLike, v: ArrayLike, tolerance: float = TOLERANCE) -> bool:
    """Whether v (P,) lies in range(M), so that vᵀθ_c can be estimated without bias at all."""
    matrix, direction = _matrix(m_pp), np.asarray(v, dtype=np.float64)
    values, vectors = np.linalg.eigh(matrix)
    null = vectors[:, values <= tolerance * max(values[-1], 0.0)] if values[-1] > 0 else vectors
    outside = np.linalg.norm(null.T @ direction)
    return bool(outside <= np.sqrt(tolerance) * np.linalg.norm(direction))


def variance(m_pp: ArrayLike, v: ArrayLike, tolerance: float = TOLERANCE) -> float:
    """Variance of the best unbiased estimate of vᵀθ_c: vᵀM⁺v if v lies in range(M), else infinity.

    Args:
        m_pp: M, symmetric and positive semi-definite.
        v: (P,) direction; its length matters (2v has four times the variance).
        tolerance: see `TOLERANCE`.
    """
    matrix, direction = _matrix(m_pp), np.asarray(v, dtype=np.float64)
    if not identifiable(matrix, direction, tolerance):
        return np.inf
    values, vectors = np.linalg.eigh(matrix)
    kept = values > tolerance * max(values[-1], 0.0)
    parts = vectors[:, kept].T @ direction
    return float((parts**2 / values[kept]).sum())


@dataclass(frozen=True, eq=False)
class ExchangeRates:
    """What one sample of Y says relative to one of X, by direction; the best first.

    `rates` (R,) are informations relative to each other, infinite where X is blind and Y is not;
    `directions` (P, R) are the unit directions u to which they belong: uᵀM_Y u = rate · uᵀM_X u. Directions
    to which both are blind are left out.
    """

    rates: NDArray[np.float64]
    directions: NDArray[np.float64]


def exchange_rates(
    per_x: ArrayLike, per_y: ArrayLike, *, samples: tuple[int, int] = (1, 1), tolerance: float = TOLERANCE
) -> ExchangeRates:
    """Exchange rate per direction and per sample: how many samples of X one sample of Y is worth.

    The directions are those that decouple the two informations (generalised eigenvectors), so that the first
    is the largest rate that any direction has and the last the smallest.

    Args:
        per_x, per_y: information (P, P) of all samples of each modality.
        samples: how many samples those are; the rates are per sample.
    """
    x, y = _matrix(per_x) / samples[0], _matrix(per_y) / samples[1]
    # Both are diagonal in the same directions once X + Y is whitened to the identity: with Wᵀ Y W =
    # U diag(s) Uᵀ, Wᵀ X W is U diag(1 − s) Uᵀ, and the rate along the directions W U is s / (1 − s).
    values, vectors = np.linalg.eigh(x + y)
    kept = values > tolerance * max(values[-1], 0.0)
    whiten = vectors[:, kept] / np.sqrt(values[kept])
    share, inner = np.linalg.eigh(whiten.T @ y @ whiten)  # Y's part of the joint information, in [0, 1]
    share = share.clip(0.0, 1.0)[::-1]
    directions = (whiten @ inner)[:, ::-1]
    directions = directions / np.linalg.norm(directions, axis=0, keepdims=True)
    rest = 1.0 - share
    rates = np.where(rest > np.sqrt(tolerance), share / np.where(rest > 0, rest, 1.0), np.inf)
    return ExchangeRates(rates, directions)


def samples_replaced(
    start: ArrayLike, per_x: ArrayLike, per_y: ArrayLike, v: ArrayLike, *, most: float = 1e9
) -> float:
    """How many further samples of X lower the variance along v as much as one sample of Y does.

    Unlike `exchange_rates` this counts what is known already: the variance of v depends on all directions
    that `start` couples it with. Infinite where no number of X samples up to `most` will do; 0 where the
    sample of Y does nothing.

    Args:
        start: information (P, P) that is there already.
        per_x, per_y: information of one sample each.
        v: (P,) direction.
    """
    base, x = _matrix(start), _matrix(per_x)
    before, after = variance(base, v), variance(base + _matrix(per_y), v)
    if after >= before * (1.0 - 1e-12) or (np.isinf(before) and np.isinf(after)):
        return 0.0
    low, high = 0.0, 1.0
    while variance(base + high * x, v) > after:
        low, high = high, 2.0 * high
        if high > most:
            return np.inf
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if variance(base + middle * x, v) > after else (low, middle)
    return high


def fitted_design(features: ArrayLike, responses: ArrayLike, *, private: ArrayLike | None = None) -> Design:
    """The design of a linear head that was fitted to data, with the noise that its residuals show.

    The head is responses ≈ features · θ: rows of features are the design, θ the factors. Every response
    column (one-hot classes, say) has the same design; σ² is the mean squared residual of least squares,
    corrected for the parameters that were fitted.

    Args:
        features: (N, P) in the space that the modalities share.
        responses: (N, R).
        private: (N, Q) features of which the other modalities know nothing.

    Raises:
        ValueError: no more rows than parameters, so that the residuals say nothing of the noise.
    """
    shared = np.asarray(features, dtype=np.float64)
    own = None if private is None else np.asarray(private, dtype=np.float64)
    both = shared if own is None else np.concatenate([shared, own], axis=1)
    wanted = np.asarray(responses, dtype=np.float64).reshape(len(both), -1)
    weights, _, rank, _ = np.linalg.lstsq(both, wanted, rcond=None)
    free = len(both) - int(rank)
    if free <= 0:
        raise ValueError(f"{len(both)} rows determine {int(rank)} parameters exactly; no residual is left")
    squared = float(((wanted - both @ weights) ** 2).sum() / (free * wanted.shape[1]))
    return Design(shared, own, noise=max(np.sqrt(squared), 1e-12))


def _matrix(values: ArrayLike) -> NDArray[np.float64]:
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"information has shape {matrix.shape}; expected (P, P)")
    return 0.5 * (matrix + matrix.T)


def _column_space(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthonormal basis (N, rank) of the columns."""
    left, singular, _ = np.linalg.svd(values, full_matrices=False)
    return left[:, singular > np.sqrt(TOLERANCE) * singular.max(initial=0.0)]
