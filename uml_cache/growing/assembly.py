"""Putting a new state of a store together from the state before and an increment: nothing is encoded.

Shapes: N rows of the new state, n rows of one task, D features, T tokens of one task.

Shards of tasks whose rows stay are linked (on object storage copied there), so that an append costs what is
new. Other tasks are read from where their rows are, and written as any task is. A state that was begun and
not finished is gone on with: what its journal lists stays.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from uml_cache.files.disk import make_folder, sync_folder, whole_file
from uml_cache.reading.features import FeatureSet
from uml_cache.remote import RemotePath, is_remote
from uml_cache.store import journal
from uml_cache.store.feature_store import FeatureStore
from uml_cache.store.plans.layout import FLAGGED, ShardedArray
from uml_cache.store.plans.plan import StorePlan
from uml_cache.store.plans.planning import create_or_resume, recorded_plan
from uml_cache.store.removal import remove_store
from uml_cache.store.shards import ShardWriter

_STATUS = "status"


@dataclass(frozen=True, eq=False)
class Origin:
    """Where the rows of a new state come from.

    Args:
        old: the state before, open.
        increment: a store with what is new, open; None where nothing is.
        old_rows: (N,) int64, each row's place in `old`, or −1.
        new_rows: (N,) int64, each row's place in `increment`, or −1. One of both is set.
        flags: (N,) uint8, the status that replaces that of an old row; 0 leaves it.
    """

    old: FeatureSet
    increment: FeatureSet | None
    old_rows: np.ndarray
    new_rows: np.ndarray
    flags: np.ndarray

    def status(self, rows: range) -> np.ndarray:
        """(n,) uint8, of rows of the new state."""
        part = slice(rows.start, rows.stop)
        found = self._column(part, lambda store, at: store.status[at], np.zeros(len(rows), np.uint8))
        return np.where(self.flags[part] != 0, self.flags[part], found)

    def pooled(self, rows: range) -> np.ndarray | None:
        """(n, D) in the stored dtype; None where the store has none."""
        dim = self.old.info.dim
        if dim is None:
            return None
        out = np.empty((len(rows), dim), _dtype(self.old.source.dtype))
        return self._column(slice(rows.start, rows.stop), _pooled, out)

    def tokens(self, rows: range, counts: np.ndarray) -> np.ndarray | None:
        """(T, D) in the stored dtype; None where the store has none. `counts` (n,) int32 as planned."""
        if self.old.info.token_dim is None:
            return None
        ends = np.cumsum(counts, dtype=np.int64)
        out = np.zeros((int(ends[-1]), self.old.tokens.dim), _dtype(self.old.tokens.dtype))
        part = slice(rows.start, rows.stop)
        for store, places in self._stores(part):
            here = np.flatnonzero(places >= 0)
            if not here.size:
                continue
            values, offsets = store.tokens.packed(places[here])
            for at, first, last in zip(here, offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
                out[ends[at] - counts[at] : ends[at]] = values[first:last].numpy()
        return out

    def reasons(self) -> dict[int, str]:
        """Of rows of the new state that could not be read: why."""
        found: dict[int, str] = {}
        for store, places in self._stores(slice(None)):
            here = {int(place): row for row, place in enumerate(places) if place >= 0}
            found |= {here[f.row]: f.reason for f in store.info.failed() if f.row in here}
        return found

    def _stores(self, part: slice) -> Iterator[tuple[FeatureSet, np.ndarray]]:
        yield self.old, self.old_rows[part]
        if self.increment is not None:
            yield self.increment, self.new_rows[part]

    def _column(
        self, part: slice, read: Callable[[FeatureSet, np.ndarray], np.ndarray], out: np.ndarray
    ) -> np.ndarray:
        for store, places in self._stores(part):
            here = places >= 0
            if here.any():
                out[here] = read(store, places[here])
        return out


def assemble(path: Path, plan: StorePlan, origin: Origin) -> FeatureStore:
    """Make the state at `path`, or finish it; what another growth has begun there is removed first.

    Raises:
        InputError: another process is making it.
    """
    there = recorded_plan(path)
    if there is not None and there != plan.fields:
        remove_store(path)
    store = create_or_resume(path, plan)
    with store.lock():
        pending = store.pending()
        same = [task for task in pending if _same_rows(store, task, origin)]
        if same and not is_remote(path):
            _link(store, same, origin)
        elif same:
            _copy(store, same, origin)
        reasons = origin.reasons()
        for task in store.pending():
            rows = store.rows_of(task)
            counts = plan.token_counts
            of_task = np.zeros(0, np.int32) if counts is None else counts[rows.start : rows.stop]
            store.write_task(
                task, origin.pooled(rows), origin.tokens(rows, of_task), origin.status(rows), reasons, 0.0
            )
    return store


def _same_rows(store: FeatureStore, task: int, origin: Origin) -> bool:
    """Whether the shards of features of `task` are those of the same task of the state before."""
    rows, old = store.rows_of(task), origin.old.info
    places = origin.old_rows[rows.start : rows.stop]
    if not np.array_equal(places, np.arange(rows.start, rows.stop)):
        return False
    before = journal.read_record(old.path / journal.PLAN)
    mine = {array.name: array for array in store.plan.layout.arrays}
    if min(rows.start + mine[_STATUS].shard_rows, before["rows"]) != rows.stop:
        return False  # the task was not full, and has more rows now
    sizes = {
        name: origin.old.info.arrays[name]["chunk_grid"]["configuration"]["chunk_shape"][0] for name in mine
    }
    return all(sizes[name] == array.shard_rows for name, array in mine.items())


def _record(store: FeatureStore, task: int, origin: Origin, files: list[dict[str, Any]]) -> dict[str, Any]:
    old = journal.read_record(origin.old.path / journal.JOURNAL / f"{task}.json")
    flagged = origin.flags
    return {
        "task": task,
        "fingerprint": store.plan.stamp,
        "first_row": old["first_row"],
        "rows": old["rows"],
        "seconds": old["seconds"],
        "failed": [sample for sample in old["failed"] if not flagged[sample["row"]]],
        "files": files,
    }


def _arrays(store: FeatureStore, task: int, origin: Origin) -> tuple[list[ShardedArray], np.ndarray | None]:
    """The arrays whose shards of `task` stay as they are, and its status (n,) uint8 where that does not."""
    rows = store.rows_of(task)
    changed = bool(origin.flags[rows.start : rows.stop].any())
    stay = [array for array in store.plan.layout.arrays if not (changed and array.name == _STATUS)]
    return stay, origin.status(rows) if changed else None


def _link(store: FeatureStore, tasks: list[int], origin: Origin) -> None:
    """Links first, then the folders, then the records: what a record speaks of is on the disk before it."""
    old = origin.old.path
    found: dict[int, list[dict[str, Any]]] = {}
    for task in tasks:
        entries = {e["path"]: e for e in journal.read_record(old / journal.JOURNAL / f"{task}.json")["files"]}
        stay, status = _arrays(store, task, origin)
        found[task] = []
        for array in stay:
            name = array.shard_path(task)
            make_folder((store.path / name).parent)
            _hard_link(old / name, store.path / name)
            found[task].append(entries[name])
        if status is not None:
            found[task].append(_write_status(store, task, status))
    for folder in {(store.path / e["path"]).parent for files in found.values() for e in files}:
        sync_folder(folder)
        sync_folder(folder.parent)
    for task, files in found.items():
        journal.write_record(store.path, str(task), _record(store, task, origin, files))


def _hard_link(source: Path, target: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        target.unlink()
    try:
        os.link(source, target)
    except OSError:  # other file systems, and some network ones, have none
        with open(source, "rb") as data, whole_file(target) as stream:
            while block := data.read(1 << 22):
                stream.write(block)


def _write_status(store: FeatureStore, task: int, status: np.ndarray) -> dict[str, Any]:
    array = next(a for a in store.plan.layout.arrays if a.name == _STATUS)
    name = array.shard_path(task)
    with whole_file(store.path / name) as stream:
        writer = ShardWriter(stream, array)
        try:
            writer.write(status)
            return {"path": name, **writer.finish(), "bytes": writer.size}
        finally:
            writer.close()


def _copy(store: FeatureStore, tasks: list[int], origin: Origin) -> None:
    """Object storage: the storage copies; tasks with new flags are read and written as others are."""
    old = cast(RemotePath, origin.old.path)
    for task in tasks:
        stay, status = _arrays(store, task, origin)
        if status is not None:
            continue
        record = journal.read_record(cast(Path, old / journal.JOURNAL / f"{task}.json"))
        for array in stay:
            (old / array.shard_path(task)).copy(cast(RemotePath, store.path) / array.shard_path(task))
        place = cast(RemotePath, store.path) / journal.JOURNAL / f"{task}.json"
        place.create(journal.record_bytes(_record(store, task, origin, record["files"])))


def _pooled(store: FeatureSet, rows: np.ndarray) -> np.ndarray:
    out = torch.empty((len(rows), store.source.shape[1]), dtype=store.source.dtype)
    store.source.read(torch.from_numpy(rows), out)
    return out.numpy()


def _dtype(dtype: torch.dtype) -> np.dtype:
    return torch.empty(0, dtype=dtype).numpy().dtype


def flagged_rows(status: np.ndarray) -> np.ndarray:
    """(N,) bool: rows that this state has no use for, from status (N,) uint8."""
    return np.isin(status, FLAGGED)
