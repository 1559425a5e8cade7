"""Which rows a cell sees: its draw of the target, and what it takes of each auxiliary.

Shapes: n rows, D features. Features are float32; positions, labels and classes int64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from uml_manifests import few_shot
from uml_train.data.controls import permuted_labels, random_class_vectors
from uml_train.data.placing import placed
from uml_train.data.rows import Held, Rows
from uml_train.data.source import Source
from uml_train.heads.weights import seeded
from uml_train.problem import Problem
from uml_train.run import Cell
from uml_train.settings import (
    TRANSFORMER,
    Shots,
    Texts,
    TrainSettings,
)


@dataclass(frozen=True, eq=False)
class Draw:
    """The labelled target rows of one (shots, seed), as positions in the target's usable rows."""

    train: np.ndarray
    val: np.ndarray

    @property
    def label_budget(self) -> int:
        """Labelled target samples in all: those trained on and those that select."""
        return len(self.train) + len(self.val)


def draw_rows(problem: Problem, shots: Shots, seed: int) -> Draw:
    """Draw the rows of one cell: k per class and min(k, 4) for validation, or all of them.

    A class with fewer rows gives all it has where the problem says so.

    Raises:
        InputError: a class has fewer rows than asked for.
    """
    if shots == "all":
        return Draw(problem.train, problem.val)
    source = problem.target
    splits = np.full(len(source.rows), 255, dtype=np.uint8)
    splits[problem.train], splits[problem.val] = 0, 1
    drawn = few_shot(
        source.labels, splits, shots=shots, seed=seed, classes=problem.classes,
        short_classes=problem.short_classes,
    )  # fmt: skip
    return Draw(np.asarray(drawn.train_rows), np.asarray(drawn.val_rows))


def auxiliary_positions(source: Source, seed: int, texts: Texts) -> np.ndarray:
    """Positions (n,) in an auxiliary's usable rows that a cell of this seed trains on, ascending.

    All of them, or where `texts` is a number that many per class at random (all of a class that has fewer).
    """
    positions = np.arange(len(source.rows))
    if not isinstance(texts, int):
        return positions
    generator = seeded(seed, "texts", source.label)
    groups = [positions[source.labels == c] for c in np.unique(source.labels)]
    chosen = [g if len(g) <= texts else generator.choice(g, texts, False) for g in groups]
    return np.sort(np.concatenate(chosen))


def auxiliary_rows(
    source: Source,
    cell: Cell,
    settings: TrainSettings,
    classes: np.ndarray | None = None,
    loader: str = "device",
) -> tuple[Rows, Tensor]:
    """An auxiliary's raw features (n samples) and labels (n,) as this cell sees them.

    First `texts` chooses (all, n at random per class, or the class mean, which is one vector even of
    sequences), then the control is applied.

    Args:
        classes: for another data set's source, the target class of each of its classes, or −1.
        loader: where the rows wait: `device`, `host` or `stream`.
    """
    positions = auxiliary_positions(source, cell.seed, settings.texts)
    if classes is not None:
        positions = positions[classes[source.labels[positions]] >= 0]
    own = source.labels[positions]
    rows = placed(source.stored(positions, tokens=settings.trunk == TRANSFORMER), loader)
    labels = torch.from_numpy(own if classes is None else classes[own])
    if settings.texts == "mean":
        present, inverse = torch.unique(labels, return_inverse=True)
        sums = torch.zeros(len(present), rows.dim, dtype=torch.float64)
        for part, block in rows.blocks():
            sums.index_add_(0, inverse[part], block.means().double())
        rows, labels = Held((sums / torch.bincount(inverse).unsqueeze(1)).float()), present
    if cell.control == "permuted":
        labels = permuted_labels(labels, cell.seed)
    elif cell.control == "random":
        rows = random_class_vectors(rows, labels, source.label, cell.seed)
    return rows, labels
