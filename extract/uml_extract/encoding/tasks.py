"""Working through tasks: read ahead, encode in batches that never cross tasks, commit.

Shapes: n samples of a task, B of a batch, T tokens of a task, D features.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from uml_cache import FeatureStore, Progress, WorkError, failed_rows, record_names
from uml_extract.encoding.batching import batches, encode_batch
from uml_extract.encoding.writer import task_writer
from uml_extract.readers import read_for
from uml_extract.readers.prefetch import Prepared, Reading
from uml_extract.sources import sources_digest
from uml_extract.spec import Encoder, SampleError, fitted

if TYPE_CHECKING:
    from uml_manifests import Manifest

_EXAMPLES = 3
_BATCHES_AHEAD = 3


class Extraction:
    """The work of one extraction: `run` computes tasks and commits them.

    A task's features depend on the task alone, not on which tasks were done before or in which run: hence a
    store that was resumed is, on a CPU, the same bytes as one that was not.
    """

    def __init__(
        self,
        store: FeatureStore,
        manifest: Manifest,
        encoder: Encoder,
        *,
        max_errors: float,
        readers: int = 0,
    ) -> None:
        self._store = store
        self._manifest = manifest
        self._encoder = fitted(encoder, manifest)
        self._batch_size = store.plan.batch_size
        ahead = 0 if manifest.modality == "text" else _BATCHES_AHEAD * self._batch_size
        self._reading = Reading(self._prepare, ahead, readers, len(manifest))
        counts = store.plan.token_counts
        self._counts = None if counts is None else counts.astype(np.int64)
        self._allowed = max_errors if isinstance(max_errors, int) else int(max_errors * len(manifest))
        self._counted: dict[int, list[str]] = {}  # unreadable samples of tasks that were done, or others do
        self._own: dict[int, list[str]] = {}  # those of the tasks computed here
        self._sources: dict[int, str | None] = {}  # of the tasks that are being read
        self._current: list[str] = []  # those of the task in hand
        self._ahead: set[int] = set()  # tasks of which a record, should there be one, does not count

    def run(self, tasks: Sequence[int], progress: Progress) -> None:
        """Compute and commit `tasks`. `WorkError` as soon as more samples are unreadable than allowed."""
        self._ahead = set(tasks)
        self._recount()
        samples = self._reading.read(chain.from_iterable(map(self._rows, tasks)))
        with task_writer(self._store) as write, contextlib.closing(samples):
            for task in tasks:
                write(self._compute(task, samples, progress))
                self._own[task], self._current = self._current, []
                self._recount()

    def close(self) -> None:
        """End the processes that read; a further `run` starts them anew."""
        self._reading.close()

    def _rows(self, task: int) -> range:
        """The rows to read; before the first is read it is noted what their files are like."""
        rows = self._store.rows_of(task)
        self._sources[task] = sources_digest(self._manifest, rows)
        return rows

    def _prepare(self, row: int) -> np.ndarray:
        return self._encoder.prepare(read_for(self._encoder, self._manifest, row))

    def _compute(
        self, task: int, samples: Iterator[tuple[int, Prepared]], progress: Progress
    ) -> tuple[Any, ...]:
        """The arguments of `write_task`."""
        started = time.monotonic()
        rows = self._store.rows_of(task)
        filled = _Filled(rows, self._encoder, self._counts)
        readable = self._readable(islice(samples, len(rows)), filled)
        for batch in batches(readable, self._batch_size, ragged=self._encoder.ragged):
            encoded = encode_batch(
                self._encoder, [prepared for _, prepared in batch], tokens=self._counts is not None
            )
            filled.put([row for row, _ in batch], encoded.pooled, encoded.tokens, encoded.lengths)
            progress.update(len(batch))
        for row in filled.late:
            self._fail(row, filled.reasons[row])
        progress.update(len(filled.reasons) - len(filled.late))
        seconds = time.monotonic() - started
        pooled = filled.pooled if self._encoder.spec.vocabulary is None else None
        features = pooled, filled.tokens, filled.status, filled.reasons
        return task, *features, seconds, self._sources.pop(task)

    def _readable(
        self, samples: Iterator[tuple[int, Prepared]], filled: _Filled
    ) -> Iterator[tuple[int, np.ndarray]]:
        for row, prepared in samples:
            if isinstance(prepared, SampleError):
                filled.fail(row, str(prepared))
                self._fail(row, str(prepared))
            else:
                yield row, prepared

    def _fail(self, row: int, reason: str) -> None:
        self._current.append(f"{self._manifest.ids[row]}: {reason}")
        self._judge()

    def _recount(self) -> None:
        """Count what is in the journal; other workers of the same extraction write there, too."""
        names = set(record_names(self._store.path)) - self._ahead
        self._counted = {task: found for task, found in self._counted.items() if task in names}
        new = dict.fromkeys(names - self._counted.keys())
        found: dict[int, list[str]] = {task: [] for task in new}
        for sample in failed_rows(self._store.path, new):
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

    def __init__(self, rows: range, encoder: Encoder, counts: np.ndarray | None) -> None:
        spec = encoder.spec
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
