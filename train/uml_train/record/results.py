"""The tables of a run as text: `results.csv` and `metrics.jsonl`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields
from typing import Any

from uml_cache import escapes
from uml_train.record.cell import CellResult

RESULT_COLUMNS = (
    "dataset", "target", "auxiliaries", "encoders", "method", "control", "objective", "shots", "seed",
    "solver", "lr", "weight_decay", "batch_size", "learnable_scale", "alpha", "trunk", "normalize", "texts",
    "grid",
    "ratio", "repeat", "width", "step", "shared_width", "aligned", "label_budget", "selected", "chosen",
    "val_acc", "val_loss", "test_acc", "best_step", "steps", "seconds", "hyperparameters",
)  # fmt: skip


def results_table(cells: Iterable[CellResult]) -> str:
    """One row per model."""
    text = io.StringIO()
    table = csv.DictWriter(text, RESULT_COLUMNS, lineterminator="\n")
    table.writeheader()
    for result in cells:
        table.writerows(_rows(result))
    return text.getvalue()


def metrics_lines(cells: Iterable[CellResult]) -> str:
    """One line of JSON per evaluation."""
    lines = (
        json.dumps({"cell": name, "candidate": i, **point})
        for r in cells
        for name in (r.name,)
        for i, history in enumerate(r.history)
        for point in history
    )
    return "".join(f"{line}\n" for line in lines)


def _rows(result: CellResult) -> Iterator[dict[str, Any]]:
    # Not `to_json`: it copies the whole history, of which no column is made.
    values = {**asdict(result.cell), **{f.name: getattr(result, f.name) for f in fields(result)}}
    values["auxiliaries"] = "+".join(result.cell.auxiliaries)
    values["encoders"] = json.dumps(result.encoders, sort_keys=True)
    for i, candidate in enumerate(result.candidates):
        chosen = i == result.selected
        row = {
            **values,
            **candidate,
            "selected": int(chosen),
            "test_acc": result.test_acc if chosen else None,
        }
        if own := row.get("hyperparameters"):
            row["hyperparameters"] = json.dumps(own, sort_keys=True)
        yield {column: escapes.csv_cell(row.get(column)) for column in RESULT_COLUMNS}
