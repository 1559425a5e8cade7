"""A run on disk: its configuration, one record per finished cell, and the tables made of them.

    RUNS/<dataset>-<target>-<hash16>/
        config.json          everything needed to repeat the run; its identity; when it began
        splits.json          ids of the rows of every draw
        test_labels.npy      (N,) int32, the target's test rows
        cells/<cell>.json    one finished cell: every candidate, the selected one, its score and history
        heads/<cell>.safetensors, predictions/<cell>.npy   of the selected model
        scores/<cell>.npy    (N, C) its log-probabilities, which metrics beside accuracy take; may be deleted
        results.csv, metrics.jsonl                         all cells, one row per model / per evaluation

A cell is one (auxiliaries, method, control, shots, seed): the candidates of one grid, of which validation
selects one. Its record is written last, so a cell either is whole or does not exist.

Records carry their own checksum and those of the files they speak of (`uml_train.record.checksums`), and
every cell the run's identity. Runs of version 0.1 (`format` 1) have none of these and are read all the same.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache import InputError, write_atomic, write_changed
from uml_train.record.cell import Cell, CellResult, remedy
from uml_train.record.checksums import DamagedFile, FileSum, checked_bytes, path_sum, read_record
from uml_train.record.results import metrics_lines, results_table
from uml_train.settings import TrainSettings

__all__ = [
    "Cell",
    "CellResult",
    "Inspection",
    "Run",
    "find_runs",
    "load_run",
    "missing_cells",
    "newest_run",
    "write_atomic",
]

FORMAT = 2
FIRST_FORMAT = 1  # of version 0.1: no checksums, no identity
_CONFIG = "config.json"
_AGAIN = "run the same `uml train` command to write it again"


@dataclass(frozen=True)
class Inspection:
    """The cells of a run that are whole, and what is wrong with the others, by their records.

    `gone` are records that lack a file, such as a power cut leaves; `damaged` have a file that is not what
    was written.
    """

    whole: list[CellResult] = field(default_factory=list)
    gone: dict[Path, DamagedFile] = field(default_factory=dict)
    damaged: dict[Path, DamagedFile] = field(default_factory=dict)


class Run:
    """A run folder, opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.config = read_record(path / _CONFIG, _AGAIN, required=False)
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(f"{path} is no run: it has no config.json; `uml train` makes one") from None
        version = self.config.get("format")
        if version not in (FIRST_FORMAT, FORMAT):
            raise InputError(
                f"{path} has run format {version!r}, and this version reads {FIRST_FORMAT} and {FORMAT}"
            )
        if version != FIRST_FORMAT:
            read_record(path / _CONFIG, _AGAIN)

    @property
    def checked(self) -> bool:
        """Whether its files carry checksums and it knows its stores' content: not those of version 0.1."""
        return bool(self.config["format"] != FIRST_FORMAT)

    @property
    def identity(self) -> dict[str, Any] | None:
        """All that decides its numbers; None in a run of version 0.1."""
        return self.config.get("identity")

    @property
    def digest(self) -> str | None:
        """sha256 of the identity, which every cell carries."""
        return self.config.get("digest")

    @property
    def settings(self) -> TrainSettings:
        """What the run was asked to do."""
        return TrainSettings.from_json(self.config["settings"])

    @property
    def created(self) -> str:
        """When the run was begun, as ISO 8601."""
        return str(self.config["created"])

    @cached_property
    def test_labels(self) -> np.ndarray:
        """(N,) int32 class indices of the target's test rows. Raises `DamagedFile`."""
        path = self.path / "test_labels.npy"
        data = checked_bytes(path, self.config.get("files", {}).get(path.name), _AGAIN)
        try:
            return np.load(io.BytesIO(data), allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise DamagedFile(path, f"cannot be read ({error})", _AGAIN) from None

    @property
    def splits(self) -> dict[str, Any]:
        """The ids of its parts, and of every draw by its name (`k4-s1`). Raises `DamagedFile`."""
        path = self.path / "splits.json"
        try:
            return read_record(path, _AGAIN, required=self.checked)
        except OSError as error:
            raise DamagedFile(path, f"cannot be read ({error.strerror})", _AGAIN) from None

    @property
    def cells(self) -> list[CellResult]:
        """The finished cells, in a fixed order. Raises `DamagedFile` for a record that is damaged."""
        return [self._read(path) for path in self._records()]

    def _records(self) -> list[Path]:
        return sorted((self.path / "cells").glob("*.json"))

    def _read(self, path: Path) -> CellResult:
        try:
            values = read_record(path, remedy(path), required=self.checked)
            found = CellResult.from_json(values, self.path, path.stem)
        except (KeyError, TypeError, AttributeError, OSError) as error:
            raise DamagedFile(path, f"is damaged ({error})", remedy(path)) from None
        if self.checked and (found.run != self.digest or found.stem is not None):
            raise DamagedFile(path, "is the record of another run or cell", remedy(path))
        return found

    def inspect(self, *, thorough: bool) -> Inspection:
        """Which cells are whole: their records sound and their files there.

        Args:
            thorough: whether the content of every file is compared with its checksum, too.
        """
        found = Inspection()
        with ThreadPoolExecutor(4) as pool:  # hashing leaves the interpreter to others
            for path, answer in pool.map(
                lambda path: (path, self._looked_at(path, thorough)), self._records()
            ):
                if isinstance(answer, CellResult):
                    found.whole.append(answer)
                elif isinstance(answer, _GoneFile):
                    found.gone[path] = answer
                else:
                    found.damaged[path] = answer
        return found

    def _looked_at(self, path: Path, thorough: bool) -> CellResult | DamagedFile:
        try:
            result = self._read(path)
        except DamagedFile as error:
            return error
        files: dict[str, FileSum | None] = {**result.files}
        if not files:  # version 0.1
            files[result.predictions_path.relative_to(self.path).as_posix()] = None
        for name, expected in files.items():
            file = self.path / name
            try:
                size = file.stat().st_size
                whole = not thorough or expected is None or path_sum(file)["sha256"] == expected["sha256"]
            except OSError:
                if expected is not None and expected.get("optional"):
                    continue
                return _GoneFile(file, "is gone", result.remedy)
            if expected is not None and size != expected["bytes"]:
                why = f"is damaged (it has {size} bytes, and {expected['bytes']} were written)"
                return DamagedFile(file, why, result.remedy)
            if not whole:
                return DamagedFile(file, "is damaged (it does not match its checksum)", result.remedy)
        return result

    def finished(self) -> set[str]:
        """Keys of the finished cells: those whose record is sound and whose files are there."""
        return {result.cell.key for result in self.inspect(thorough=False).whole}

    def write_tables(self) -> None:
        """Write `results.csv` (one row per model) and `metrics.jsonl` (one line per evaluation).

        Files that are as they should be are left alone.
        """
        cells = self.cells
        tables = {"results.csv": results_table(cells), "metrics.jsonl": metrics_lines(cells)}
        write_changed({self.path / name: text.encode() for name, text in tables.items()})

    def settle_tables(self, say: Callable[[str], None]) -> None:
        """Write tables that a killed command did not; a run that cannot be written stays as it is."""
        try:
            self.write_tables()
        except OSError as error:
            say(f"{self.path} cannot be written ({error.strerror}): its results.csv lacks cells that it has")


class _GoneFile(DamagedFile):
    """A file of a cell that is not there."""


def load_run(path: Path | str) -> Run:
    """Open the run in a folder. Raises `InputError` where there is none."""
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"{path} does not exist; `uml train` makes a run")
    return Run(path)


