"""One pass over a data set fills the stores of any number of encoders: who does what, what was done."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from uml_cache import FeatureStore, Output
from uml_extract.encoding.tasks import Extraction, unit_size, units_of
from uml_extract.executors import Executor
from uml_extract.executors.worker import Job, Recipe, Target
from uml_extract.readers.prefetch import readers_for
from uml_extract.sources import changed_tasks, mended_tasks, need_files
from uml_extract.spec import Encoder

if TYPE_CHECKING:
    from uml_cache import FailedRow
    from uml_extract.growing.grew import Grew
    from uml_manifests import Manifest


@dataclass(frozen=True)
class Extracted:
    """What an extraction did. `rows` of the store, `failed` of them unreadable; `resumed_tasks` were there.

    `rows_per_second` counts the rows of this run alone. `unreadable` are the failed rows with their reasons.
    `grew` says what was added to a store that was finished before; None for one that was filled.
    """

    store: Path
    rows: int
    failed: int
    tasks: int
    resumed_tasks: int
    seconds: float
    rows_per_second: float
    unreadable: tuple[FailedRow, ...] = ()
    grew: Grew | None = None

    def to_json(self) -> dict[str, Any]:
        """The answer of `uml extract --json`."""
        return {
            "store": str(self.store),
            "rows": self.rows,
            "failed": self.failed,
            "tasks": self.tasks,
            "resumed_tasks": self.resumed_tasks,
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(self.rows_per_second, 1),
            **({} if self.grew is None else self.grew.to_json()),
        }


@dataclass(frozen=True)
class Part:
    """One encoder of a pass and the store that it fills. `recipe`: how other processes load it."""

    store: FeatureStore
    encoder: Encoder
    recipe: Recipe | None


def fill_stores(
    manifest: Manifest,
    parts: Sequence[Part],
    who: Executor,
    *,
    max_errors: float,
    decode_workers: int | Literal["auto"],
    retry_failed: bool,
    check_sources: bool,
    output: Output,
) -> list[Extracted]:
    """Do what the stores lack, in one pass; what was done for each, in the order of `parts`.

    Raises:
        InputError: another run holds one of the stores; files are gone that are to be read again.
        WorkError: more unreadable samples than allowed, or values that do not fit a store's dtype.
    """
    stores = [part.store for part in parts]
    device = next((store.plan.device for store in stores if store.plan.device != "cpu"), "cpu")
    group = who.join(device)
    readers = readers_for(manifest, decode_workers, who.beside)
    extraction = Extraction(
        stores, manifest, [part.encoder for part in parts], max_errors=max_errors, readers=readers
    )
    with contextlib.ExitStack() as held:
        for store in stores:
            held.enter_context(store.lock(group))
        held.enter_context(contextlib.closing(extraction))
        again = [_again(part, manifest, stores, who, retry_failed, check_sources, output) for part in parts]
        for store, tasks in zip(stores, again, strict=True):
            need_files(store, manifest, sorted(tasks))
        for store, tasks in zip(stores, again, strict=True):
            store.unseal(tasks)
        return _worked(manifest, parts, who, extraction, max_errors, group, readers, output)


def _share(
    who: Executor, store: FeatureStore, stores: Sequence[FeatureStore], tasks: Sequence[int]
) -> list[int]:
    """Those of a store's tasks that fall to this executor: whole units do, so that a file has one reader."""
    size = unit_size(stores)
    unit = {task: store.rows_of(task).start // size for task in tasks}
    mine = set(who.share(sorted(set(unit.values()))))
    return [task for task in tasks if unit[task] in mine]


def _again(
    part: Part,
    manifest: Manifest,
    stores: Sequence[FeatureStore],
    who: Executor,
    retry_failed: bool,
    check_sources: bool,
    output: Output,
) -> set[int]:
    """The finished tasks of a store that have to be done again."""
    store = part.store
    again = set(store.damaged(_share(who, store, stores, sorted(store.done()))))
    if retry_failed:
        again.update(_share(who, store, stores, mended_tasks(store, manifest, part.encoder)))
    if check_sources:
        changed = _share(who, store, stores, changed_tasks(store, manifest))
        again.update(changed)
        output.say(f"files have changed in {len(changed)} of {store.tasks} tasks since they were done")
    return again


def _worked(
    manifest: Manifest,
    parts: Sequence[Part],
    who: Executor,
    extraction: Extraction,
    max_errors: float,
    group: str | None,
    readers: int,
    output: Output,
) -> list[Extracted]:
    """Work through the tasks that the stores lack, each executor through its share."""
    stores = [part.store for part in parts]
    pending = [store.pending() for store in stores]
    mine = [_share(who, store, stores, tasks) for store, tasks in zip(stores, pending, strict=True)]
    for store, tasks in zip(stores, mine, strict=True):
        store.unseal(tasks)  # a task whose files are damaged still has its record
    units = units_of(stores, mine)
    targets = tuple(Target(part.store.path, part.store.plan, part.recipe) for part in parts)
    job = Job(targets, manifest, max_errors, group, units, readers)
    missing = sum(map(_rows, stores, pending))
    rows = len(manifest) * len(parts)
    names = ", ".join(str(store.plan.encoder["name"]) for store in stores)
    started = time.monotonic()
    with output.progress(rows, " samples", names, rows - missing) as progress:
        who.run(
            lambda some: extraction.run({unit: units[unit] for unit in some}, progress),
            job,
            list(units),
            progress,
        )
    seconds = time.monotonic() - started
    return [
        _extracted(part, len(manifest), lacked, own, seconds)
        for part, lacked, own in zip(parts, pending, mine, strict=True)
    ]


def _extracted(
    part: Part, rows: int, pending: Sequence[int], mine: Sequence[int], seconds: float
) -> Extracted:
    store = part.store
    unreadable = tuple(store.failed())
    done = _rows(store, mine)
    return Extracted(
        store=store.path,
        rows=rows,
        failed=len(unreadable),
        tasks=store.tasks,
        resumed_tasks=store.tasks - len(pending),
        seconds=seconds,
        rows_per_second=done / seconds if done else 0.0,
        unreadable=unreadable,
    )


def _rows(store: FeatureStore, tasks: Sequence[int]) -> int:
    return sum(len(store.rows_of(task)) for task in tasks)
