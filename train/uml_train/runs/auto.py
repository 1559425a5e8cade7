"""The method `auto`: per cell, of the methods that a run trained, the one that validates best.

It costs no training, and lets harmful data cost nothing: where `uml` validates no better than the linear
layer the linear layer is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from uml_train.record.keeping import Finished, Keeper
from uml_train.record.scores import Answers
from uml_train.run import Cell, CellResult, Run
from uml_train.settings import KNOWN, LINEAR, WITH_AUXILIARIES


def choose(run: Run, cells: Sequence[Cell]) -> None:
    """Write the cells of `auto`, each a copy of the chosen method's model; of equals the simpler."""
    if not cells:
        return
    trained = {r.cell: r for r in run.cells if r.chosen is None and r.cell.control is None}
    with Keeper(run) as keeper:
        _choose(cells, trained, keeper)


def _choose(cells: Sequence[Cell], trained: dict[Cell, CellResult], keeper: Keeper) -> None:
    for cell in cells:
        rivals = [trained[rival] for method in KNOWN if (rival := _rival(cell, method, trained)) is not None]
        best = max(rivals, key=lambda r: r.val_acc)  # the first of equals, and KNOWN begins with the simplest
        copy = replace(
            best,
            files={},
            stem=None,
            cell=cell,
            chosen=best.cell.method,
            candidates=[best.candidates[best.selected]],
            selected=0,
            history=[],
            seconds=0.0,
        )
        answers = Answers.of(best.test_predictions, best.test_scores)
        keeper.keep(Finished(copy, answers, best.checked(best.head_path)))


def _rival(cell: Cell, method: str, trained: dict[Cell, CellResult]) -> Cell | None:
    if method in LINEAR and method not in WITH_AUXILIARIES:
        return next(
            (c for c in trained if (c.method, c.shots, c.seed) == (method, cell.shots, cell.seed)), None
        )
    rival = replace(cell, method=method, auxiliaries=cell.auxiliaries if method in WITH_AUXILIARIES else ())
    return rival if rival in trained else None
