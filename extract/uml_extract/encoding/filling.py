"""One store that is being filled: the batches of the task in hand, and how many samples could not be read.

Shapes: n samples of a task, B of a batch, T tokens of a task, D features.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from uml_cache import FeatureStore, Progress, WorkError, failed_rows, record_names
from uml_extract.encoding.batching import batches, encode_batch
from uml_extract.sources import sources_digest
from uml_extract.spec import Encoder, SampleError, fitted

if TYPE_CHECKING:
    from uml_manifests import Manifest

_EXAMPLES = 3


def allowed_failures(max_errors: float, rows: int) -> int:
    """How many of `rows` samples may be unreadable: a whole number (int) as it is, or a share below 1."""
    return max_errors if isinstance(max_errors, int) else int(max_errors * rows)


class Filling:
    """Takes the prepared samples of some tasks, row by row, and gives each task when its last row is in.

    A task's features depend on the task alone, not on which tasks were done before or in which run: hence a
    store that was resumed is, on a CPU, the same bytes as one that was not.
    """

    def __init__(self, store: FeatureStore, manifest: Manifest, encoder: Encoder, max_errors: float) -> None:
        self.store = store
        self.encoder = fitted(encoder, manifest)
        self.batch_size = store.plan.batch_size
        self._manifest = manifest
        counts = store.plan.token_counts
        self._counts = None if counts is None else counts.astype(np.int64)
        self._allowed = allowed_failures(max_errors, len(manifest))
        self._counted: dict[int, list[str]] = {}  # unreadable samples of tasks that were done, or others do
        self._own: dict[int, list[str]] = {}  # those of the tasks computed here
        self._sources: dict[int, str | None] = {}  # of the tasks that are being read
        self._current: list[str] = []  # those of the task in hand
        self._ahead: set[int] = set()  # tasks of which a record, should there be one, does not count
        self._waiting: list[tuple[int, np.ndarray]] = []  # samples of the next batch
        self._filled: _Filled | None = None
        self._tasks: Iterator[int] = iter(())
        self._seconds = 0.0

    def expect(self, tasks: Sequence[int]) -> None:
        """From now on the rows of `tasks` come, in this order."""
        self._ahead = set(tasks)
        self._tasks = iter(tasks)
        self._recount()

    def note_files(self, task: int) -> None:
        """Note what the files of a task are like, before the first of them is read."""
        self._sources[task] = sources_digest(self._manifest, self.store.rows_of(task))

    def take(
        self, row: int, prepared: np.ndarray | SampleError, progress: Progress
    ) -> tuple[Any, ...] | None:
        """Take the next sample; with the last of a task, the arguments of `write_task`.

        `prepared` has any shape and dtype: what the encoder's `prepare` gave, or why it gave none.

        Raises:
            WorkError: more samples are unreadable than allowed.
        """
        started = time.monotonic()
        if self._filled is None:
            task = next(self._tasks)
            self._filled = _Filled(task, self.store.rows_of(task), self.encoder, self._counts)
        filled = self._filled
        if isinstance(prepared, SampleError):
            filled.fail(row, str(prepared))
            self._fail(row, str(prepared))
        else:
            self._waiting.append((row, prepared))
        last = row == filled.rows.stop - 1
        # Samples of different length are sorted by it, so that all of the task have to be there.
        if last or (len(self._waiting) == self.batch_size and not self.encoder.ragged):
            waiting, self._waiting = self._waiting, []
            for batch in batches(iter(waiting), self.batch_size, ragged=self.encoder.ragged):
                self._encode(batch, filled, progress)
        self.spent(time.monotonic() - started)
        return self._finish(filled, progress) if last else None

    def spent(self, seconds: float) -> None:
        """Count time for the task in hand, such as that of waiting for its samples."""
        self._seconds += seconds

    def _encode(self, batch: list[tuple[int, np.ndarray]], filled: _Filled, progress: Progress) -> None:
        encoded = encode_batch(
            self.encoder, [prepared for _, prepared in batch], tokens=self._counts is not None
        )
        filled.put([row for row, _ in batch], encoded.pooled, encoded.tokens, encoded.lengths)
        progress.update(len(batch))

    def _finish(self, filled: _Filled, progress: Progress) -> tuple[Any, ...]:
        """The arguments of `write_task`."""
        for row in filled.late:
            self._fail(row, filled.reasons[row])
        progress.update(len(filled.reasons) - len(filled.late))
        pooled = filled.pooled if self.encoder.spec.vocabulary is None else None
        features = pooled, filled.tokens, filled.status, filled.reasons
        seconds, self._seconds, self._filled = self._seconds, 0.0, None
        return filled.task, *features, seconds, self._sources.pop(filled.task)

    def count(self, task: int) -> None:
        """Count the unreadable samples of a task that `take` has given, and look at what others have done.

        Raises:
            WorkError: more samples are unreadable than allowed.
        """
        self._own[task], self._current = self._current, []
        self._recount()

    def _fail(self, row: int, reason: str) -> None:
        self._current.append(f"{self._manifest.ids[row]}: {reason}")
        self._judge()

    def _recount(self) -> None:
        """Count what is in the journal; other workers of the same extraction write there, too."""
        names = set(record_names(self.store.path)) - self._ahead
        self._counted = {task: found for task, found in self._counted.items() if task in names}
        new = dict.fromkeys(names - self._counted.keys())
        found: dict[int, list[str]] = {task: [] for task in new}
        for sample in failed_rows(self.store.path, new):
            found[sample.task].append(f"{sample.id}: {sample.reason}")
        self._counted.update(found)
        self._judge()

    def _judge(self) -> None:
        known = {**self._counted, **self._own}
        failed = sum(map(len, known.values())) + len(self._current)
        if failed > self._allowed:
            first = chain(*(known[task] for task in sorted(known)), self._current)
            raise WorkError(
                f"{failed} unreadable samples so far, --max-errors allows {self._allowed} of "
                f"{len(self._manifest)}; the first: {'; '.join(islice(first, _EXAMPLES))}. Fix or remove "
                "them, or raise --max-errors; finished tasks are kept"
            )


class _Filled:
    """The arrays of one task while batches fill them: pooled (n, D), tokens (T, D), status (n,)."""

    def __init__(self, task: int, rows: range, encoder: Encoder, counts: np.ndarray | None) -> None:
        spec = encoder.spec
        self.task, self.rows = task, rows
        self._first = rows.start
        self.pooled = np.zeros((len(rows), spec.width or 0), dtype=np.float32)
        self.status = np.zeros(len(rows), dtype=np.uint8)
        self.reasons: dict[int, str] = {}
        self.late: list[int] = []
        self.tokens: np.ndarray | None = None
        if counts is not None:
            self._counts = counts[rows.start : rows.stop]
            self._ends = np.cumsum(self._counts)
            kind = np.float32 if spec.vocabulary is None else np.int32
            self.tokens = np.zeros((int(self._ends[-1]), spec.token_width or 0), dtype=kind)

    def fail(self, row: int, reason: str) -> None:
        """The row keeps its place, with zeros."""
        self.status[row - self._first] = 1
        self.reasons[row] = reason

    def put(
        self, rows: list[int], pooled: np.ndarray, tokens: np.ndarray | None, lengths: np.ndarray | None
    ) -> None:
        """Take over one batch, wherever its rows lie in the task."""
        places = np.array(rows) - self._first
        self.pooled[places] = pooled
        if self.tokens is None or tokens is None or lengths is None:
            return
        at = 0
        for place, length in zip(places.tolist(), lengths.tolist(), strict=True):
            if length == self._counts[place]:
                end = self._ends[place]
                self.tokens[end - length : end] = tokens[at : at + length]
            else:
                row = place + self._first
                planned = self._counts[place]
                self.fail(
                    row,
                    f"{length} tokens where {planned} were planned: the file has changed, or its header "
                    "is wrong",
                )
                self.late.append(row)
                self.pooled[place] = 0
            at += length
