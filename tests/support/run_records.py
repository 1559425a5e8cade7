"""Runs changed as if they had been made so: records keep their checksums, cells their files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from uml_train import CellResult, Run
from uml_train.record.checksums import file_sum, record_bytes
from uml_train.record.keeping import array_bytes


def change_record(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON record in place; one that had a checksum has the right one again."""
    values = json.loads(path.read_text(encoding="utf-8"))
    checked = values.pop("sha256", None) is not None
    change(values)
    path.write_bytes(record_bytes(values) if checked else json.dumps(values).encode())


def change_predictions(run: Run, result: CellResult, predictions: np.ndarray) -> None:
    """Let a cell have predicted something else."""
    data = array_bytes(predictions.astype(np.int32))
    result.predictions_path.write_bytes(data)
    accuracy = 100.0 * float((predictions == run.test_labels).mean())

    def change(values: dict[str, Any]) -> None:
        values["test_acc"] = accuracy
        if values.get("files"):
            values["files"][result.predictions_path.relative_to(run.path).as_posix()] = file_sum(data)

    change_record(result.record_path, change)
