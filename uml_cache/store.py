"""Writing a feature store: planned once, filled task by task, sealed when every task is in the journal.

Shapes: N samples, n samples of one task, D features, T tokens of one task.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from uml_cache import journal
from uml_cache.errors import InputError, WorkError
from uml_cache.layout import ShardedArray
from uml_cache.plan import StorePlan, differences, store_path
from uml_cache.planned import planned_contents
from uml_cache.remote import as_path, is_remote
from uml_cache.shards import ShardWriter

__all__ = ["FeatureStore", "StorePlan", "create_or_resume", "recorded_plan", "store_path"]

_DRAFT_SECONDS = 60  # a younger draft may belong to a run that has not taken its lock yet


class FeatureStore:
    """A store that is being filled. Made by `create_or_resume`."""

    def __init__(self, path: Path, plan: StorePlan) -> None:
        self.path = path
        self.plan = plan
        self._layout = plan.layout

    @property
    def fingerprint(self) -> str:
        """sha256 over everything that decides the stored values."""
        return self.plan.fingerprint

    @property
    def tasks(self) -> int:
        """Number of tasks."""
        return self._layout.tasks

    def rows_of(self, task: int) -> range:
        """The rows that `task` fills."""
        if not 0 <= task < self.tasks:
            raise IndexError(f"task {task} of a store with {self.tasks}")
        first = task * self._layout.task_rows
        return range(first, min(first + self._layout.task_rows, self._layout.rows))

    def done(self) -> set[int]:
        """Tasks whose record is sound and whose files are all there, in their size."""
        return {task for task in journal.record_names(self.path) if task < self.tasks and self._sound(task)}

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

    def unseal(self, tasks: Iterable[int]) -> None:
        """Make `tasks` pending again: only for who holds the lock. With the first one the store is unsealed.

        Files stay until they are written anew; without a record they do not count.
        """
        for task in tasks:
            journal.remove_record(self.path, task)

    @contextlib.contextmanager
    def lock(self, group: str | None = None) -> Iterator[None]:
        """Hold the store as its only local writer, or as one of the writers of `group`.

        Clears away what a writer that died has left. The lock ends with the process. Writers of one group
        must not write the same task at once. Raises `InputError` when another run holds it.
        """
        with journal.writer_lock(self.path, group):
            yield

    def write_task(
        self,
        task: int,
        pooled: np.ndarray | None,
        token_values: np.ndarray | None,
        status: np.ndarray,
        reasons: Mapping[int, str],
        seconds: float,
    ) -> None:
        """Write one task's shards and, last, its journal record. Writing a task again replaces it.

        `pooled` (n, D) and `token_values` (T, D), T the sum of the task's planned token counts, are floating
        point; `status` (n,) uint8 is 0 where the sample was read. `reasons` maps the rows that failed (rows
        of the store, not of the task) to a sentence. Rows with a status are stored as zeros. Raises
        `WorkError` with the sample's id for a value that is not finite or too large for the stored dtype.
        """
        ready, failed = self._ready(task, pooled, token_values, status, reasons)
        journal.remove_record(self.path, task)
        with contextlib.ExitStack() as pending:  # all files are complete before the first gets its name
            files = []
            for array, values in ready.items():
                name = array.shard_path(task)
                stream: BinaryIO = pending.enter_context(journal.whole_file(self.path / name))
                writer = ShardWriter(stream, array)
                writer.write(values)
                checksum = writer.finish()
                files.append({"path": name, "sha256": checksum, "bytes": writer.size})
        journal.write_record(self.path, str(task), self._record(task, failed, seconds, files))

    def _ready(
        self,
        task: int,
        pooled: np.ndarray | None,
        token_values: np.ndarray | None,
        status: np.ndarray,
        reasons: Mapping[int, str],
    ) -> tuple[dict[ShardedArray, np.ndarray], list[dict[str, Any]]]:
        """What a task stores, by array, checked; and its failed rows."""
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
            if array.name != "status":
                owner = np.arange(len(rows))
                owner = np.repeat(owner, tokens_of_row) if array.name == "tokens/values" else owner
                values = self._stored(array.name, values, owner, status, rows)
            ready[array] = values
        extra = [name for name, values in given.items() if values is not None]
        if extra:
            raise ValueError(f"task {task}: the plan has no {extra[0]}")
        failed = [
            {"row": rows[at], "id": self.plan.ids[rows[at]], "reason": reasons.get(rows[at], "unreadable")}
            for at in np.flatnonzero(status).tolist()
        ]
        return ready, failed

    def _record(
        self, task: int, failed: list[dict[str, Any]], seconds: float, files: list[dict[str, Any]]
    ) -> dict[str, Any]:
        rows = self.rows_of(task)
        return {
            "task": task,
            "fingerprint": self.fingerprint,
            "first_row": rows.start,
            "rows": len(rows),
            "seconds": round(float(seconds), 6),
            "failed": failed,
            "files": files,
        }

    def _token_counts(self, rows: range) -> np.ndarray:
        counts = self.plan.token_counts
        return np.zeros(0, np.int64) if counts is None else counts[rows.start : rows.stop]

    def _stored(
        self, name: str, values: np.ndarray, owner: np.ndarray, status: np.ndarray, rows: range
    ) -> np.ndarray:
        """`values` in the stored dtype, zero where the sample failed, every other value finite."""
        with np.errstate(over="ignore"):
            stored = np.array(values, dtype=np.dtype(self.plan.dtype).newbyteorder("<"))
        stored[status[owner] != 0] = 0
        finite = np.isfinite(stored).all(axis=1)
        if finite.all():
            return stored
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
        if record["fingerprint"] != self.fingerprint:
            return False
        sizes = {entry["path"]: entry["bytes"] for entry in record["files"]}
        return all(_size(self.path / name) == size for name, size in sizes.items())


def create_or_resume(path: Path | str, plan: StorePlan) -> FeatureStore:
    """Plan the store at `path`, or go on with the one that is there.

    A new store appears at once and whole, with label, split, id (and group, tokens/start, tokens/length)
    written. Raises `InputError` when there is something else, or a store with another fingerprint; the
    message names the fields that differ.
    """
    path = as_path(path)
    there = recorded_plan(path)
    if there is None:
        if is_remote(path):
            from uml_cache.remote_store import create_or_resume_remote

            create_or_resume_remote(path, plan)  # type: ignore[arg-type]
        else:
            _create(path, plan)
        there = recorded_plan(path)
        assert there is not None
    if there != plan.fields:
        raise InputError(
            f"{path} was made with other settings ({'; '.join(differences(there, plan.fields))}): repeat the "
            "command with the settings of the store, give another --out, or delete the store to start anew"
        )
    if is_remote(path):
        return planned_store(path, plan)
    planned = journal.read_record(path / journal.PLAN)["files"]
    if any(_size(path / entry["path"]) != entry["bytes"] for entry in planned):
        _write_planned(path, plan)
    return FeatureStore(path, plan)


def planned_store(path: Path, plan: StorePlan) -> FeatureStore:
    """The store at `path`, planned already with `plan`, for a further worker to fill."""
    if is_remote(path):
        from uml_cache.remote_store import RemoteFeatureStore

        return RemoteFeatureStore(path, plan)
    return FeatureStore(path, plan)


def recorded_plan(path: Path | str) -> dict[str, Any] | None:
    """The fingerprint's fields (`batch_size`, `encoder`, …) of the store at `path`; None if there is none."""
    path = as_path(path)
    if not path.exists() or (is_remote(path) and not (path / journal.PLAN).exists()):
        return (
            None  # on object storage the plan's record is created last: without it the store is not there yet
        )
    try:
        return journal.read_record(path / journal.PLAN)["fields"]
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{path} exists and is no feature store of this project (it has no {journal.PLAN}); give another "
            "--out, or move it away"
        ) from None
    except journal.BrokenRecord:
        raise InputError(f"{path / journal.PLAN} is damaged: delete the store and extract again") from None


