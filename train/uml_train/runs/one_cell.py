"""From a prepared cell to a trained one: search, selection, and the selected head on the test rows."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from uml_train.fullbatch.search import cross_validate, select, solve
from uml_train.fullbatch.self_training import self_trained
from uml_train.heads.bank import HeadBank
from uml_train.heads.models import Fitted, best_validated
from uml_train.problem import Problem
from uml_train.protocols.grid import Grid, Point
from uml_train.run import Cell
from uml_train.runs.cells import Prepared, Trained, prepare, shown_test
from uml_train.settings import TrainSettings


def train_cell(problem: Problem, cell: Cell, settings: TrainSettings, grid: Grid, copies: int = 1) -> Trained:
    """Train every candidate of a cell, select on validation, score the selected one on the test rows."""
    prepared = prepare(problem, cell, settings, grid, copies)
    if prepared.points:
        return solve_cell(problem, cell, settings, grid, prepared)
    seconds: list[float] = []
    began = time.perf_counter()

    def done(_: int, fitted: Fitted) -> None:
        nonlocal began
        now = time.perf_counter()
        seconds.append(now - began)
        began = now

    fitted = HeadBank(prepared.models, grid.schedule).fit(done)
    return finish(problem, prepared, fitted, seconds)


def solve_cell(
    problem: Problem, cell: Cell, settings: TrainSettings, grid: Grid, prepared: Prepared
) -> Trained:
    """Solve every point, select on validation, score the selected one on the test rows."""
    began = time.perf_counter()
    fitted = solve(prepared.models[0], prepared.points)
    cross_validate(prepared.models[0], prepared.points, fitted)
    selected = select(prepared.points, fitted)
    if prepared.pool is not None:
        # One candidate more. It is kept where it validates as well: a first head that guesses badly teaches
        # itself its errors, and loses up to half of what it knew.
        point = prepared.points[selected]
        guessed = self_trained(prepared.models[0], point, prepared.pool, cell.control)
        kept = guessed.val_acc >= fitted[selected].val_acc
        fitted, prepared.points = [*fitted, guessed], (*prepared.points, point)
        selected = len(fitted) - 1 if kept else selected
    if settings.refit:
        again = prepare(problem, cell, settings, grid, refit=True)
        refitted = _again(again, cell, prepared.points[selected], fitted[selected])
        fitted[selected] = replace(fitted[selected], made=refitted.weights)
        prepared.mapping, prepared.test = again.mapping, again.test
    seconds = [(time.perf_counter() - began) / len(fitted)] * len(fitted)
    return Trained(
        prepared=prepared,
        fitted=fitted,
        seconds=seconds,
        selected=selected,
        answers=shown_test(problem, fitted[selected], prepared.test),
    )


def solve_for_new(
    problem: Problem, cell: Cell, settings: TrainSettings, grid: Grid, candidate: Mapping[str, Any]
) -> tuple[Fitted, Prepared]:
    """A recorded candidate solved once more, on training and validation rows together."""
    first = prepare(problem, cell, settings, grid)
    chosen = candidate["hyperparameters"]
    point = next(
        p
        for p in first.points
        if (p.loss, p.strength, p.alpha, p.ratio) == (
            chosen["loss"], chosen["strength"], candidate["alpha"], candidate["ratio"]
        ) and p.prior == chosen.get("prior")
    )  # fmt: skip
    model = first.models[0]
    if chosen.get("guesses"):
        assert first.pool is not None
        fitted = self_trained(model, point, first.pool, cell.control)
    else:
        (fitted,) = solve(model, [point])
    again = prepare(problem, cell, settings, grid, refit=True)
    return _again(again, cell, point, fitted), again


def _again(again: Prepared, cell: Cell, point: Point, fitted: Fitted) -> Fitted:
    """The same point on more rows, with the factor that the validation rows gave."""
    if fitted.guesses:
        assert again.pool is not None
        return self_trained(again.models[0], point, again.pool, cell.control, fitted.factor)
    (found,) = solve(again.models[0], [point], [fitted.factor])
    return found


def finish(problem: Problem, prepared: Prepared, fitted: list[Fitted], seconds: list[float]) -> Trained:
    """Select on validation, and show the test rows to the selected model; `seconds` are each candidate's."""
    selected = best_validated([f.val_acc for f in fitted], [f.best_step for f in fitted])
    return Trained(
        prepared=prepared,
        fitted=fitted,
        seconds=seconds,
        selected=selected,
        answers=shown_test(problem, fitted[selected], prepared.test),
    )
