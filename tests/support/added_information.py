"""Estimator (c) of the advice study: information that the auxiliary adds along the directions which separate
the target's classes.

Shapes: n rows, R features of the auxiliary's space, C classes.

The target's rows are mapped into the auxiliary's space by the ridge map between class means, so that both
modalities are designs of one linear head (paper 3.1). Per pair of the target's classes, the difference of
their mapped means is a direction; the estimate is how much the auxiliary lowers the log variance of the head
along it, times the share of the auxiliary's class arrangement that the map explains for classes it was not
fitted on. By the theory the first factor cannot be negative; the second one can be near 0. It did not earn a
place in the product: it never says that data hurts, and beside the other two it adds nothing that the study
can show.
"""

from __future__ import annotations

import numpy as np

from uml_evaluate.advice.training_rows import Rows
from uml_evaluate.theory import fitted_design, shared_information

_PAIRS = 200
_RIDGE = 1e-2


def information_gain(target: Rows, auxiliary: Rows, rng: np.random.Generator) -> float | None:
    """Mean decrease of the log variance, in nats; None where fewer than four classes are common."""
    (ours, have), (theirs, also) = target.means(), auxiliary.means()
    common = np.flatnonzero(have & also)
    if len(common) < 4:
        return None
    x, y = ours[common] - ours[common].mean(0), theirs[common] - theirs[common].mean(0)
    gram = x @ x.T
    ridge = _RIDGE * max(np.trace(gram), 1e-12)
    solved = np.linalg.inv(gram + ridge * np.eye(len(common)))
    mapping = x.T @ solved @ y
    hat = gram @ solved
    left_out = (hat @ y - hat.diagonal()[:, None] * y) / (1.0 - hat.diagonal())[:, None]
    explained = 1.0 - ((y - left_out) ** 2).sum() / max((y**2).sum(), 1e-12)
    left, singular, _ = np.linalg.svd(y.T, full_matrices=False)
    basis = left[:, singular > 1e-3 * singular.max(initial=1e-300)]
    eye = np.eye(target.classes)
    mine = (target.features - ours[common].mean(0)) @ mapping @ basis
    other = (auxiliary.features - theirs[common].mean(0)) @ basis
    try:
        m_x = shared_information(fitted_design(mine, eye[target.labels] - 1.0 / target.classes))
        m_y = shared_information(fitted_design(other, eye[auxiliary.labels] - 1.0 / target.classes))
    except ValueError:
        return None
    guard = 1e-6 * np.trace(m_x) / len(m_x) * np.eye(len(m_x))
    alone, together = np.linalg.inv(m_x + guard), np.linalg.inv(m_x + m_y + guard)
    means = x @ mapping @ basis
    first, second = rng.integers(len(common), size=(2, _PAIRS))
    v = (means[first] - means[second])[first != second]
    ratio = np.einsum("ij,jk,ik->i", v, alone, v) / np.einsum("ij,jk,ik->i", v, together, v)
    return float(np.log(ratio).mean() * max(explained, 0.0))
