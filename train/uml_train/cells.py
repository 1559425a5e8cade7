"""One cell of a run: from its draw to the selected head's score on the test rows.

Shapes: n rows, D features, C classes, W shared width.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from uml_manifests import few_shot
from uml_train.bank import Fitted, HeadBank, HeadModel, Samples
from uml_train.controls import permuted_labels, random_class_vectors
from uml_train.grid import Grid
from uml_train.heads import class_mean_rows, seeded
from uml_train.normalize import Normalizer
from uml_train.problem import Problem, Source
from uml_train.run import Cell
from uml_train.settings import FROM_CLASS_MEANS, WITH_AUXILIARY_LOSS, Shots, TrainSettings

if TYPE_CHECKING:
    from collections.abc import Callable

_TEST_BLOCK = 8_192


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

    Raises:
        InputError: a class has fewer rows than asked for.
    """
    if shots == "all":
        return Draw(problem.train, problem.val)
    source = problem.target
    splits = np.full(len(source.rows), 255, dtype=np.uint8)
    splits[problem.train], splits[problem.val] = 0, 1
    drawn = few_shot(source.labels, splits, shots=shots, seed=seed, classes=problem.classes)
    return Draw(np.asarray(drawn.train_rows), np.asarray(drawn.val_rows))


@dataclass(eq=False)
class Trained:
    """A trained cell, not yet written: what `CellResult` records and the selected model's weights."""

    fitted: list[Fitted]
    seconds: list[float]
    selected: int
    normalizers: dict[str, Normalizer]
    predictions: np.ndarray
    test_acc: float
    label_budget: int
    streams: list[str]

    def candidates(self, grid: Grid, alpha: float | None) -> list[dict[str, Any]]:
        """One record per model: hyperparameters, validation accuracy, steps, seconds."""
        return [
            {
                **asdict(candidate),
                "alpha": alpha,
                "val_acc": fitted.val_acc,
                "best_step": fitted.best_step,
                "steps": fitted.steps,
                "seconds": round(seconds, 4),
            }
            for candidate, fitted, seconds in zip(grid.candidates, self.fitted, self.seconds, strict=True)
        ]


def train_cell(
    problem: Problem,
    cell: Cell,
    settings: TrainSettings,
    grid: Grid,
    on_model: Callable[[Fitted], None] | None = None,
) -> Trained:
    """Train every candidate of a cell, select on validation, score the selected one on the test rows."""
    draw = draw_rows(problem, cell.shots, cell.seed)
    models, normalizers = _models(problem, cell, draw, settings, grid)
    seconds: list[float] = []
    began = time.perf_counter()

    def done(_: int, fitted: Fitted) -> None:
        nonlocal began
        now = time.perf_counter()
        seconds.append(now - began)
        began = now
        if on_model is not None:
            on_model(fitted)

    fitted = HeadBank(models, grid.schedule).fit(done)
    # The best validated one; of equals the earliest step, then the first in the grid.
    selected = min(range(len(fitted)), key=lambda i: (-fitted[i].val_acc, fitted[i].best_step, i))
    predictions, score = _test(problem, fitted[selected], normalizers[problem.target.label])
    return Trained(
        fitted=fitted,
        seconds=seconds,
        selected=selected,
        normalizers=normalizers,
        predictions=predictions,
        test_acc=score,
        label_budget=draw.label_budget,
        streams=[problem.target.label, *(a.name for a in models[0].auxiliaries)],
    )


def _models(
    problem: Problem, cell: Cell, draw: Draw, settings: TrainSettings, grid: Grid
) -> tuple[list[HeadModel], dict[str, Normalizer]]:
    target = problem.target
    raw = target.values(draw.train)
    normalizers = {target.label: Normalizer.fit(settings.normalize, raw)}
    normalize = normalizers[target.label]
    samples = Samples(
        name=target.label,
        features=normalize(raw).contiguous(),
        labels=torch.from_numpy(target.labels[draw.train]),
        projected=cell.method != "unimodal",
    )
    validation = (normalize(target.values(draw.val)), torch.from_numpy(target.labels[draw.val]))
    auxiliaries: list[Samples] = []
    for i, label in enumerate(cell.auxiliaries):
        features, labels = auxiliary_rows(problem.auxiliaries[label], cell, settings)
        normalizers[label] = Normalizer.fit(settings.normalize, features)
        auxiliaries.append(
            Samples(
                name=label,
                features=normalizers[label](features).contiguous(),
                labels=labels,
                projected=i > 0,
            )
        )
    head = None
    if cell.method in FROM_CLASS_MEANS:
        first = auxiliaries[0]
        head, _ = class_mean_rows(first.features, first.labels, len(problem.classes), cell.seed)
    models = [
        HeadModel(
            target=samples,
            auxiliaries=tuple(auxiliaries) if cell.method in WITH_AUXILIARY_LOSS else (),
            validation=validation,
            classes=len(problem.classes),
            width=cell.shared_width,
            seed=cell.seed,
            candidate=candidate,
            head=head,
            alpha=settings.alpha,
        )
        for candidate in grid.candidates
    ]
    return models, normalizers


def auxiliary_rows(source: Source, cell: Cell, settings: TrainSettings) -> tuple[Tensor, Tensor]:
    """An auxiliary's raw features (n, D) float32 and labels (n,) as this cell sees them.

    First `texts` chooses (all, n at random per class, or the class mean), then the control is applied.
    """
    positions = np.arange(len(source.rows))
    if isinstance(settings.texts, int):
        generator = seeded(cell.seed, "texts", source.label)
        groups = [positions[source.labels == c] for c in np.unique(source.labels)]
        chosen = [
            g if len(g) <= settings.texts else generator.choice(g, settings.texts, False) for g in groups
        ]
        positions = np.sort(np.concatenate(chosen))
    features, labels = source.values(positions), torch.from_numpy(source.labels[positions])
    if settings.texts == "mean":
        present, inverse = torch.unique(labels, return_inverse=True)
        sums = torch.zeros(len(present), features.shape[1]).index_add_(0, inverse, features)
        features, labels = sums / torch.bincount(inverse).unsqueeze(1), present
    if cell.control == "permuted":
        labels = permuted_labels(labels, cell.seed)
    elif cell.control == "random":
        features = random_class_vectors(features, labels, source.label, cell.seed)
    return features, labels


def _test(problem: Problem, fitted: Fitted, normalize: Normalizer) -> tuple[np.ndarray, float]:
    predictions = np.empty(len(problem.test), dtype=np.int32)
    for start in range(0, len(problem.test), _TEST_BLOCK):
        rows = problem.test[start : start + _TEST_BLOCK]
        logits = fitted.weights.logits(normalize(problem.target.values(rows)))
        predictions[start : start + len(rows)] = logits.argmax(1).numpy()
    labels = problem.target.labels[problem.test]
    return predictions, 100.0 * float((predictions == labels).mean())
