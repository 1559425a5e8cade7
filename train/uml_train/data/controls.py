"""Controls: the auxiliary data with its knowledge of the classes taken out.

Shapes: n rows, D features, C classes. `permuted` and `random` keep everything else: number of rows, classes
that have data, scale of the features; `unrelated` takes another data set's rows in their place.
Features are float32, labels int64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from uml_cache import InputError
from uml_train.data.rows import Rows, as_rows
from uml_train.heads.weights import seeded

AnyRows = TypeVar("AnyRows", Tensor, Rows)


def permuted_labels(labels: Tensor, seed: int) -> Tensor:
    """Labels (n,) int64 under a derangement of the classes that occur: every class gets another's data.

    The same derangement for every modality that has the same classes, so that modalities stay consistent.

    Raises:
        InputError: fewer than two classes occur.
    """
    present = torch.unique(labels).numpy()
    if len(present) < 2:
        raise InputError("the control `permuted` needs auxiliary data of at least two classes")
    generator = seeded(seed, "derangement")
    order = generator.permutation(len(present))
    while (order == np.arange(len(present))).any():
        order = generator.permutation(len(present))
    table = torch.zeros(int(present.max()) + 1, dtype=torch.int64)
    table[torch.from_numpy(present)] = torch.from_numpy(present[order])
    return table[labels]


def random_class_vectors(features: AnyRows, labels: Tensor, name: str, seed: int) -> AnyRows:
    """Features (n, D) whose class means point in random directions.

    Each class's offset from the grand mean is replaced by a random direction of the same length; the grand
    mean and the scatter within each class stay. The classes are as far apart as before, but how they lie to
    each other means nothing. Of a sequence all vectors are moved alike, and its mean counts as its feature.
    """
    classes = int(labels.max()) + 1
    rows = as_rows(features)
    counts = torch.bincount(labels, minlength=classes).unsqueeze(1)
    sums = torch.zeros(classes, rows.dim)
    total = torch.zeros(rows.dim, dtype=torch.float64)
    for part, block in rows.blocks():
        means = block.means()
        sums.index_add_(0, labels[part], means)
        total += means.sum(0, dtype=torch.float64)
    grand = (total / len(labels)).float()
    offsets = torch.where(counts > 0, sums / counts.clamp_min(1) - grand, 0.0)
    draws = seeded(seed, "class vectors", name).standard_normal(offsets.shape).astype(np.float32)
    directions = torch.nn.functional.normalize(torch.from_numpy(draws), dim=1)
    shift = directions * offsets.norm(dim=1, keepdim=True) - offsets
    if isinstance(features, Tensor):
        return features + shift[labels]
    return features.shifted(shift, labels)


def injection(theirs: Sequence[str], classes: int, name: str, seed: int) -> np.ndarray:
    """For each class of another data set (len(theirs),) int64 the target class it stands for, −1 for none.

    Different classes stand for different ones: where theirs are fewer all are used, else as many as the
    target has. It goes by class names, so that all modalities of the other data set agree.
    """
    order = sorted(set(theirs))
    generator = seeded(seed, "injection", name)
    places = generator.permutation(max(len(order), classes))[: len(order)]
    target = {
        other: int(place) if place < classes else -1 for other, place in zip(order, places, strict=True)
    }
    return np.array([target[other] for other in theirs], dtype=np.int64)
