"""Writing a feature store: filled task by task, sealed when every task is in the journal.

Shapes: N samples, n samples of one task, D features, T tokens of one task.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from uml_cache.errors import WorkError
from uml_cache.files.disk import whole_file
from uml_cache.store import journal
from uml_cache.store.checking import Memory
from uml_cache.store.identity import fingerprint, recorded
from uml_cache.store.locks import rewriting, writer_lock
from uml_cache.store.plans.layout import FLAGGED, ShardedArray
from uml_cache.store.plans.plan import StorePlan
from uml_cache.store.shards import ShardWriter

Files = list[dict[str, Any]]  # path in the store, sha256, crc32c and bytes of each

_PIECE_BYTES = 1 << 20


class FeatureStore:
    """A store that is being filled. Made by `create_or_resume`."""

    def __init__(self, path: Path, plan: StorePlan) -> None:
        self.path = path
        self.plan = plan
        self._layout = plan.layout

    @property
    def fingerprint(self) -> str:
        """sha256 over what the journal says is stored: see `uml_cache.identity`."""
        return fingerprint(recorded(self.path), self.plan.classes)

    @property
    def tasks(self) -> int:
        """Number of tasks."""
        return self._layout.tasks

    def rows_of(self, task: int) -> range:
        """The rows that `task` fills.

        Raises:
            IndexError: there is no such task.
        """
        if not 0 <= task < self.tasks:
            raise IndexError(f"there is no task {task}: the store has {self.tasks}")
        first = task * self._layout.task_rows
        return range(first, min(first + self._layout.task_rows, self._layout.rows))

    def done(self) -> set[int]:
        """Tasks whose record is sound and whose files are all there, in their size."""
        return {task for task in journal.record_names(self.path) if task < self.tasks and self._sound(task)}

    def damaged(self, tasks: Iterable[int]) -> list[int]:
        """Those of the finished `tasks` whose files are not what their records say, in order.

        What was sound when it was last read is not read again. Files of object storage are not read.
        """
        memory = Memory(self.path)
        records = {task: journal.read_record(self.path / journal.JOURNAL / f"{task}.json") for task in tasks}
        return [task for task, record in sorted(records.items()) if memory.unsound(record["files"])]

    def pending(self) -> list[int]:
        """Tasks that are still to be written, in order."""
        done = self.done()
        return [task for task in range(self.tasks) if task not in done]

    @property
    def sealed(self) -> bool:
        """Whether every task is in the journal."""
        return not self.pending()

    def failed(self) -> list[journal.FailedRow]:
        """The rows of finished tasks whose samples could not be read, with the reasons, in order."""
        return journal.failed_rows(self.path, self.done())

    def sources(self) -> dict[int, str]:
        """What finished tasks were made from: the digest that `write_task` was given, where it was."""
        records = {
            task: journal.read_record(self.path / journal.JOURNAL / f"{task}.json") for task in self.done()
        }
        return {task: record["sources"] for task, record in records.items() if "sources" in record}

    def unseal(self, tasks: Iterable[int]) -> None:
        """Make `tasks` pending again: only for who holds the lock. With the first one the store is unsealed.

        Files stay until they are written anew; without a record they do not count. Raises `InputError` while
        the store is open for reading: nothing is changed then.
        """
        there = set(journal.record_names(self.path)).intersection(tasks)
        if not there:
            return
        with rewriting(self.path):
            for task in sorted(there):
                journal.remove_record(self.path, task)

    @contextlib.contextmanager
    def lock(self, group: str | None = None) -> Iterator[None]:
        """Hold the store as its only local writer, or as one of the writers of `group`.

        Clears away what a writer that died has left. The lock ends with the process. Writers of one group
        must not write the same task at once. Raises `InputError` when another run holds it.
        """
        with writer_lock(self.path, group):
            yield

    def write_task(
        self,
        task: int,
        pooled: np.ndarray | None,
        token_values: np.ndarray | None,
        status: np.ndarray,
        reasons: Mapping[int, str],
        seconds: float,
        sources: str | None = None,
    ) -> None:
        """Write one task's shards and, last, its journal record. Writing a task again replaces it.

        `pooled` (n, D) and `token_values` (T, D), T the sum of the task's planned token counts, are floating
        point; `status` (n,) uint8 is 0 where the sample was read. `reasons` maps the rows that failed (rows
        of the store, not of the task) to a sentence. Rows with a status are stored as zeros. `sources` is any
        digest of what the task was made from, for `sources` to tell. `seconds` says how long it took, for the
        journal. Raises `WorkError` with the sample's id for a value that is not finite or too large for the
        stored dtype.
        """
        ready, failed = self._ready(task, pooled, token_values, status, reasons)
        self._commit(task, ready, lambda files: self._record(task, failed, seconds, files, sources))

    def _commit(
        self, task: int, ready: Mapping[ShardedArray, Iterable[np.ndarray]], record: Callable[[Files], Any]
    ) -> None:
        """Make the shards of `ready` and then `record` of them."""
        with contextlib.ExitStack() as pending:  # all files are complete before the first gets its name
            files = []
            for array, pieces in ready.items():
                name = array.shard_path(task)
                stream: BinaryIO = pending.enter_context(whole_file(self.path / name))
                writer = ShardWriter(stream, array)
                pending.callback(writer.close)
                for piece in pieces:
                    writer.write(piece)
                files.append({"path": name, **writer.finish(), "bytes": writer.size})
            journal.remove_record(self.path, task)
        journal.write_record(self.path, str(task), record(files))

    def _ready(
        self,
        task: int,
        pooled: np.ndarray | None,
        token_values: np.ndarray | None,
        status: np.ndarray,
        reasons: Mapping[int, str],
    ) -> tuple[dict[ShardedArray, Iterator[np.ndarray]], list[dict[str, Any]]]:
        """What a task stores, by array, in pieces that are checked as they are taken; and its failed rows."""
        rows = self.rows_of(task)
        status = np.asarray(status, dtype=np.uint8)
        given = {"pooled": pooled, "tokens/values": token_values, "status": status}
        tokens_of_row = self._token_counts(rows)
        expected = {"pooled": len(rows), "tokens/values": int(tokens_of_row.sum()), "status": len(rows)}
        ready = {}
        for array in self._layout.arrays:
            values = given.pop(array.name)
            shape = (expected[array.name], *array.shape[1:])
            if values is None or values.shape != shape:
                got = "nothing" if values is None else f"shape {values.shape}"
                raise ValueError(f"task {task}: {array.name} needs shape {shape}, got {got}")
            ready[array] = self._pieces(array, values, status, rows, tokens_of_row)
        extra = [name for name, values in given.items() if values is not None]
        if extra:
            raise ValueError(f"task {task}: the plan has no {extra[0]}")
        failed = [
            {"row": rows[at], "id": self.plan.ids[rows[at]], "reason": reasons.get(rows[at], "unreadable")}
            for at in np.flatnonzero((status != 0) & ~np.isin(status, FLAGGED)).tolist()
        ]
        return ready, failed

    def _record(
        self, task: int, failed: list[dict[str, Any]], seconds: float, files: Files, sources: str | None
    ) -> dict[str, Any]:
        rows = self.rows_of(task)
        return {
            "task": task,
            "fingerprint": self.plan.stamp,
            "first_row": rows.start,
            "rows": len(rows),
            "seconds": round(float(seconds), 6),
            **({} if sources is None else {"sources": sources}),
            "failed": failed,
            "files": files,
        }

    def _token_counts(self, rows: range) -> np.ndarray:
        counts = self.plan.token_counts
        return np.zeros(0, np.int64) if counts is None else counts[rows.start : rows.stop]

    def _pieces(
        self,
        array: ShardedArray,
        values: np.ndarray,
        status: np.ndarray,
        rows: range,
        tokens_of_row: np.ndarray,
    ) -> Iterator[np.ndarray]:
        """`values` in pieces that fit a processor's cache, checked and in the stored dtype."""
        if array.name == "status":
            yield values
            return
        owner = np.arange(len(rows))
        owner = np.repeat(owner, tokens_of_row) if array.name == "tokens/values" else owner
        step = max(1, _PIECE_BYTES // array.row_bytes)
        for at in range(0, len(values), step):
            part = slice(at, at + step)
            yield self._stored(array.name, values[part], owner[part], status, rows)

    def _stored(
        self, name: str, values: np.ndarray, owner: np.ndarray, status: np.ndarray, rows: range
    ) -> np.ndarray:
        """`values` in the stored dtype, zero where the sample failed, every other value finite."""
        stored = _converted(values, np.dtype(self.plan.dtype).newbyteorder("<"))
        if status.any():
            stored[status[owner] != 0] = 0
        if self.plan.vocabulary is not None:
            wrong = np.flatnonzero((stored < 0) | (stored >= self.plan.vocabulary))
            if wrong.size:
                sample = self.plan.ids[rows[owner[wrong[0]]]]
                raise WorkError(
                    f"sample {sample!r}: a token has the id {stored[wrong[0], 0]}, which is not among the "
                    f"{self.plan.vocabulary} of encoder {self.plan.encoder['name']}"
                )
            return stored
        if _all_finite(stored):
            return stored
        finite = np.isfinite(stored).all(axis=1)
        at = int(np.argmin(finite))
        sample = self.plan.ids[rows[owner[at]]]
        if np.isfinite(values[at]).all():
            largest = float(np.abs(values[at].astype(np.float64)).max())
            raise WorkError(
                f"sample {sample!r}: a {name} value of {largest:.4g} is too large for {self.plan.dtype}; "
                "extract again with `--dtype float32`"
            )
        raise WorkError(
            f"sample {sample!r}: the encoder gave a {name} value that is not finite; leave the sample out, "
            "or try `--dtype float32`, which computes and stores in full precision"
        )

    def _sound(self, task: int) -> bool:
        try:
            record = journal.read_record(self.path / journal.JOURNAL / f"{task}.json")
        except (journal.BrokenRecord, FileNotFoundError):
            return False
        if record["fingerprint"] != self.plan.stamp:
            return False
        sizes = {entry["path"]: entry["bytes"] for entry in record["files"]}
        return all(file_size(self.path / name) == size for name, size in sizes.items())


def _converted(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A copy in the stored dtype; what is too large becomes infinite."""
    torch = sys.modules.get("torch")  # rounds alike, five times as fast; not worth importing for it
    if torch and values.dtype == np.float32 and dtype == np.float16 and values.flags.writeable:
        return torch.from_numpy(values).half().numpy()
    with np.errstate(over="ignore"):
        return np.array(values, dtype=dtype)


def _all_finite(stored: np.ndarray) -> bool:
    if stored.dtype != np.float16:
        return bool(np.isfinite(stored).all())
    largest = (stored.view("<i2") & 0x7FFF).max(initial=0)  # numpy's isfinite computes halves one by one
    return bool(largest < 0x7C00)


def file_size(path: Path) -> int:
    """Bytes of a file; -1 if there is none."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return -1
