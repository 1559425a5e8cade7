"""A run on disk: its configuration, one record per finished cell, and the tables made of them.

    RUNS/<dataset>-<target>-<hash8>/
        config.json          everything needed to repeat the run; fingerprints of the stores; when it began
        splits.json          ids of the rows of every draw
        test_labels.npy      (N,) int32, the target's test rows
        cells/<cell>.json    one finished cell: every candidate, the selected one, its score and history
        heads/<cell>.safetensors, predictions/<cell>.npy   of the selected model
        results.csv, metrics.jsonl                         all cells, one row per model / per evaluation

A cell is one (auxiliaries, method, control, shots, seed): the candidates of one grid, of which validation
selects one. Its record is written last, so a cell either is whole or does not exist.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache import InputError, escapes, write_atomic
from uml_train.settings import Shots, TrainSettings

RESULT_COLUMNS = (
    "dataset", "target", "auxiliaries", "encoders", "method", "control", "objective", "shots", "seed",
    "solver", "lr", "weight_decay", "batch_size", "learnable_scale", "alpha", "trunk", "normalize", "texts",
    "grid",
    "ratio", "repeat", "width", "step", "shared_width", "aligned", "label_budget", "selected", "chosen",
    "val_acc", "val_loss", "test_acc", "best_step", "steps", "seconds", "hyperparameters",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One entry of the table: what is trained, on which draw, with which seed.

    `auxiliaries` are labels such as `text` or `text.cupl`, in order; the first one's space is the shared one.
    The unimodal methods have none; `unimodal-deep` differs by `shared_width`, and by whether the target needs
    no projection because its encoder shares a space with the first auxiliary's (`aligned`).
    """

    auxiliaries: tuple[str, ...]
    method: str
    control: str | None
    shots: Shots
    seed: int
    shared_width: int
    aligned: bool = False

    @property
    def key(self) -> str:
        """A file name, unique within a run."""
        parts = [self.method, self.control or "data", "+".join(self.auxiliaries) or "alone"]
        name = "-".join([*parts, f"w{self.shared_width}{'a' * self.aligned}", f"k{self.shots}"])
        name += f"-s{self.seed}"
        return re.sub(r"[^A-Za-z0-9.+_-]", "_", name)


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """A finished cell.

    Accuracies are in percent. `candidates` has one record per model (hyperparameters, `val_acc`, `best_step`,
    `steps`, `seconds`; what a probe tunes is in its `hyperparameters`); `selected` is the index of the one
    that validated best (ties: the earlier step, then the earlier in the grid), the only one that the test
    rows were shown to. A cell of the method `auto` names in `chosen` the method whose model it is.
    `solver` is `full batch` or `adamw` (None: no head, or of an earlier version).
    `injection` says, for the control `unrelated`, which class of the other data set stood for which of the
    target's.
    """

    cell: Cell
    dataset: str
    target: str
    encoders: dict[str, str]
    objective: str
    trunk: str
    normalize: str
    texts: int | str
    grid: str
    label_budget: int
    candidates: list[dict[str, Any]]
    selected: int
    val_acc: float
    test_acc: float
    best_step: int
    seconds: float
    history: list[list[dict[str, float]]] = field(repr=False)
    folder: Path
    chosen: str | None = None
    injection: dict[str, str] = field(default_factory=dict, repr=False)
    solver: str | None = None

    @property
    def test_predictions(self) -> np.ndarray:
        """(N,) int32: the class that the selected model gives each row of `test_labels`."""
        return np.load(self.predictions_path, allow_pickle=False)

    @property
    def predictions_path(self) -> Path:
        """The file of `test_predictions`."""
        return self.folder / "predictions" / f"{self.cell.key}.npy"

    @property
    def record_path(self) -> Path:
        """The cell's record, whose existence says that the cell is finished."""
        return self.folder / "cells" / f"{self.cell.key}.json"

    @property
    def head_path(self) -> Path:
        """The selected model's weights (safetensors)."""
        return self.folder / "heads" / f"{self.cell.key}.safetensors"

    def about(self, classes: Sequence[str]) -> dict[str, Any]:
        """What the file of its head says of it."""
        cell = self.cell
        return {
            "classes": list(classes),
            "dataset": self.dataset,
            "target": self.target,
            "encoder": self.encoders[self.target],
            "auxiliaries": list(cell.auxiliaries),
            "method": cell.method,
            "control": cell.control,
            "normalize": self.normalize,
            "trunk": self.trunk,
            "shots": cell.shots,
            "seed": cell.seed,
            "val_acc": self.val_acc,
            "test_acc": self.test_acc,
        }

    def to_json(self) -> dict[str, Any]:
        values = {k: v for k, v in asdict(self).items() if k not in ("cell", "folder")}
        return {**asdict(self.cell), **values}

    @classmethod
    def from_json(cls, values: dict[str, Any], folder: Path) -> CellResult:
        fixed = {**values, "auxiliaries": tuple(values["auxiliaries"])}
        cell = Cell(**{k: fixed.pop(k) for k in Cell.__dataclass_fields__})
        return cls(cell=cell, folder=folder, **fixed)


