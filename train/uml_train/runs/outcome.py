"""The record of a trained cell, whatever trained it: which model was selected, and what the test rows say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from uml_train.problem import Problem
from uml_train.record.cell import Cell, CellResult
from uml_train.record.scores import Answers
from uml_train.run import Run


def cell_result(
    run: Run,
    problem: Problem,
    cell: Cell,
    answers: Answers,
    *,
    candidates: Sequence[dict[str, Any]],
    selected: int,
    seconds: float,
    label_budget: int,
    history: Sequence[list[dict[str, float]]] = (),
    encoders: Mapping[str, str] | None = None,
    **how: Any,
) -> CellResult:
    """The result of a cell of a run.

    Args:
        answers: of the selected model for the test rows.
        candidates: one record per model, each with `val_acc` and `best_step`; `selected` is the index of the
            one that validated best.
        seconds: that all of them took.
        encoders: by label; None takes those of the target and the cell's auxiliaries.
        how: the fields of `CellResult` that say how the cell was trained (objective, trunk, grid, …).
    """
    if encoders is None:
        sources = [problem.target, *(problem.auxiliaries[label] for label in cell.auxiliaries)]
        encoders = {source.label: source.encoder for source in sources}
    best = candidates[selected]
    return CellResult(
        cell=cell,
        dataset=problem.dataset,
        target=problem.target.label,
        encoders=dict(encoders),
        label_budget=label_budget,
        candidates=list(candidates),
        selected=selected,
        val_acc=best["val_acc"],
        test_acc=answers.accuracy(problem.target.labels[problem.test]),
        best_step=best["best_step"],
        seconds=round(seconds, 4),
        history=list(history),
        folder=run.path,
        **how,
    )
