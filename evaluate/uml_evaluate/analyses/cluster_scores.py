"""How well given classes form clusters: silhouette and Davies–Bouldin index.

Shapes: N rows, D features of a space, C classes.

The silhouette needs all N² distances. scikit-learn makes them a block of rows at a time in double precision.
For many rows that takes minutes. There, points are rounded to bfloat16, whose products processors make for
that are several times as fast, if that moves them by next to nothing beside the distances in their class.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

_MEGABYTES = 32  # of distances at a time
_MANY = 20_000  # rows
_WIDE = 64  # features: with fewer, the little that a row moves is not lost among them
_BLOCK, _COLUMNS = 1_024, 2_048  # rows of a product on either side, which stays in the processor's cache
_SUMS = 60_000_000  # rows times classes
_MOVED = 1e-4  # of a class's mean squared distance to its mean: what rounding may move its rows by, squared


def silhouette(
    features: NDArray[Any], labels: NDArray[np.integer], *, fast: bool | None = None
) -> NDArray[np.float64]:
    """(N,) silhouette of every row, (b − a) / max(a, b), with Euclidean distances.

    a is the mean distance to the other rows of its class, b the smallest mean distance to another class; the
    only row of a class has 0.

    Args:
        fast: take products in bfloat16 where 64 features or more allow it; None: for 20,000 rows or more on
            a processor that is made for them. Silhouettes differ by 0.0005 from those of double precision,
            by 0.003 beside a class of a row or two, their mean by 0.00001. False: scikit-learn's.

    Raises:
        ValueError: fewer than two classes, or labels that do not fit.
    """
    from sklearn import config_context
    from sklearn.metrics import silhouette_samples

    classes, codes = np.unique(np.asarray(labels), return_inverse=True)
    rows = len(features)
    if len(codes) != rows or len(classes) < 2:
        raise ValueError(f"{rows} rows, {len(codes)} labels of {len(classes)} classes; expected two or more")
    if len(classes) == rows:  # scikit-learn refuses what is 0 by definition
        return np.zeros(rows)
    if (
        fast is not False
        and (found := _rounded_silhouette(np.asarray(features), codes, always=bool(fast))) is not None
    ):
        return found
    # Centred, and in double precision: what all rows share, and one class far from the others, would eat the
    # digits of ‖x‖² + ‖y‖² − 2 x·y.
    x = np.asarray(features, dtype=np.float64)
    with config_context(working_memory=_MEGABYTES):
        scores: NDArray[np.float64] = silhouette_samples(x - x.mean(0), codes)
    return scores


def davies_bouldin(features: NDArray[Any], labels: NDArray[np.integer]) -> float:
    """Mean over classes of the largest (s_i + s_j) / ‖μ_i − μ_j‖, s: mean distance to the class mean.

    Features (n, D), labels (n,). At least 0, and smaller is better; classes with one mean are apart by
    nothing and count as infinitely bad. Raises
    ValueError for fewer than two classes.
    """
    classes, codes = np.unique(np.asarray(labels), return_inverse=True)
    if len(classes) < 2:
        raise ValueError("Davies–Bouldin needs two classes or more")
    means = np.empty((len(classes), features.shape[1]))
    spread = np.empty(len(classes))
    for c in range(len(classes)):
        mine = np.asarray(features[codes == c], dtype=np.float64)
        means[c] = mine.mean(0)
        spread[c] = np.sqrt(((mine - means[c]) ** 2).sum(1)).mean()
    worst = np.empty(len(classes))
    for c in range(len(classes)):
        apart = np.sqrt(((means - means[c]) ** 2).sum(1))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = (spread + spread[c]) / apart
        ratio[c] = -np.inf
        worst[c] = np.nanmax(ratio)
    return float(worst.mean())


def _rounded_silhouette(
    features: NDArray[Any], codes: NDArray[np.intp], *, always: bool
) -> NDArray[np.float64] | None:
    """Silhouettes of the rows rounded to bfloat16; None where that is not worth it or moves them too far."""
    from uml_evaluate.metrics.bfloat import has_fast_products

    if features.shape[1] < _WIDE or not (always or (len(codes) >= _MANY and has_fast_products())):
        return None
    order = np.argsort(codes, kind="stable")
    codes, counts = codes[order], np.bincount(codes)
    rounded = _rounded(features, order, codes, counts)
    if rounded is None:
        return None
    scores = np.empty(len(codes))
    for top, sums in _class_sums(rounded, codes, counts):
        own = codes[top : top + len(sums)]
        lines = np.arange(len(own))
        within = sums[lines, own] / np.maximum(counts[own] - 1, 1)
        between = sums / counts
        between[lines, own] = np.inf
        nearest = between.min(1)
        largest = np.maximum(within, nearest)
        known = (counts[own] > 1) & (largest > 0)
        scores[order[top : top + len(own)]] = np.where(
            known, (nearest - within) / np.where(known, largest, 1), 0.0
        )
    return scores


def _rounded(
    features: NDArray[Any], order: NDArray[np.intp], codes: NDArray[np.intp], counts: NDArray[np.intp]
) -> Tensor | None:
    """Rows (N, D) in `order`, less their mean, as bfloat16; None where that moves a class too far."""
    import torch

    centre = features.mean(0, dtype=np.float64)
    rounded = torch.empty(features.shape, dtype=torch.bfloat16)
    totals = np.zeros((len(counts), features.shape[1]))
    squares, moved = np.zeros(len(counts)), np.zeros(len(counts))
    for top in range(0, len(codes), _BLOCK):
        rows = features[order[top : top + _BLOCK]] - centre
        mine = slice(top, top + len(rows))
        rounded[mine] = torch.from_numpy(rows).bfloat16()
        np.add.at(totals, codes[mine], rows)
        squares += np.bincount(codes[mine], (rows**2).sum(1), len(counts))
        off = rows - rounded[mine].double().numpy()
        moved += np.bincount(codes[mine], (off**2).sum(1), len(counts))
    spread = squares - (totals**2).sum(1) / counts  # squared distances to the class's mean
    return None if (moved > _MOVED * spread)[counts > 1].any() else rounded


def _class_sums(
    rounded: Tensor, codes: NDArray[np.intp], counts: NDArray[np.intp]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Block by block, the place of its first row, and sums (n, C) of its rows' distances to every class.

    Rows are in order of their classes, so that those of a class lie side by side. The squared distance of
    two rows is one product: (x, ‖x‖², 1) · (−2 y, 1, ‖y‖²). It is exact but for its own rounding, half a per
    cent at most and up as often as down, so that means lose nothing by it. Where memory for all sums is
    small, each distance is made once for both of its rows.
    """
    import torch

    from uml_evaluate.metrics.bfloat import with_addend, with_ones

    n, starts = len(codes), np.r_[0, np.cumsum(counts)]
    squares = torch.cat([block.float().square().sum(1) for block in rounded.split(_BLOCK)])
    left, right = with_addend(rounded, squares), with_ones(-2 * rounded, squares)
    both = n * len(counts) <= _SUMS
    sums = np.zeros((n if both else _BLOCK, len(counts)), dtype=np.float32)
    product = torch.empty(_BLOCK * _COLUMNS, dtype=torch.bfloat16)
    buffer = torch.empty(_BLOCK * _COLUMNS)

    def classes(first: int, end: int) -> tuple[slice, NDArray[np.intp]]:
        inside = slice(codes[first], codes[end - 1] + 1)
        return inside, np.maximum(starts[inside] - first, 0)

    for top in range(0, n, _BLOCK):
        bottom = min(top + _BLOCK, n)
        strip = sums[top:bottom] if both else sums[: bottom - top]
        if not both:
            strip[:] = 0
        for first in range(top if both else 0, n, _COLUMNS):
            end = min(first + _COLUMNS, n)
            shape = bottom - top, end - first
            squared = product[: shape[0] * shape[1]].view(shape)
            torch.mm(left[top:bottom], right[first:end].T, out=squared)
            distances = buffer[: shape[0] * shape[1]].view(shape)
            distances.copy_(squared.clamp_(min=0)).sqrt_()
            same = np.arange(max(top, first), min(bottom, end))
            distances[same - top, same - first] = 0  # of a row to itself, where digits are left over
            inside, cuts = classes(first, end)
            strip[:, inside] += np.add.reduceat(distances.numpy(), cuts, axis=1)
            if both and end > bottom:
                others = distances[:, max(bottom, first) - first :]
                inside, cuts = classes(top, bottom)
                for c, mine in zip(
                    range(inside.start, inside.stop), others.tensor_split(cuts[1:].tolist()), strict=True
                ):
                    sums[max(bottom, first) : end, c] += mine.sum(0).numpy()
        yield top, strip
