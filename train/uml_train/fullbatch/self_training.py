"""Ridge regression that also trains on its own surest guesses of rows without labels (`self-training`).

Shapes: n labelled rows, u rows without labels, D features, C classes.

A head that the labelled rows train guesses all rows without labels. Of every guessed class the surest k rows,
k as many as a class has labelled ones, are trained on beside the labelled rows, and the new head guesses
again. Each round takes k rows more of a class, so that the easy rows come first; the rounds are five, because
later ones repeat what the head believes already. An equal number per class keeps a class that the first head
prefers from taking all. The strength is that of `ridge` on the labelled rows: rows that were guessed by a
strength would speak for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from uml_train.data.controls import permuted_labels
from uml_train.data.rows import vectors
from uml_train.fullbatch.search import solve
from uml_train.heads.models import Fitted, HeadModel
from uml_train.protocols.grid import Point

ROUNDS = 5


def self_trained(
    model: HeadModel, point: Point, pool: Tensor, control: str | None = None, factor: float | None = None
) -> Fitted:
    """The head of one point.

    Args:
        model: its target has no projection; its rows are the labelled ones.
        point: a strength of squared errors.
        pool: (u, D) float32, normalised as the model's rows are.
        control: `permuted` gives every guessed class the rows of another.
        factor: as in `solve`, one for the point.
    """
    target = model.target
    x, y = vectors(target.features), target.labels
    each = max(1, round(len(y) / model.classes))
    rows, labels = x, y
    for number in range(1, ROUNDS + 1):
        guess = ridge_logits(rows, labels, model.classes, point.strength)
        chosen, classes = surest(guess(pool), number * each)
        if control == "permuted" and len(classes.unique()) > 1:
            classes = permuted_labels(classes, model.seed)
        rows, labels = torch.cat([x, pool[chosen]]), torch.cat([y, classes])
    (fitted,) = solve(
        replace(model, target=replace(target, features=rows, labels=labels)),
        [point],
        None if factor is None else [factor],
    )
    fitted.guesses = len(rows) - len(x)
    return fitted


def surest(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Of every guessed class the `count` rows with the largest probabilities (of equals the first): their
    indices and the guesses, int64, of logits (u, C) of any floating type."""
    sure, guess = logits.softmax(1).max(1)
    # By probability, then stably by class: the rows of a class stand together, the surest first.
    order = sure.argsort(descending=True, stable=True)
    order = order[guess[order].argsort(stable=True)]
    sizes = torch.bincount(guess, minlength=logits.shape[1])
    starts = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    chosen = order[torch.arange(len(order)) - starts < count]
    return chosen, guess[chosen]


def ridge_logits(x: Tensor, y: Tensor, classes: int, strength: float) -> Callable[[Tensor], Tensor]:
    """What gives logits (m, C) float64 of rows (m, D), as `solve` would for squared errors: heads in between
    need no axes, and one linear system is a fraction of their price. `strength` > 0."""
    rows = x.double()
    mean = rows.mean(0)
    rows = rows - mean
    one_hot = torch.nn.functional.one_hot(y, classes).double()
    share = one_hot.mean(0)
    penalty = float(rows.square().sum(1).mean()) / strength
    # The smaller of the two systems: one unknown per row, or one per feature.
    if len(rows) < rows.shape[1]:
        system, right = rows @ rows.T, one_hot - share
    else:
        system, right = rows.T @ rows, rows.T @ (one_hot - share)
    system.diagonal().add_(max(penalty, 1e-12))
    solved = torch.cholesky_solve(right, torch.linalg.cholesky(system))
    weight = rows.T @ solved if len(rows) < rows.shape[1] else solved
    return lambda queries: (queries.double() - mean) @ weight + share
