"""Rows of the target without labels, which self-training guesses: never those that validate or test.

Shapes: u rows without labels, D features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from uml_manifests import NO_SPLIT
from uml_train.data.parts import Parts
from uml_train.data.rows import Stored
from uml_train.data.source import TRAIN, Source
from uml_train.heads.weights import seeded

if TYPE_CHECKING:
    from uml_train.problem import Problem

MOST = 20_000  # rows; of more, so many at random
_MIXED = 32  # rows in one that is made up


def unlabelled_rows(source: Source, parts: Parts) -> np.ndarray:
    """The store's rows (u,) int64 without a label that may be trained on, ascending.

    They are readable, in the training part where the store has splits, and no view and no member of a group
    of a validation or test row.
    """
    features = source.features
    split = features.split
    free = (features.label < 0) & features.valid
    free &= (split == TRAIN) | bool((split == NO_SPLIT).all())
    held = np.zeros(len(free), dtype=bool)
    held[source.rows[np.concatenate([parts.val, parts.test])]] = True
    free &= ~np.isin(features.samples, features.samples[held])
    if features.groups is not None:
        groups = np.asarray(features.groups).astype(str)
        free &= ~np.isin(groups, groups[held]) | (groups == "")
    return np.flatnonzero(free)


def pool_rows(problem: Problem, labelled: np.ndarray, seed: int) -> torch.Tensor:
    """Raw features (u, D) float32 of what a draw leaves without labels.

    These are the training part's rows outside the draw, as if nobody had labelled them, and the rows that
    have no label at all; of more than `MOST` so many at random.

    Args:
        labelled: positions in the target's usable rows that are trained on with their labels, and those that
            validate.
    """
    source = problem.target
    rest = np.setdiff1d(problem.train, labelled)
    rows = np.concatenate([source.rows[rest], problem.unlabelled])
    if len(rows) > MOST:
        rows = np.sort(seeded(seed, "pool").choice(rows, MOST, replace=False))
    return Stored(features=source.features, rows=rows, part="pooled").held().values


def made_up(rows: torch.Tensor, seed: int) -> torch.Tensor:
    """As many rows (u, D) float32 with the same mean and scatter, but no sample in them: control `random`.

    Each is the mean and a random sum of some rows' distances from it.
    """
    generator = seeded(seed, "made-up rows")
    mean = rows.mean(0)
    found = torch.empty_like(rows)
    for i in range(len(rows)):
        some = torch.from_numpy(generator.integers(len(rows), size=_MIXED))
        weights = torch.from_numpy(generator.standard_normal(_MIXED).astype(np.float32))
        found[i] = mean + weights @ (rows[some] - mean) / _MIXED**0.5
    return found
