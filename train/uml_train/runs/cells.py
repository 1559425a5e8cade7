"""One cell of a run: from its draw to the selected head's score on the test rows.

Shapes: n rows, D features, C classes, W shared width.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uml_train.data.controls import injection
from uml_train.data.normalize import VALIDATIONS, Normalizer
from uml_train.data.placing import chosen_loader, placed, plain
from uml_train.data.rows import Rows
from uml_train.data.unlabelled import made_up, pool_rows
from uml_train.fullbatch.class_prior import class_kernel
from uml_train.heads.models import Fitted, HeadModel, Samples
from uml_train.heads.transformer import LAYERS
from uml_train.heads.weights import class_mean_rows
from uml_train.problem import Problem
from uml_train.protocols.grid import SOLVED_CANDIDATE, Candidate, Grid, Point
from uml_train.record.scores import Answers
from uml_train.run import Cell
from uml_train.runs.drawn import Draw, auxiliary_rows, draw_rows
from uml_train.settings import (
    FROM_CLASS_MEANS,
    LINEAR,
    SELF_TRAINING,
    SOLVED,
    TRANSFORMER,
    UNRELATED,
    WITH_AUXILIARY_LOSS,
    Texts,
    TrainSettings,
)

_ALIGNED_SCALE = 100.0  # exp(4.60517), where CLIP's learnt scale ends
_HIDDEN = 512  # at most so many hidden units, so that a wide shared space does not square the trunk


@dataclass(eq=False)
class Prepared:
    """A cell ready to be trained: what maps its features, the test rows, and one model per candidate.

    `mapping` has the normaliser of every modality, for each model. A cell that is solved has one model, and
    `points` to solve it for. `validated` is the normalisation of the target that validation chose, if it did.
    `pool` (u, D) are the rows without labels that `self-training` guesses, normalised as the labelled ones.
    """

    models: list[HeadModel]
    mapping: list[dict[str, Normalizer]]
    label_budget: int
    injection: dict[str, str]
    test: Rows
    points: tuple[Point, ...] = ()
    validated: str | None = None
    pool: Tensor | None = None


@dataclass(eq=False)
class Trained:
    """A trained cell, not yet written: what `CellResult` records and the selected model's weights."""

    prepared: Prepared
    fitted: list[Fitted]
    seconds: list[float]
    selected: int
    answers: Answers

    @property
    def normalizers(self) -> dict[str, Normalizer]:
        """What maps the features of every modality to those that the selected model reads."""
        return self.prepared.mapping[0 if self.prepared.points else self.selected]

    @property
    def streams(self) -> list[str]:
        """Names of the modalities that the models were trained on, the target first."""
        return [s.name for s in self.prepared.models[0].streams]

    def candidates(self) -> list[dict[str, Any]]:
        """One record per model: hyperparameters, validation accuracy, steps, seconds."""
        if self.prepared.points:
            kind = self.prepared.validated
            return [
                {
                    "hyperparameters": _chosen(point, fitted.guesses),
                    **({} if kind is None else {"normalize": kind}),
                    "alpha": point.alpha,
                    "ratio": point.ratio,
                    "val_acc": fitted.val_acc,
                    "val_loss": fitted.val_loss,
                    "best_step": fitted.best_step,
                    "steps": fitted.steps,
                    "seconds": round(seconds, 4),
                }
                for point, fitted, seconds in zip(
                    self.prepared.points, self.fitted, self.seconds, strict=True
                )
            ]
        return [
            {
                **asdict(model.candidate),
                "val_acc": fitted.val_acc,
                "best_step": fitted.best_step,
                "steps": fitted.steps,
                "seconds": round(seconds, 4),
            }
            for model, fitted, seconds in zip(self.prepared.models, self.fitted, self.seconds, strict=True)
        ]


def _chosen(point: Point, guesses: int) -> dict[str, Any]:
    values: dict[str, Any] = {"loss": point.loss, "strength": point.strength}
    values |= {} if point.prior is None else {"prior": point.prior}
    return {**values, "guesses": guesses} if guesses else values


