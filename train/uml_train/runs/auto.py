"""The method `auto`: per cell, of the methods that a run trained, the one that validates best.

It costs no training, and lets harmful data cost nothing: where `uml` validates no better than the linear
layer the linear layer is taken.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from uml_train.run import Cell, CellResult, Run, write_atomic
from uml_train.settings import LINEAR, METHODS, WITH_AUXILIARIES


def choose(run: Run, cells: Sequence[Cell]) -> None:
    """Write the cells of `auto`, each a copy of the chosen method's model; of equals the simpler."""
    if not cells:
        return
    trained = {r.cell: r for r in run.cells if r.chosen is None and r.cell.control is None}
    for cell in cells:
        rivals = [
            trained[rival] for method in METHODS if (rival := _rival(cell, method, trained)) is not None
        ]
        best = max(
            rivals, key=lambda r: r.val_acc
        )  # the first of equals, and METHODS begin with the simplest
        result = replace(
            best,
            cell=cell,
            chosen=best.cell.method,
            candidates=[best.candidates[best.selected]],
            selected=0,
            history=[],
            seconds=0.0,
        )
        _copy(best, result)


def _rival(cell: Cell, method: str, trained: dict[Cell, CellResult]) -> Cell | None:
    if method in LINEAR and method not in WITH_AUXILIARIES:
        return next(
            (c for c in trained if (c.method, c.shots, c.seed) == (method, cell.shots, cell.seed)), None
        )
    rival = replace(cell, method=method, auxiliaries=cell.auxiliaries if method in WITH_AUXILIARIES else ())
    return rival if rival in trained else None


def _copy(source: CellResult, result: CellResult) -> None:
    for ours, theirs in (
        (result.head_path, source.head_path),
        (result.predictions_path, source.predictions_path),
    ):
        write_atomic(ours, theirs.read_bytes())
    record = json.dumps(result.to_json(), ensure_ascii=False)
    write_atomic(result.record_path, record.encode())