def _create(path: Path, plan: StorePlan) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    draft = path.parent / f".{path.name}.{uuid.uuid4().hex}.draft"
    try:
        (draft / journal.JOURNAL).mkdir(parents=True)
        with journal.writer_lock(draft):  # tells others that this draft has an author
            _write_planned(draft, plan)
            try:
                os.rename(draft, path)
            except OSError:
                if not path.exists():
                    raise
                shutil.rmtree(draft)  # another run was faster; its store is judged by the caller
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    journal.sync_folder(path.parent)


def _remove_abandoned(path: Path) -> None:
    for draft in path.parent.glob(f".{path.name}.*.draft"):
        with contextlib.suppress(InputError, FileNotFoundError):
            if time.time() - draft.stat().st_mtime < _DRAFT_SECONDS:
                continue
            with journal.writer_lock(draft):
                shutil.rmtree(draft, ignore_errors=True)


def _write_planned(store: Path, plan: StorePlan) -> None:
    layout = plan.layout
    for array in layout.arrays:
        (store / array.name / "c").mkdir(parents=True, exist_ok=True)
    contents = planned_contents(plan)
    files = []
    for name, data in contents.items():
        with journal.whole_file(store / name) as stream:
            stream.write(data)
        files.append({"path": name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)})
    record = {
        "fingerprint": plan.fingerprint,
        "fields": plan.fields,
        "rows": layout.rows,
        "tasks": layout.tasks,
        "files": files,
    }
    journal.write_record(store, "plan", record)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return -1