def prepare(
    problem: Problem,
    cell: Cell,
    settings: TrainSettings,
    grid: Grid,
    copies: int = 1,
    *,
    refit: bool = False,
) -> Prepared:
    """Draw a cell's rows and make its models.

    Args:
        copies: how many cells hold their rows in memory at once, which decides where the rows stay.
        refit: whether the validation rows are trained on, too.
    """
    draw = draw_rows(problem, cell.shots, cell.seed)
    if refit:
        draw = Draw(np.concatenate([draw.train, draw.val]), draw.val)
    target = problem.target
    deep = cell.method not in LINEAR
    tokens = deep and settings.trunk == TRANSFORMER
    train, val, test, pool = (
        target.stored(part, tokens=tokens) for part in (draw.train, draw.val, problem.test, problem.train)
    )
    auxiliary = [problem.auxiliaries[label] for label in cell.auxiliaries]
    everything = [train, val, *(s.stored(np.arange(len(s.rows)), tokens=tokens) for s in auxiliary)]
    loader = chosen_loader(everything, settings.loader, settings.device, copies)
    # Encoders with a joint space are made for the angle between their vectors.
    unit = cell.aligned and settings.aligned == "normalized"
    kind = "l2" if unit else settings.normalize
    rows = placed(train, loader)
    seen = placed(pool, loader) if settings.normalize_on == "pool" else rows
    if kind in VALIDATIONS:
        kind = _validated(problem, cell, settings, grid)
    normalize = _fitted(kind, seen)
    normalizers = {target.label: normalize}
    samples = Samples(
        name=target.label,
        features=plain(rows.normalized(normalize)),
        labels=torch.from_numpy(target.labels[draw.train]),
        projected=deep and not cell.aligned,
        logit_scale=_ALIGNED_SCALE if cell.aligned else 1.0,
    )
    validation = (plain(placed(val, loader).normalized(normalize)), torch.from_numpy(target.labels[draw.val]))
    with_loss = cell.method in WITH_AUXILIARY_LOSS
    starts = cell.method in FROM_CLASS_MEANS
    candidates: tuple[Candidate, ...] = (SOLVED_CANDIDATE,)
    if not grid.points:
        candidates = grid.candidates_for(
            auxiliary_loss=with_loss,
            learns_scale=not cell.aligned,
            sees_texts=with_loss or starts,
            equal=settings.candidates == "equal",
        )
    mapped: dict[str, str] = {}
    seen_texts: dict[Texts | None, tuple[list[Samples], Tensor | None]] = {}
    normalized: dict[Texts | None, dict[str, Normalizer]] = {}
    for texts in dict.fromkeys(candidate.texts for candidate in candidates):
        own = settings if texts is None else replace(settings, texts=texts)
        auxiliaries, mapped = _auxiliaries(problem, cell, own, normalizers, unit, loader)
        head = None
        if starts:
            first = auxiliaries[0]
            head, _ = class_mean_rows(first.features, first.labels, len(problem.classes), cell.seed)
        seen_texts[texts], normalized[texts] = (auxiliaries, head), dict(normalizers)
    kernel = class_kernel(auxiliaries, len(problem.classes)) if cell.method == "prior" else None
    models = [
        HeadModel(
            target=samples,
            auxiliaries=tuple(seen_texts[candidate.texts][0]) if with_loss else (),
            validation=validation,
            classes=len(problem.classes),
            width=cell.shared_width if deep else samples.dim,
            seed=cell.seed + (candidate.repeat << 32),
            candidate=candidate,
            head=seen_texts[candidate.texts][1],
            alpha=1.0 if candidate.alpha is None else candidate.alpha,
            ratio=candidate.ratio or 1.0,
            hidden=min(cell.shared_width, _HIDDEN) if deep and settings.trunk != "linear" else 0,
            layers=LAYERS if tokens else 0,
            balanced=settings.sampling == "balanced",
            kernel=kernel,
        )
        for candidate in candidates
    ]
    where = "stream" if loader == "stream" else "host"
    return Prepared(
        models,
        [normalized[candidate.texts] for candidate in candidates],
        len(draw.train) if refit else draw.label_budget,
        mapped,
        placed(test, where).normalized(normalize),
        grid.crossed_points(prior=kernel is not None)
        if cell.method in SOLVED
        else grid.points_for(auxiliary_loss=with_loss),
        kind if settings.normalize in VALIDATIONS else None,
        _pool(problem, cell, draw, normalize) if cell.method == SELF_TRAINING else None,
    )


