"""Measures of two representations: CKA, neighbours, ranks, how far modalities lie apart, gradients of a head.

Shapes: C points that both representations have, n and m rows of two modalities, D features, W shared width.
Arrays of any floating type are taken; all is computed in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from uml_train import head_gradient as mean_gradient

_FOLDS = 5
_PENALTY = 1.0


def linear_cka(x: NDArray[Any], y: NDArray[Any], *, debiased: bool = False) -> float:
    """Linear centred kernel alignment of representations (C, D) and (C, D') of the same C points.

    The usual estimate is biased: with few points and many features it is near 1 for unrelated data. The
    debiased one takes the unbiased estimator of HSIC (Song et al. 2012; diagonals left out) in its place; it
    is around 0 for unrelated data and may be negative. NaN where a representation does not vary.

    Raises:
        ValueError: different numbers of points, or fewer than 4 with `debiased`.
    """
    if len(x) != len(y) or len(x) < (4 if debiased else 2):
        raise ValueError(
            f"{len(x)} and {len(y)} points; expected as many of both, at least {4 if debiased else 2}"
        )
    a, b = (np.asarray(v, dtype=np.float64) - np.asarray(v, dtype=np.float64).mean(0) for v in (x, y))
    k, m = a @ a.T, b @ b.T
    hsic = _unbiased_hsic if debiased else lambda p, q: float((p * q).sum())
    size = hsic(k, k) * hsic(m, m)
    return hsic(k, m) / float(np.sqrt(size)) if size > 0 else float("nan")


def _unbiased_hsic(k: NDArray[np.float64], m: NDArray[np.float64]) -> float:
    # Song et al. (2012, JMLR 13:1393), eq. 5: with zero diagonals
    # [tr(KM) + 1ᵀK1 · 1ᵀM1 / ((n − 1)(n − 2)) − 2 · 1ᵀKM1 / (n − 2)] / (n (n − 3)).
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    rows = float(k.sum(0) @ m.sum(0))
    whole = float((k * m).sum()) + k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 * rows / (n - 2)
    return float(whole) / (n * (n - 3))


def mutual_knn(x: NDArray[Any], y: NDArray[Any], neighbours: int) -> float:
    """Mean share of each point's K nearest (cosine) that two representations (C, D) and (C, E) have in
    common.

    From 0 to 1; chance is K / (C − 1). Raises ValueError unless 1 ≤ K < C.
    """
    if not 1 <= neighbours < len(x) or len(x) != len(y):
        raise ValueError(f"{neighbours} neighbours of {len(x)} and {len(y)} points")
    shared = np.zeros(len(x))
    near = []
    for v in (x, y):
        unit = np.asarray(v, dtype=np.float64)
        unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-30)
        cosine = unit @ unit.T
        np.fill_diagonal(cosine, -np.inf)
        member = np.zeros(cosine.shape, dtype=bool)
        np.put_along_axis(member, np.argsort(-cosine, axis=1, kind="stable")[:, :neighbours], True, axis=1)
        near.append(member)
    shared = (near[0] & near[1]).sum(1)
    return float(shared.mean() / neighbours)


def effective_rank(features: NDArray[Any]) -> float:
    """Exp of the entropy of the singular values' shares (Roy and Vetterli 2007), of centred (n, D)."""
    x = np.asarray(features, dtype=np.float64)
    x = x - x.mean(0)
    # Eigenvalues of the smaller Gram matrix: ten times as fast as a decomposition of x, and the singular
    # values that this loses are below 1e-7 of the largest, where they weigh nothing.
    gram = x.T @ x if len(x) >= x.shape[1] else x @ x.T
    sizes = np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0.0))
    sizes[sizes < 1e-7 * sizes[-1]] = 0.0
    shares = sizes / max(float(sizes.sum()), 1e-300)
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def separability(x: NDArray[Any], y: NDArray[Any], *, seed: int = 0) -> float:
    """Balanced accuracy (%) of a linear probe that tells modalities (n, W) and (m, W) apart; chance is 50.

    Ridge regression to ±1 with both modalities weighing the same, on features standardised by the training
    folds, over 5 folds drawn with the seed; a row is scored by the fold that did not see it.
    """
    values = np.concatenate([x, y]).astype(np.float64)
    sign = np.repeat([1.0, -1.0], [len(x), len(y)])
    weight = np.repeat([0.5 / len(x), 0.5 / len(y)], [len(x), len(y)])
    rng = np.random.default_rng(seed)
    fold = np.concatenate([rng.permutation(len(v)) % _FOLDS for v in (x, y)])
    right = np.empty(len(values), dtype=bool)
    for f in range(_FOLDS):
        train, test = fold != f, fold == f
        w = weight[train] / weight[train].sum()
        mean = w @ values[train]
        scale = np.sqrt(w @ (values[train] - mean) ** 2)
        scale[scale == 0] = 1.0
        a = (values[train] - mean) / scale
        # The normal equations (Aᵀ diag(w) A + λ I) β = Aᵀ diag(w) y.
        gram = (a * w[:, None]).T @ a + _PENALTY / train.sum() * np.eye(a.shape[1])
        beta = np.linalg.solve(gram, a.T @ (w * sign[train]))
        right[test] = np.sign((values[test] - mean) / scale @ beta) == sign[test]
    return 100.0 * float((right[: len(x)].mean() + right[len(x) :].mean()) / 2)


def modality_gap(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Distance of the means of x (n, D) and y (m, D), over the root of their mean total variance.

    At least 0, and 0 where the two modalities mix.
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    spread = (a.var(0).sum() + b.var(0).sum()) / 2
    return float(np.linalg.norm(a.mean(0) - b.mean(0)) / np.sqrt(max(float(spread), 1e-300)))


def head_gradient(
    space: NDArray[Any], labels: NDArray[np.integer], rows: NDArray[Any], scale: float
) -> NDArray[np.float64]:
    """(C, W) gradient of the mean cross-entropy of scale · space · rowsᵀ with respect to the rows.

    The scale is > 0.
    """
    x = torch.from_numpy(np.asarray(space, dtype=np.float64))
    logits = scale * (x @ torch.from_numpy(np.asarray(rows, dtype=np.float64)).T)
    right = torch.from_numpy(np.asarray(labels, dtype=np.int64))
    return mean_gradient(x, logits, torch.tensor(scale, dtype=torch.float64), right).numpy()
