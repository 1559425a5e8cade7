"""Fisher information on shared parameters, of any model: that of independent samples adds up.

Shapes: K outcomes, P parameters, n samples, C classes, W that the head reads, D directions.

The later version of the paper (C.4, Proposition 1 and Remark 1) says for any shared parameters what Theorem 1
says for the linear model's: samples of two modalities are independent, so their information on what they
share adds. The reason is that a score has mean 0, so that products of two modalities' scores cancel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from uml_evaluate.theory.statements import Check

F64 = NDArray[np.float64]
_ROUNDING = 1e-9
_INVERTED = 1e-7  # an inverse loses digits


def fisher_information(probabilities: ArrayLike, scores: ArrayLike) -> F64:
    """(P, P) information Σ p · s sᵀ of a model with finitely many outcomes.

    Args:
        probabilities: (K,) of the outcomes.
        scores: (K, P) gradient of each outcome's log-probability.
    """
    p, s = np.asarray(probabilities, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    return (s * p[:, None]).T @ s


def fisher_adds(first: tuple[ArrayLike, ArrayLike], second: tuple[ArrayLike, ArrayLike]) -> Check:
    """Proposition 1 and Remark 1: the information of one sample of each modality on the parameters that they
    share is the sum of the two, whatever the models are.

    Checked on the pair of samples itself: its outcomes are all pairs, their probabilities products, their
    scores sums. The premise is that scores have mean 0, which every smooth model has at its own parameters.
    With probabilities of one model and scores of another (labels that the model does not believe in) it
    fails, and the products of the mean scores come on top.

    Args:
        first, second: (probabilities (K,), scores (K, P)) of each modality, of the same parameters.
    """
    (p, s), (q, t) = (tuple(np.asarray(part, dtype=np.float64) for part in one) for one in (first, second))
    both = fisher_information(np.outer(p, q).ravel(), (s[:, None] + t[None]).reshape(-1, s.shape[1]))
    total = fisher_information(p, s) + fisher_information(q, t)
    size = float(np.abs(total).max(initial=0.0))
    means = float(np.abs(np.outer(p @ s, q @ t)).max(initial=0.0))
    gap = float(np.abs(both - total).max(initial=0.0))
    return Check(means <= _ROUNDING * max(size, 1e-300), gap <= _ROUNDING * max(size, 1e-300), gap, size)


def fisher_adds_beside_private(
    first: tuple[ArrayLike, ArrayLike], second: tuple[ArrayLike, ArrayLike], shared: int
) -> Check:
    """The same where models have parameters of their own, unknown too: what is left for the shared ones adds.

    With all parameters unknown, the information that is left for the shared ones is the Schur complement of
    theirs in the whole. The private parameters of two modalities share no score, so the whole's complement
    is the sum of the two, as in Theorem 1 for the linear model.

    Args:
        first, second: (probabilities (K,), scores (K, P)) of each modality; the first `shared` parameters are
            the same ones, the others belong to one modality alone.
        shared: how many parameters are shared, at least 1.
    """
    (p, s), (q, t) = (tuple(np.asarray(part, dtype=np.float64) for part in one) for one in (first, second))
    # All parameters in one line: shared, the first modality's own, the second's own.
    s = np.hstack([s, np.zeros((len(s), t.shape[1] - shared))])
    t = np.hstack([t[:, :shared], np.zeros((len(t), s.shape[1] - t.shape[1])), t[:, shared:]])
    outcomes = (s[:, None] + t[None]).reshape(-1, s.shape[1])
    both = _left_for(shared, fisher_information(np.outer(p, q).ravel(), outcomes))
    total = _left_for(shared, fisher_information(p, s)) + _left_for(shared, fisher_information(q, t))
    size = float(np.abs(total).max(initial=0.0))
    means = float(max(np.abs(p @ s).max(initial=0.0), np.abs(q @ t).max(initial=0.0)))
    gap = float(np.abs(both - total).max(initial=0.0))
    close = _INVERTED * max(size, 1e-300)
    return Check(means <= _ROUNDING * max(float(np.sqrt(size)), 1e-300), gap <= close, gap, size)


def _left_for(shared: int, information: F64) -> F64:
    """(S, S) Schur complement: the information on the first S parameters where the others are unknown too."""
    own, cross = information[:shared, :shared], information[:shared, shared:]
    return own - cross @ np.linalg.pinv(information[shared:, shared:], hermitian=True) @ cross.T


@dataclass(frozen=True, eq=False, kw_only=True)
class HeadBatch:
    """Samples as a softmax head sees them: logits are scale · space · rowsᵀ.

    Args:
        space: (n, W) what the head reads.
        labels: (n,) classes.
        scale: of the logits, > 0.
    """

    space: F64
    labels: NDArray[np.int64]
    scale: float


def class_directions(means: ArrayLike, pairs: NDArray[np.int64]) -> F64:
    """(D, W) unit vectors from one class's mean to another's, for pairs (D, 2) of classes; means (C, W)."""
    m = np.asarray(means, dtype=np.float64)
    found = m[pairs[:, 0]] - m[pairs[:, 1]]
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return found / np.where(lengths > 0, lengths, 1.0)


def head_fisher(
    rows: ArrayLike, batch: HeadBatch, pairs: NDArray[np.int64], directions: F64
) -> tuple[F64, F64]:
    """Information of one sample on the head along directions of its parameters: empirical, and the model's.

    Direction d moves the rows of two classes apart, (e_a − e_b)/√2 ⊗ u. The empirical information is the mean
    square of the log-likelihood's derivative at the labels that are there; the model's takes its mean over
    the labels that the model would draw. The first grows with errors: a batch with wrong labels has more.

    Args:
        rows: (C, W) the head.
        pairs: (D, 2) classes a, b; directions: (D, W) unit vectors u.

    Returns:
        (D,) empirical, (D,) of the model.
    """
    head, z = np.asarray(rows, dtype=np.float64), np.asarray(batch.space, dtype=np.float64)
    logits = batch.scale * z @ head.T
    logits -= logits.max(1, keepdims=True)
    p = np.exp(logits)
    p /= p.sum(1, keepdims=True)
    y = np.zeros_like(p)
    y[np.arange(len(y)), batch.labels] = 1.0
    a, b = pairs.T
    # ∂ log p(y) / ∂W = scale · (y − p) zᵀ; along d its inner product with (e_a − e_b)/√2 ⊗ u.
    along = (batch.scale * z @ directions.T) ** 2 / 2.0
    empirical = ((y - p)[:, a] - (y - p)[:, b]) ** 2
    # Of a one-hot y drawn from p: E[(y_a − y_b − (p_a − p_b))²] = p_a + p_b − (p_a − p_b)².
    model = p[:, a] + p[:, b] - (p[:, a] - p[:, b]) ** 2
    return (along * empirical).mean(0), (along * model).mean(0)
