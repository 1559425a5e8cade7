"""What the paper's theory states, each as a check of one design: whether its premise is met, and whether it
holds.

Shapes: P shared factors; M_X, M_Y (P, P) information of each modality on them; v (P,) a direction.

The paper's section 3.1 and appendix C argue in three steps: samples of Y add information on what both
modalities share (Theorem 1), they make directions known to which X is blind (Theorem 2), and along some
directions one sample of Y is worth more than one of X (Theorem 3). The functions say these steps in our
words and state exactly what is checked; where the printed form of a step fails, printed and corrected form
stand side by side. Numbers are those of arXiv:2510.08492v1.

    Theorem 1             `information_adds`, `adding_never_hurts`; its strict order `strict_order_as_printed`
    Theorem 2 (1)         vᵀM_Y v > 0 wherever B_c v ≠ 0, by definition; says nothing of variances
    Theorem 2 (2)         `blind_direction_as_printed` and `_corrected` outside range(M_X);
                          `identifiable_direction_as_printed` and `strictly_better` inside it
    Theorem 3             `one_sample_worth_more`
    Corollary 1           `common_eigenvector_contracts`
    Corollary 2           the case v in null(M_X) of `blind_direction_as_printed`; fails with it
    Corollary 3           the case of an eigenvector of `identifiable_direction_as_printed`; fails with it
    Lemmas 1 and 2        `monotone_pseudo_inverse`
    Lemma 3               `strictly_better` where M_X is invertible

Throughout, the paper takes the block of θ_c in the full information for the information on θ_c, and leaves
the noise out. That is right where shared and private factors are Fisher-orthogonal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from uml_evaluate.theory.linear import (
    TOLERANCE,
    Design,
    exchange_rates,
    identifiable,
    information,
    shared_information,
    variance,
)

_SLACK = 1e-6  # of two variances or eigenvalues that rounding may put in the wrong order
_ROUNDING = 1e-7  # of products of a few matrices


@dataclass(frozen=True)
class Check:
    """One statement on one design: `premise` is met, and the conclusion `holds`; a statement is refuted by a
    design that meets the premise where the conclusion does not hold. `left` and `right` are the two numbers
    that it compares."""

    premise: bool
    holds: bool
    left: float
    right: float

    @property
    def refuted(self) -> bool:
        """Whether this design is a counterexample."""
        return self.premise and not self.holds


def information_adds(x: Design, y: Design) -> Check:
    """Theorem 1, first half: the information of both modalities on θ_c is M_X + M_Y.

    Checked against the joint model with θ_c, θ_x and θ_y all unknown: the Schur complement of its full
    information must be the sum of the two Schur complements. This needs that Y's private factors are its own
    and that noises are independent; it does not need Fisher-orthogonality. Adding AᵀA/σ² instead needs it.
    """
    fx, fy, p = information(x), information(y), x.shared.shape[1]
    qx, qy = len(fx) - p, len(fy) - p
    joint = np.zeros((p + qx + qy, p + qx + qy))
    joint[:p, :p] = fx[:p, :p] + fy[:p, :p]
    joint[:p, p : p + qx], joint[:p, p + qx :] = fx[:p, p:], fy[:p, p:]
    joint[p : p + qx, p : p + qx], joint[p + qx :, p + qx :] = fx[p:, p:], fy[p:, p:]
    joint[p:, :p] = joint[:p, p:].T
    private = joint[p:, p:]
    schur = joint[:p, :p] - joint[:p, p:] @ np.linalg.pinv(private, rcond=TOLERANCE) @ joint[p:, :p]
    total = shared_information(x) + shared_information(y)
    gap = float(np.abs(schur - total).max(initial=0.0))
    size = float(np.abs(joint[:p, :p]).max(initial=0.0))
    return Check(premise=True, holds=gap <= _SLACK * max(size, 1e-300), left=gap, right=size)


def adding_never_hurts(m_x: ArrayLike, m_y: ArrayLike, v: ArrayLike) -> Check:
    """Theorem 1, second half: no direction has more variance with Y than without, whatever Y is.

    It follows for any number of further modalities, one after the other. It is a statement about the best
    unbiased estimate; a network that is trained on both can do worse, and does (the control `permuted`).
    """
    before, after = variance(m_x, v), variance(_sum(m_x, m_y), v)
    return Check(True, after <= before * (1.0 + _SLACK), after, before)


def strict_order_as_printed(x: Design, y: Design) -> Check:
    """Theorem 1 as printed: if B_c has full column rank, Y lowers the variance of every direction strictly.

    This fails where Y's private factors explain what its shared ones do: with B_y = B_c, Y says nothing of
    θ_c, whatever the rank. It holds where Y is Fisher-orthogonal, or its private factors are known. ("Full
    rank" has to mean the columns, as in the paper's proof: [1 0] has full row rank and is blind to θ₂.)

    `left` is what Y adds along the direction where that is least, `right` what it would without private
    factors.
    """
    printed = np.linalg.eigvalsh(shared_information(y, private_known=True))
    gained = np.linalg.eigvalsh(shared_information(y))
    premise = printed[0] > np.sqrt(_SLACK) * printed[-1]
    return Check(bool(premise), bool(gained[0] > _SLACK * printed[0]), float(gained[0]), float(printed[0]))


def strictly_better(m_x: ArrayLike, m_y: ArrayLike, v: ArrayLike) -> Check:
    """When Y lowers the variance of an identifiable v strictly (Theorem 2 (2) inside range(M_X), sharp).

    The variance is max_u 2uᵀv − uᵀMu. X alone attains it on u = M_X⁺v + null(M_X), and Y changes the maximum
    unless it is blind to one of those: strictly lower if and only if no such u has M_Y u = 0. That M_Y v ≠ 0
    is neither needed nor enough: what counts is what Y says of M_X⁺v. With an invertible M_X this is Lemma 3,
    whose condition is M_Y M_X⁻¹v ≠ 0.

    `premise`: v lies in range(M_X). `holds`: the condition and the strict decrease agree.
    """
    x, y, direction = np.asarray(m_x, float), np.asarray(m_y, float), np.asarray(v, float)
    premise = identifiable(x, direction)
    before, after = variance(x, direction), variance(x + y, direction)
    if not premise:
        return Check(False, True, after, before)
    seen = y @ _pinv(x) @ direction
    # What Y says of null(M_X) can answer for it. Only that: where Y is blind there, the image is rounding.
    left, values, _ = np.linalg.svd(y @ _null(x), full_matrices=False)
    left = left[:, values > TOLERANCE * np.linalg.norm(y)]
    left_over = np.linalg.norm(seen - left @ (left.T @ seen))
    size = float(np.linalg.norm(y) * np.linalg.norm(_pinv(x) @ direction))
    condition = left_over > _ROUNDING * max(size, 1e-300)
    lower = after < before * (1.0 - _SLACK)
    # A decrease of second order in what is left over can drown in rounding; it is no disagreement then.
    # So can one that comes of the part outside the range that counts as inside.
    borderline = condition != lower and before - after <= np.sqrt(TOLERANCE) * before
    return Check(True, condition == lower or borderline, after, before)


def identifiable_direction_as_printed(m_x: ArrayLike, m_y: ArrayLike, v: ArrayLike) -> Check:
    """Theorem 2 (2) inside range(M_X), as printed: with the projector P on that range, P M_Y P M_X⁺v ≠ 0
    makes v's variance strictly lower.

    This fails: with M_X = diag(1, 0), B_c = [1 1] and v = (1, 0) all that Y says goes into θ₂, of which X
    knows nothing, and v's variance stays 1. The paper's proof compares variances of a model confined to
    range(M_X); its footnote names when they are the true ones (P M_Y (I − P) = 0). It holds then, and where
    M_X is invertible. The same design refutes Corollary 3, where v is an eigenvector of M_X, and the claim
    that some direction of range(M_X) always gains: here v is the only one.
    """
    x, y, direction = np.asarray(m_x, float), np.asarray(m_y, float), np.asarray(v, float)
    before, after = variance(x, direction), variance(x + y, direction)
    if not identifiable(x, direction):
        return Check(False, True, after, before)
    base = _range(x)
    inside = base.T @ direction
    confined = float(inside @ np.linalg.solve(base.T @ (x + y) @ base, inside)) if base.shape[1] else before
    # The premise is the lower variance of the confined model, which is the same by Lemma 3.
    premise = confined < before * (1.0 - 10 * _SLACK)
    return Check(premise, after < before * (1.0 - _SLACK), after, before)


def common_eigenvector_contracts(m_x: ArrayLike, m_y: ArrayLike, v: ArrayLike) -> Check:
    """Corollary 1: along a common eigenvector v, Y multiplies the variance by a / (a + b), a = vᵀM_X v > 0
    and b = vᵀM_Y v > 0."""
    x, y, direction = np.asarray(m_x, float), np.asarray(m_y, float), np.asarray(v, float)
    a, b = float(direction @ x @ direction), float(direction @ y @ direction)
    own = [
        np.linalg.norm(m @ direction - value / (direction @ direction) * direction)
        <= np.sqrt(TOLERANCE) * np.linalg.norm(m) * np.linalg.norm(direction)
        for m, value in ((x, a), (y, b))
    ]
    if not (all(own) and a > 0 and b > 0 and identifiable(x, direction)):
        return Check(False, True, np.nan, np.nan)
    left, right = variance(x + y, direction) / variance(x, direction), a / (a + b)
    return Check(True, abs(left - right) <= np.sqrt(_SLACK) * right, left, right)


def blind_direction_as_printed(m_x: ArrayLike, m_y: ArrayLike, v: ArrayLike) -> Check:
    """Theorem 2 (2) outside range(M_X), as printed: X blind to v and M_Y v ≠ 0 make its variance finite.

    "Blind" is v outside range(M_X); M_Y v ≠ 0 is B_c v ≠ 0. This fails: with M_X = 0, B_c = [1 0] and
    v = (1, 1), B_c v = 1, but θ₂ is seen by nobody and v lies outside range(M_X + M_Y). It holds where M_Y
    has full rank, and where X is blind to v alone, that is null(M_X) is spanned by v itself. Corollary 2 is
    the case of v in null(M_X), and the same design refutes it. Both proofs conclude from M_Y v ≠ 0 that v
    lies in range(M_X + M_Y).
    """
    y, direction = np.asarray(m_y, float), np.asarray(v, float)
    seen = np.linalg.norm(y @ direction) > np.sqrt(TOLERANCE) * np.linalg.norm(y) * np.linalg.norm(direction)
    premise = not identifiable(m_x, direction) and bool(seen)
    after = variance(_sum(m_x, m_y), direction)
    return Check(premise, bool(np.isfinite(after)), after, np.inf)


def blind_direction_corrected(m_x: ArrayLike, m_y: ArrayLike, v: ArrayLike) -> Check:
    """Theorem 2 (2) outside range(M_X), corrected: v's variance with Y is finite if and only if v is a
    sum of a direction in range(M_X) and one in range(M_Y).

    `premise`: X is blind to v. `holds`: both sides of the equivalence agree.
    """
    x, y, direction = np.asarray(m_x, float), np.asarray(m_y, float), np.asarray(v, float)
    together = np.concatenate([_range(x), _range(y)], axis=1)
    left_over = direction
    if together.shape[1]:
        left_over = direction - together @ np.linalg.lstsq(together, direction, rcond=None)[0]
    reached = np.linalg.norm(left_over) <= np.sqrt(TOLERANCE) * np.linalg.norm(direction)
    after = variance(x + y, direction)
    return Check(not identifiable(x, direction), bool(reached) == bool(np.isfinite(after)), after, np.inf)


def one_sample_worth_more(per_x: ArrayLike, per_y: ArrayLike) -> Check:
    """Theorem 3: along some direction a sample of Y says more than one of X, unless M_Y ≼ M_X.

    The largest exchange rate of any direction exceeds 1 if and only if M_Y − M_X has a positive eigenvalue.
    The printed premise, range(M_Y) not inside range(M_X), is one way to get there: X is then blind to
    something that Y sees. Low noise in Y is another. Both are sums over equally many samples.
    """
    rates = exchange_rates(per_x, per_y).rates
    best = float(rates.max(initial=0.0))
    largest = float(np.linalg.eigvalsh(np.asarray(per_y, float) - np.asarray(per_x, float))[-1])
    size = float(
        np.abs(np.asarray(per_x, float)).max(initial=0) + np.abs(np.asarray(per_y, float)).max(initial=0)
    )
    clear = abs(largest) > _SLACK * size and abs(best - 1.0) > _SLACK
    return Check(clear, (best > 1.0) == (largest > 0.0), best, 1.0)


def variance_of_copies(design: Design, v: ArrayLike, times: int) -> Check:
    """Repeating every observation n times divides the variance by n, private factors or not."""
    once = variance(shared_information(design), v)
    many = variance(shared_information(design.repeated(times)), v)
    same = many == once if np.isinf(once) else abs(times * many - once) <= _SLACK * once
    return Check(True, bool(same), many, once / times)


def monotone_pseudo_inverse(small: ArrayLike, large: ArrayLike, v: ArrayLike) -> Check:
    """Lemmas 1 and 2, in one: 0 ≼ S ≼ L gives vᵀL⁺v ≤ vᵀS⁺v for v in range(S), and not in general.

    Outside range(S) the pseudo-inverse says 0 of a direction about which nothing is known, which would make
    ignorance the best estimate; hence `variance` and its infinity. Lemma 2 asks for a strict order and one
    null space of both; with a null space the order cannot be strict on it, so that it says this of the range
    alone. `premise`: v in range(S).
    """
    direction = np.asarray(v, float)
    bounds = [float(direction @ _pinv(np.asarray(m, float)) @ direction) for m in (large, small)]
    return Check(identifiable(small, direction), bounds[0] <= bounds[1] * (1.0 + _SLACK), *bounds)


def _sum(m_x: ArrayLike, m_y: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(m_x, dtype=np.float64) + np.asarray(m_y, dtype=np.float64)


def _split(matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
    return values, vectors, values > TOLERANCE * max(values[-1], 0.0)


def _range(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    _, vectors, kept = _split(matrix)
    return vectors[:, kept]


def _null(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    _, vectors, kept = _split(matrix)
    return vectors[:, ~kept]


def _pinv(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors, kept = _split(matrix)
    return (vectors[:, kept] / values[kept]) @ vectors[:, kept].T
