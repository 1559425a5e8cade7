"""Writing the finished cells of a run: what a record speaks of is on the disk before the record is.

Cells are written in groups, because the disk takes a group of files in the time of a few. A group goes in two
steps: heads and predictions with the names of their folders, then the records with theirs. So a record
whose files are missing cannot survive a power cut, and a killed run lacks at most the last group.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import numpy as np

from uml_cache import write_together
from uml_train.record.checksums import file_sum, record_bytes
from uml_train.record.scores import Answers
from uml_train.run import CellResult, Run

WRITING = 0.02  # of a run's time is what writing may take
_LONGEST = 10.0  # seconds that a finished cell waits at most
_CELLS = 256
_BYTES = 64_000_000


@dataclass(frozen=True, eq=False)
class Finished:
    """A cell as it is to be written: its result, what it says of the test rows and the bytes of its head.

    `head` is None for a classifier that is no head. `at_once`: whoever gave it waits until it is on the disk.
    """

    result: CellResult
    answers: Answers
    head: bytes | None
    at_once: bool = False


class Keeper:
    """Takes finished cells and writes them, some together. Use it as a context: what waits is written at the
    end, also where an error ends it.

    Args:
        unchanged: called before a group is written; it raises where the stores are no longer what the cells
            were trained on, and the group is dropped.
    """

    def __init__(self, run: Run, unchanged: Callable[[], None] = lambda: None) -> None:
        self._run, self._unchanged = run, unchanged
        self._waiting: list[Finished] = []
        self._bytes, self._due = 0, 0.0

    def __enter__(self) -> Keeper:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.flush()

    def keep(self, finished: Finished) -> None:
        """Take a cell; it is written now or within some seconds."""
        self._waiting.append(finished)
        self._bytes += len(finished.head or b"") + finished.answers.nbytes
        many = len(self._waiting) >= _CELLS or self._bytes >= _BYTES
        if finished.at_once or many or time.monotonic() >= self._due:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        if not waiting:
            return
        began = time.monotonic()
        self._unchanged()
        data: dict[Path, bytes] = {}
        records: dict[Path, bytes] = {}
        for one in waiting:
            files = {one.result.predictions_path: array_bytes(one.answers.predictions)}
            if one.head is not None:
                files[one.result.head_path] = one.head
            sums = {
                path.relative_to(self._run.path).as_posix(): file_sum(content)
                for path, content in files.items()
            }
            if one.answers.scores is not None:
                content = array_bytes(one.answers.scores)
                data[one.result.scores_path] = content
                name = one.result.scores_path.relative_to(self._run.path).as_posix()
                sums[name] = {**file_sum(content), "optional": True}
            result = replace(one.result, files={**one.result.files, **sums}, run=self._run.digest)
            data |= files
            records[result.record_path] = record_bytes(result.to_json())
        write_together(data, records)
        ended = time.monotonic()
        self._due = ended + min((ended - began) / WRITING, _LONGEST)


def array_bytes(values: np.ndarray) -> bytes:
    """The bytes of an `.npy` file of an array of any shape and dtype."""
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()