def find_runs(runs: Path | str, damaged: list[DamagedFile] | None = None) -> list[Run]:
    """All runs below a folder, oldest first; a run folder itself counts as one.

    Args:
        damaged: takes what is wrong with runs that cannot be read; None: the first of these is raised.

    Raises:
        DamagedFile: a run cannot be read, and `damaged` is None.
    """
    runs = Path(runs)
    if (runs / _CONFIG).is_file():
        return [Run(runs)]
    found = []
    for config in sorted(runs.glob(f"*/{_CONFIG}")) if runs.is_dir() else []:
        try:
            found.append(Run(config.parent))
        except DamagedFile as error:
            if damaged is None:
                remedy = f"{_AGAIN}, or name the folder of another run"
                raise DamagedFile(error.path, error.why, remedy) from None
            damaged.append(error)
    return sorted(found, key=lambda run: (run.created, run.path.name))


def newest_run(runs: Path | str) -> Run:
    """The run that was begun last. Raises `InputError` where the folder holds none."""
    found = find_runs(runs)
    if not found:
        state = "holds no run" if Path(runs).is_dir() else "does not exist"
        raise InputError(f"{runs} {state}; make one with `uml train --cache ./feats --out {runs}`")
    return found[-1]


def missing_cells(wanted: Iterable[Cell], run: Run) -> list[Cell]:
    """Those of the cells that the run has not finished, in the order given. Raises `DamagedFile`."""
    found = run.inspect(thorough=False)
    for error in found.damaged.values():
        raise error
    finished = {result.cell for result in found.whole}
    return [cell for cell in wanted if cell not in finished]
