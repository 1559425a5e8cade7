"""`uml eval --advise`: for every auxiliary in a cache, what it would add at each k, before anything is
trained.

Shapes: n rows, D features, C classes, k shots.

The target's stores are opened as `uml train` opens them, so that its training rows are the rows seen here,
and an auxiliary loses the samples that validation or test hold. Features of validation and test rows are
never read, and their labels play no part.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache import QUIET, InputError, Output, StoreInfo, Used, WorkError, find_stores
from uml_evaluate.advice.combine import Prediction, predict
from uml_evaluate.advice.evidence import Evidence, compare_geometry, gather
from uml_evaluate.advice.training_rows import Rows, capped, reduced, rows_per_class, shots
from uml_train import Problem, Role, Source, one_state, open_problem, read_class_map, select_stores

SHOTS = (1, 2, 4, 8)
_SEED = 0


@dataclass(frozen=True)
class Estimate:
    """The advice on one auxiliary at one k."""

    auxiliary: str
    encoder: str
    shots: int
    evidence: Evidence
    prediction: Prediction

    def to_json(self) -> dict[str, Any]:
        """The estimate as JSON values, rounded as it is shown."""
        return {
            "auxiliary": self.auxiliary,
            "encoder": self.encoder,
            "shots": self.shots,
            **self.prediction.to_json(),
            **self.evidence.to_json(),
            "sentence": self.sentence(),
        }

    def sentence(self) -> str:
        """One sentence for people."""
        return self.prediction.sentence(f"{self.auxiliary} ({self.encoder})", self.shots)


@dataclass(frozen=True)
class Advice:
    """The advice on a target: `estimates` by auxiliary and k, `skipped` auxiliaries with the reason."""

    dataset: str
    target: str
    encoder: str
    classes: int
    rows_per_class: int
    estimates: list[Estimate]
    skipped: dict[str, str]
    seconds: float
    estimator_seconds: dict[str, float]
    used: dict[str, Used]

    def to_json(self) -> dict[str, Any]:
        """The answer of `uml eval --advise --json`."""
        return {
            "dataset": self.dataset,
            "target": self.target,
            "encoder": self.encoder,
            "classes": self.classes,
            "rows_per_class": self.rows_per_class,
            "advice": [estimate.to_json() for estimate in self.estimates],
            "skipped": [{"auxiliary": name, "reason": reason} for name, reason in self.skipped.items()],
            "seconds": round(self.seconds, 2),
            "estimator_seconds": {name: round(value, 3) for name, value in self.estimator_seconds.items()},
            "rows": {label: used.to_json() for label, used in self.used.items()},
        }


def advise(
    cache: Path,
    *,
    target: str | None = None,
    dataset: str | None = None,
    k: Sequence[int] | None = None,
    class_map: Path | None = None,
    left_out: list[tuple[str, str, str]] | None = None,
    output: Output = QUIET,
) -> Advice:
    """Estimate `uml` − `unimodal-deep` for every auxiliary of the target's data set.

    Args:
        cache: the folder with feature stores.
        target: `modality[.set][:encoder]`; None takes image, else audio, else text.
        dataset: data set; None where the cache holds one alone.
        k: labelled samples per class; None takes those of 1, 2, 4, 8 that the training rows can give.
        class_map: CSV with the columns auxiliary, target where class names differ.
        left_out: takes the rows that are not used: source, id, reason.

    Raises:
        InputError: an empty cache, an unknown or unsealed target, one modality only, no labels, no auxiliary
            that can be used, a k larger than the smallest class.
        WorkError: a store is changed meanwhile.
    """
    began = time.perf_counter()
    selection = select_stores(cache, dataset, target, [])
    roles = _auxiliaries(cache, selection.dataset, selection.target.store)
    names = read_class_map(class_map) if class_map else None
    problem = open_problem(selection.dataset, selection.target, [])
    if not roles:
        raise InputError(
            f"{cache} holds only {selection.target.store.modality} of {selection.dataset}; advice is about "
            "another modality: `uml extract` adds one"
        )
    rng = np.random.default_rng(_SEED)
    rows = _target_rows(problem, rng)
    wanted = _shots(rows, k, problem)
    problems, skipped = _opened(selection.dataset, selection.target, roles, names)
    for remark in dict.fromkeys(r for opened in (problem, *problems) for r in opened.remarks):
        output.say(remark)
    for label, reason in skipped.items():
        output.say(f"{label} is left out: {reason}")
    sources = [source for opened in problems for source in opened.auxiliaries.values()]
    if not sources:
        raise InputError(next(iter(skipped.values())))
    estimates = []
    read = {source.features.path: source.features.info for one in problems for source in one.sources}
    with one_state(list(read.values())), output.progress(len(wanted), "k", "advice") as bar:
        others = [_auxiliary_rows(source, len(problem.classes), rng) for source in sources]
        geometry = compare_geometry(rows, others, rng)
        for shots_ in wanted:
            found = gather(rows, others, geometry, shots_, rng)
            for source, evidence in zip(sources, found, strict=True):
                prediction = predict(evidence)
                estimates.append(Estimate(source.label, source.encoder, shots_, evidence, prediction))
            bar.update(1)
    if left_out is not None:
        left_out += dict.fromkeys(row for opened in (problem, *problems) for row in opened.left_out())
    order = {source.label: number for number, source in enumerate(sources)}
    estimates.sort(key=lambda e: (order[e.auxiliary], e.shots))
    return Advice(
        dataset=selection.dataset,
        target=selection.target.label,
        encoder=problem.target.encoder,
        classes=len(problem.classes),
        rows_per_class=shots(rows),
        estimates=estimates,
        skipped=skipped,
        seconds=time.perf_counter() - began,
        estimator_seconds={
            "geometry": sum(seconds for _, seconds in geometry),
            "pilot": sum(estimate.evidence.seconds for estimate in estimates),
        },
        used={label: used for opened in (problem, *problems) for label, used in opened.used.items()},
    )


def _auxiliaries(cache: Path, dataset: str, target: StoreInfo) -> list[Role]:
    """Every store of the data set in another modality, named as short as is unambiguous."""
    stores = [s for s in find_stores(cache) if s.dataset == dataset and s.modality != target.modality]
    places = [f"{s.modality}.{s.set}" if s.set else s.modality for s in stores]
    roles = []
    for store, place in zip(stores, places, strict=True):
        encoder = f"{store.encoder_name}@{store.variant}" if store.variant else store.encoder_name
        roles.append(Role(place if places.count(place) == 1 else f"{place}:{encoder}", store))
    return roles


def _opened(
    dataset: str, target: Role, roles: Sequence[Role], class_map: dict[str, str] | None
) -> tuple[list[Problem], dict[str, str]]:
    """The problems that hold the auxiliaries that can be used (one, unless some cannot), and why others
    cannot."""
    try:
        return [open_problem(dataset, target, roles, class_map)], {}
    except (InputError, WorkError):  # one of them cannot be used: find out which
        problems: list[Problem] = []
        skipped: dict[str, str] = {}
    for role in roles:
        try:
            problems.append(open_problem(dataset, target, [role], class_map))
        except (InputError, WorkError) as error:
            skipped[role.label] = str(error)
    return problems, skipped


def _target_rows(problem: Problem, rng: np.random.Generator) -> Rows:
    """Training rows of the target, so many per class as are needed, rotated into few directions.

    One view of a sample stands for all, so that none is trained on while another is held out.
    """
    _, first = np.unique(problem.target.samples[problem.train], return_index=True)
    train = problem.train[np.sort(first)]
    labels, classes = problem.target.labels[train], len(problem.classes)
    kept = capped(labels, rows_per_class(classes), rng)
    return reduced(problem.target.values(train[kept]).numpy(), labels[kept], classes, rng)


def _auxiliary_rows(source: Source, classes: int, rng: np.random.Generator) -> Rows:
    kept = capped(source.labels, rows_per_class(classes), rng)
    return reduced(source.values(kept).numpy(), source.labels[kept], classes, rng)


def _shots(rows: Rows, k: Sequence[int] | None, problem: Problem) -> tuple[int, ...]:
    """The numbers of shots that every class can give."""
    most = shots(rows)
    name = problem.classes[int(rows.counts.argmin())]
    if most == 0:
        raise InputError(
            f"class {name!r} of {problem.target.label} has no training row: nothing to learn from"
        )
    if k is None:
        return tuple(shots_ for shots_ in SHOTS if shots_ <= most)
    if max(k) > most:
        raise InputError(
            f"class {name!r} has {most} training rows that advice looks at, but --k {max(k)} was asked for; "
            "use fewer shots"
        )
    return tuple(k)