def _pool(problem: Problem, cell: Cell, draw: Draw, normalize: Normalizer) -> Tensor:
    """The rows (u, D) that a draw leaves without labels, normalised; made up ones under the control."""
    rows = pool_rows(problem, np.concatenate([draw.train, draw.val]), cell.seed)
    return normalize(made_up(rows, cell.seed) if cell.control == "random" else rows)


def _validated(problem: Problem, cell: Cell, settings: TrainSettings, grid: Grid) -> str:
    """The normalisation that a draw's validation rows speak for; a refit keeps that of its draw."""
    from uml_train.fullbatch.scaling import LabelledParts, validated_normalization

    draw, target = draw_rows(problem, cell.shots, cell.seed), problem.target
    parts = LabelledParts(
        x=target.values(draw.train),
        y=torch.from_numpy(target.labels[draw.train]),
        held=target.values(draw.val),
        answers=torch.from_numpy(target.labels[draw.val]),
        classes=len(problem.classes),
    )
    pool = target.stored(problem.train).held() if settings.normalize_on == "pool" else None

    def fit(kind: str, rows: Tensor) -> Normalizer:
        return Normalizer.fit(kind, rows) if pool is None else _fitted(kind, pool)

    points = grid.points_for(auxiliary_loss=False)
    return validated_normalization(parts, points, fit, settings.normalize)


def _fitted(kind: str, rows: Rows) -> Normalizer:
    return Normalizer.fit_blocks(kind, lambda: (block.values for _, block in rows.blocks()))


def _auxiliaries(
    problem: Problem,
    cell: Cell,
    settings: TrainSettings,
    normalizers: dict[str, Normalizer],
    unit: bool,
    loader: str,
) -> tuple[list[Samples], dict[str, str]]:
    samples: list[Samples] = []
    mapped: dict[str, str] = {}
    space = problem.auxiliaries[cell.auxiliaries[0]].joint_space if cell.auxiliaries else None
    # What a joint space aligns are pooled vectors.
    joins = settings.aligned != "off" and space is not None and settings.trunk != TRANSFORMER
    for i, label in enumerate(cell.auxiliaries):
        source = problem.auxiliaries[label]
        joint = joins and source.joint_space == space
        classes = None
        if cell.control is not None and cell.control.startswith(UNRELATED):
            name = cell.control.removeprefix(UNRELATED)
            source = problem.unrelated[f"{label}@{name}"]
            theirs = source.features.classes
            classes = injection(theirs, len(problem.classes), name, cell.seed)
            mapped |= {t: problem.classes[c] for t, c in zip(theirs, classes, strict=True) if c >= 0}
        features, labels = auxiliary_rows(source, cell, settings, classes, loader)
        normalizers[label] = _fitted("l2" if unit and joint else settings.normalize, features)
        samples.append(
            Samples(
                name=label,
                features=plain(features.normalized(normalizers[label])),
                labels=labels,
                projected=i > 0 and not joint,
                logit_scale=_ALIGNED_SCALE if cell.aligned and joint else 1.0,
            )
        )
    return samples, mapped


def shown_test(problem: Problem, fitted: Fitted, test: Rows) -> Answers:
    """What the selected head says of the test rows."""
    answers = Answers(len(test), len(problem.classes))
    weights = fitted.weights
    for part, block in test.blocks():
        answers.take(part, weights.logits(block))
    return answers