class Run:
    """A run folder, opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.config: dict[str, Any] = json.loads((path / "config.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"{path} is no run: it has no config.json; `uml train` makes one") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path / 'config.json'} is damaged ({error}); train again") from None

    @property
    def settings(self) -> TrainSettings:
        """What the run was asked to do."""
        return TrainSettings.from_json(self.config["settings"])

    @property
    def created(self) -> str:
        return str(self.config["created"])

    @cached_property
    def test_labels(self) -> np.ndarray:
        """(N,) int32 class indices of the target's test rows."""
        return np.load(self.path / "test_labels.npy", allow_pickle=False)

    @property
    def cells(self) -> list[CellResult]:
        """The finished cells, in a fixed order."""
        return list(self._read_cells())

    def _read_cells(self) -> Iterator[CellResult]:
        for path in sorted((self.path / "cells").glob("*.json")):
            try:
                yield CellResult.from_json(json.loads(path.read_text(encoding="utf-8")), self.path)
            except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
                raise InputError(f"{path} is damaged ({error}); delete it and train again") from None

    def finished(self) -> set[str]:
        """Keys of the finished cells."""
        return {path.stem for path in (self.path / "cells").glob("*.json")}

    def write_tables(self) -> None:
        """Write `results.csv` (one row per model) and `metrics.jsonl` (one line per evaluation)."""
        cells = self.cells
        text = io.StringIO()
        table = csv.DictWriter(text, RESULT_COLUMNS, lineterminator="\n")
        table.writeheader()
        for result in cells:
            table.writerows(_rows(result))
        write_atomic(self.path / "results.csv", text.getvalue().encode())
        lines = (
            json.dumps({"cell": r.cell.key, "candidate": i, **point})
            for r in cells
            for i, history in enumerate(r.history)
            for point in history
        )
        write_atomic(self.path / "metrics.jsonl", "".join(f"{line}\n" for line in lines).encode())


def _rows(result: CellResult) -> Iterator[dict[str, Any]]:
    values = {**asdict(result.cell), **result.to_json()}
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


def load_run(path: Path | str) -> Run:
    """Open the run in a folder. Raises `InputError` where there is none."""
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"{path} does not exist; `uml train` makes a run")
    return Run(path)


def find_runs(runs: Path | str) -> list[Run]:
    """All runs below a folder, oldest first; a run folder itself counts as one."""
    runs = Path(runs)
    if (runs / "config.json").is_file():
        return [Run(runs)]
    found = [Run(p.parent) for p in runs.glob("*/config.json")] if runs.is_dir() else []
    return sorted(found, key=lambda run: (run.created, run.path.name))


def newest_run(runs: Path | str) -> Run:
    """The run that was begun last. Raises `InputError` where the folder holds none."""
    found = find_runs(runs)
    if not found:
        state = "holds no run" if Path(runs).is_dir() else "does not exist"
        raise InputError(f"{runs} {state}; make one with `uml train --cache ./feats --out {runs}`")
    return found[-1]


def write_cell(result: CellResult, predictions: np.ndarray, head: bytes | None) -> None:
    """Write a finished cell, its record last; `head` is None for a classifier that is no head."""
    if head is not None:
        write_atomic(result.head_path, head)
    buffer = io.BytesIO()
    np.save(buffer, predictions, allow_pickle=False)
    write_atomic(result.predictions_path, buffer.getvalue())
    record = json.dumps(result.to_json(), ensure_ascii=False)
    write_atomic(result.record_path, record.encode())


def missing_cells(wanted: Iterable[Cell], run: Run) -> list[Cell]:
    """Those of the cells that the run has not finished, in the order given."""
    finished = run.finished()
    return [cell for cell in wanted if cell.key not in finished]
