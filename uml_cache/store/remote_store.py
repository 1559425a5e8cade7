"""Writing a store on object storage: the files, records and checks are those of a store on a disk.

Shapes: n samples of one task, D features, T tokens of one task.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

import numpy as np

from uml_cache.errors import InputError
from uml_cache.files.documents import parse_json
from uml_cache.remote import RemotePath, publish
from uml_cache.store import journal
from uml_cache.store.checking import Memory, checksums
from uml_cache.store.feature_store import FeatureStore, Files
from uml_cache.store.plans.layout import ShardedArray
from uml_cache.store.plans.plan import StorePlan
from uml_cache.store.plans.planned import planned_contents
from uml_cache.store.shards import ShardWriter


class RemoteFeatureStore(FeatureStore):
    """A store on object storage that is being filled, by any number of workers at once."""

    @contextlib.contextmanager
    def lock(self, group: str | None = None) -> Iterator[None]:
        """Nothing to hold: what one worker has created no other replaces."""
        yield

    def unseal(self, tasks: Iterable[int]) -> None:
        """Make `tasks` pending again: their shards go first, then their records.

        Who dies in between leaves a record without its shards, which counts as none; never shards without a
        record, which the next would take for what it is about to make.
        """
        store = cast(RemotePath, self.path)
        for task in tasks:
            self._remove_shards(task)
            (store / _begun(task)).unlink()
            (store / journal.JOURNAL / f"{task}.json").unlink()

    def damaged(self, tasks: Iterable[int]) -> list[int]:
        """Those of the finished `tasks` whose objects were found damaged when they were last read here.

        To read every object would cost as much as to train; training and `uml cache verify` do read them, and
        keep in mind what they find.
        """
        memory = Memory(self.path)
        place = cast(RemotePath, self.path) / journal.JOURNAL
        records = {task: journal.read_record(cast(Any, place) / f"{task}.json") for task in tasks}
        return [task for task, record in sorted(records.items()) if memory.known_damage(record["files"])]

    def _remove_shards(self, task: int) -> None:
        for array in self._layout.arrays:
            (cast(RemotePath, self.path) / array.shard_path(task)).unlink()

    def _begin(self, task: int, sources: Any) -> bool:
        """Say that `task` is being made, and of which files; whether it is still to be made.

        Shards that are there count as this task's only if whoever created them said so, and made them of the
        same files: what a worker that died has left of other files is removed.
        """
        store = cast(RemotePath, self.path)
        begun, mine = store / _begun(task), journal.record_bytes({"task": task, "sources": sources})
        created = begun.create(mine)
        if (store / journal.JOURNAL / f"{task}.json").exists():
            if self._sound(task):
                if created:
                    begun.unlink()
                return False
            self.unseal([task])
            begun.create(mine)
        elif created or begun.read_bytes() != mine:
            self._remove_shards(task)
            begun.replace(mine)
        return True

    def _commit(
        self, task: int, ready: Mapping[ShardedArray, Iterable[np.ndarray]], record: Callable[[Files], Any]
    ) -> None:
        """Create what is not there yet.

        Shards that another worker created stay, and the record lists them as they are. Two workers that do
        not agree on which samples can be read end in a `WorkError`.
        """
        whole = {array: list(parts) for array, parts in ready.items()}  # all checked before any is created
        store = cast(RemotePath, self.path)
        if not self._begin(task, record([]).get("sources")):
            return
        files = []
        # Status first: who disagrees about it must not mix its features with the other's.
        for array, values in sorted(whole.items(), key=lambda item: item[0].name != "status"):
            stream = io.BytesIO()
            writer = ShardWriter(stream, array)
            for part in values:
                writer.write(part)
            writer.finish()
            name = array.shard_path(task)
            data = publish(store / name, stream.getvalue(), same=array.name == "status")
            files.append({"path": name, **checksums(data), "bytes": len(data)})
        (store / journal.JOURNAL / f"{task}.json").create(journal.record_bytes(record(files)))
        (store / _begun(task)).unlink()


def create_or_resume_remote(path: RemotePath, plan: StorePlan) -> None:
    """Create what planning writes, object by object, the plan's record last; what is there stays.

    The root's metadata comes first: of two workers with different settings only one gets past it.

    Raises:
        InputError: a store of other settings is there.
    """
    files = []
    for name, data in planned_contents(plan).items():
        there = publish(path / name, data, same=name != "zarr.json")
        if name == "zarr.json" and _fingerprint(there) != plan.stamp:
            raise InputError(
                f"{path} was begun with other settings; give another --out, or delete what is there"
            )
        files.append({"path": name, **checksums(there), "bytes": len(there)})
    (path / journal.PLAN).create(journal.record_bytes(planned_record(plan, files)))


def replace_planned(path: RemotePath, plan: StorePlan) -> None:
    """Make lost or damaged objects of planning anew, and their record last."""
    files = []
    for name, data in planned_contents(plan).items():
        (path / name).replace(data)
        files.append({"path": name, **checksums(data), "bytes": len(data)})
    (path / journal.PLAN).replace(journal.record_bytes(planned_record(plan, files)))


def _begun(task: int) -> str:
    """Tells that a task is being made; no record, and gone when there is one."""
    return f"{journal.JOURNAL}/{task}.begun"


def _fingerprint(metadata: bytes) -> str | None:
    try:
        return parse_json(metadata)["attributes"]["fingerprint"]
    except (ValueError, KeyError, TypeError):
        return None


def planned_record(plan: StorePlan, files: list[dict[str, Any]]) -> dict[str, Any]:
    """What `journal/plan.json` says."""
    return {
        "fingerprint": plan.stamp,
        "fields": json.loads(json.dumps(plan.fields)),
        "rows": plan.layout.rows,
        "tasks": plan.layout.tasks,
        "files": files,
    }
