"""A cell of a run and its result: what is trained, what came out, which files hold it."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from uml_train.record.checksums import DamagedFile, FileSum, checked_bytes
from uml_train.settings import Shots


def plain_name(text: str) -> str:
    """A file name for a text. Two texts never share one: what it cannot hold is told apart by a digest."""
    name = text.replace(":", "=")
    plain = re.sub(r"[^A-Za-z0-9.+=@_-]", "_", name)
    if plain == name and "=" not in text:
        return plain
    return f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


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
        return plain_name(f"{name}-s{self.seed}")


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """A finished cell.

    Accuracies are in percent. `candidates` has one record per model (hyperparameters, `val_acc`, `best_step`,
    `steps`, `seconds`; what a probe tunes is in its `hyperparameters`); `selected` is the index of the one
    that validated best (ties: the earlier step, then the earlier in the grid), the only one that the test
    rows were shown to. A cell of the method `auto` names in `chosen` the method whose model it is.
    `injection` says, for the control `unrelated`, which class of the other data set stood for which of the
    target's.

    `files` holds sha256 and length of the cell's files by their path in the run, and `run` the run's
    identity; both are missing in runs of version 0.1. `stem` is the name of its files where that is not
    `cell.key`. `solver` is `full batch` or `adamw` (None: no head, or of version 0.1).
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
    files: dict[str, FileSum] = field(default_factory=dict, repr=False)
    run: str | None = None
    stem: str | None = None
    solver: str | None = None

    @property
    def test_predictions(self) -> np.ndarray:
        """(N,) int32: the class that the selected model gives each row of `test_labels`.

        Raises:
            DamagedFile: the file is gone or not what was written.
        """
        path = self.predictions_path
        data = self.checked(path)
        try:
            return np.load(io.BytesIO(data), allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise DamagedFile(path, f"cannot be read ({error})", self.remedy) from None

    @property
    def test_scores(self) -> np.ndarray | None:
        """(N, C) float32 or float16 log-probabilities of the classes for each row of `test_labels`.

        None where none were kept (version 0.1, or too large), or the file was deleted.

        Raises:
            DamagedFile: the file is not what was written.
        """
        path = self.scores_path
        if path.relative_to(self.folder).as_posix() not in self.files or not path.exists():
            return None
        data = self.checked(path)
        try:
            return np.load(io.BytesIO(data), allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise DamagedFile(path, f"cannot be read ({error})", self.remedy) from None

    @property
    def scores_path(self) -> Path:
        """The file of `test_scores`."""
        return self.folder / "scores" / f"{self.name}.npy"

    @property
    def predictions_path(self) -> Path:
        """The file of `test_predictions`."""
        return self.folder / "predictions" / f"{self.name}.npy"

    @property
    def record_path(self) -> Path:
        """The cell's record, whose existence says that the cell is finished."""
        return self.folder / "cells" / f"{self.name}.json"

    @property
    def head_path(self) -> Path:
        """The selected model's weights (safetensors)."""
        return self.folder / "heads" / f"{self.name}.safetensors"

    @property
    def name(self) -> str:
        """What its files are called."""
        return self.stem or self.cell.key

    @property
    def remedy(self) -> str:
        """What a person does about a file of the cell that is damaged."""
        return remedy(self.record_path)

    def checked(self, path: Path) -> bytes:
        """The bytes of one of the cell's files. Raises `DamagedFile` where they are not what was written."""
        return checked_bytes(path, self.files.get(path.relative_to(self.folder).as_posix()), self.remedy)

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
        """The cell's record."""
        values = {k: v for k, v in asdict(self).items() if k not in ("cell", "folder", "stem")}
        return {**asdict(self.cell), **values}

    @classmethod
    def from_json(cls, values: dict[str, Any], folder: Path, stem: str | None = None) -> CellResult:
        """The inverse of `to_json`. Raises `KeyError` or `TypeError` for values that are none."""
        fixed = {**values, "auxiliaries": tuple(values["auxiliaries"])}
        cell = Cell(**{k: fixed.pop(k) for k in Cell.__dataclass_fields__})
        return cls(cell=cell, folder=folder, stem=None if stem == cell.key else stem, **fixed)


def remedy(record: Path) -> str:
    """What a person does about a damaged file of the cell with this record."""
    return f"run the same `uml train` command to train the cell again, or delete {record}"
