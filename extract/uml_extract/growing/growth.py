"""Adding a new state to a store whose data have grown or changed.

1. What is new, or may have changed, is extracted like any data set into a store of its own, the increment,
   below a hidden folder. It is gone on with after an interrupt, and shared among workers, as any store is.
2. The new state is put together from the state before and the increment. Nothing of the old state changes.

Shapes: N rows of the old state, M of the new one, n samples of the manifest, e of the increment.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uml_cache import (
    REMOVED,
    REPLACED,
    FeatureSet,
    Grown,
    InputError,
    Origin,
    Output,
    StoreInfo,
    StorePlan,
    WorkError,
    assemble,
    damaged_tasks,
    first_state,
    flagged_id,
    folder_lock,
    is_remote,
    open_features,
    read_stamps,
    remove_store,
    state_path,
    store_info,
    write_stamps,
)
from uml_extract.growing.changes import Changes, changes_of
from uml_extract.growing.grew import Grew
from uml_extract.origin import record_origin

if TYPE_CHECKING:
    from uml_manifests import Manifest

FOLDER = ".growing"
_NEAR = 2.0**-10  # of a row's largest value: one step of float16, as batches of other sizes leave them


@dataclass(frozen=True, eq=False)
class Growth:
    """A store's current state, and what has changed since."""

    info: StoreInfo
    plan: StorePlan  # of the manifest as it is, for a store made afresh
    manifest: Manifest
    changes: Changes
    prune: bool

    @property
    def increment(self) -> Path:
        """Where what is new is extracted to."""
        first = first_state(self.info.path)
        return first.parent / FOLDER / first.name

    @property
    def increment_plan(self) -> StorePlan:
        """The plan of the increment; only where there is something to encode."""
        rows = self.changes.to_encode
        part = self.manifest.some(rows)
        counts = self.plan.token_counts
        return replace(
            self.plan,
            manifest_digest=part.digest,
            ids=part.ids,
            labels=part.labels,
            splits=part.splits,
            groups=part.groups,
            samples=part.sample_keys,
            token_counts=None if counts is None else counts[rows],
        )


def growth_of(
    info: StoreInfo, plan: StorePlan, manifest: Manifest, *, prune: bool, retry_failed: bool, output: Output
) -> Growth:
    """Compare a sealed state with the data.

    Raises:
        InputError: the data are other data.
        WorkError: the state is damaged.
    """
    if bad := damaged_tasks(info):
        other = f"`uml cache rm {info.path}` goes back to the state before, or " if info.state > 1 else ""
        raise WorkError(
            f"{info.path} is damaged in task {bad[0]}: {other}`uml extract --overwrite` makes the store anew"
        )
    store = open_features(info.path)
    try:
        changes = changes_of(store, manifest, retry_failed=retry_failed)
        if not changes.known and len(changes.before) and store.info.stamp is not None:
            output.say(
                f"{info.path} does not say what its samples were made from: those with known ids count as "
                "unchanged"
            )
    finally:
        store.close()
    return Growth(info, plan, manifest, changes, prune)


def finish(growth: Growth) -> Grew | None:
    """Put the new state together; None while the increment is not finished, by other workers.

    Raises:
        InputError: another process is at it.
    """
    to_encode = len(growth.changes.to_encode)
    first = first_state(growth.info.path)
    held: Any = contextlib.nullcontext() if is_remote(first) else folder_lock(first.parent / FOLDER)
    with contextlib.ExitStack() as opened:
        opened.enter_context(held)
        increment = None
        if to_encode:
            if not growth.increment.exists():
                return _already(growth)
            if not store_info(growth.increment).sealed:
                return None
            increment = opened.enter_context(contextlib.closing(open_features(growth.increment)))
        old = opened.enter_context(contextlib.closing(open_features(growth.info.path)))
        rows = _Rows.of(growth, old, increment)
        grew = rows.counted(growth)
        target = growth.info.path
        if rows.differ(growth, old):
            plan = rows.plan(growth, old, increment)
            target = state_path(first, growth.info.state + 1)
            origin = Origin(old, increment, rows.old_rows, rows.new_rows, rows.flags)
            tasks = assemble(target, plan, origin).tasks
            grew = replace(grew, path=target, tasks=tasks)
            record_origin(target, growth.manifest)
        write_stamps(target, str(store_info(target).stamp), rows.stamps)
    if increment is not None:
        remove_store(growth.increment)
    if not is_remote(first):
        with contextlib.suppress(OSError):
            (first.parent / FOLDER).rmdir()
    return grew


def unfinished(growth: Growth) -> Grew:
    """A store whose increment other workers have not finished yet: it is as it was."""
    info = growth.info
    return Grew(info.path, info.rows, info.tasks)


def _already(growth: Growth) -> Grew:
    """Another worker has put the new state together while this one was waiting."""
    path = state_path(growth.info.path, growth.info.state + 1)
    info = store_info(path)
    return Grew(path, len(growth.manifest), info.tasks)


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows of the new state: those of the old one in their places, then what is new.

    `old_rows`, `new_rows` (M,) int64 and `flags` (M,) uint8 are those of `Origin`; `sample` (M,) int64 is the
    sample of the manifest that a row holds, or −1; `stamps` (M,) uint64.
    """

    old_rows: np.ndarray
    new_rows: np.ndarray
    flags: np.ndarray
    sample: np.ndarray
    stamps: np.ndarray
    before: int

    @classmethod
    def of(cls, growth: Growth, old: FeatureSet, increment: FeatureSet | None) -> _Rows:
        changes, count = growth.changes, len(old)
        before, chosen = changes.before, changes.to_encode
        fresh = before[chosen] < 0
        if increment is not None:
            again = np.flatnonzero(~fresh)
            fresh[again] = _differ(old, increment, before[chosen[again]], again)
        flags = np.zeros(count, np.uint8)
        replaced = before[chosen[fresh]]
        flags[replaced[replaced >= 0]] = REPLACED
        if growth.prune:
            flags[changes.gone] = REMOVED
        sample = np.full(count, -1, np.int64)
        kept = np.flatnonzero(before >= 0)
        sample[before[kept]] = kept
        sample[flags != 0] = -1
        added = np.flatnonzero(fresh)
        was = read_stamps(old.path, str(old.info.stamp), count)
        stamps = np.zeros(count, np.uint64) if was is None else was.copy()
        stamps[sample >= 0] = changes.stamps[sample[sample >= 0]]
        none = np.full(len(added), -1, np.int64)
        return cls(
            old_rows=np.concatenate([np.arange(count), none]),
            new_rows=np.concatenate([np.full(count, -1, np.int64), added]),
            flags=np.concatenate([flags, np.zeros(len(added), np.uint8)]),
            sample=np.concatenate([sample, chosen[added]]),
            stamps=np.concatenate([stamps, changes.stamps[chosen[added]]]),
            before=count,
        )

    def counted(self, growth: Growth) -> Grew:
        flags = self.flags[: self.before]
        changed = int((flags == REPLACED).sum())
        gone = len(growth.changes.gone)
        return Grew(
            path=growth.info.path,
            rows=len(growth.manifest) + (0 if growth.prune else gone),
            tasks=growth.info.tasks,
            new=len(self.flags) - self.before - changed,
            changed=changed,
            removed=gone if growth.prune else 0,
            missing=0 if growth.prune else gone,
        )

    def differ(self, growth: Growth, old: FeatureSet) -> bool:
        """Whether the new state is another one: other rows, flags, classes, splits or groups."""
        if len(self.flags) > self.before or self.flags.any():
            return True
        plan = self.plan(growth, old, None)
        return (
            list(plan.classes) != list(old.classes)
            or not np.array_equal(plan.labels, old.label)
            or not np.array_equal(plan.splits, old.split)
            or (None if plan.groups is None else list(plan.groups)) != old.groups
        )

    def plan(self, growth: Growth, old: FeatureSet, increment: FeatureSet | None) -> StorePlan:
        """The plan of the new state."""
        manifest, held = growth.manifest, self.sample >= 0
        classes, place = _classes(old.info.classes, manifest.classes, growth.info.path)
        present = self.sample[held]
        labels = self._merged(old.label, np.array([*place, -1], np.int32)[manifest.labels][present])
        groups = None
        if manifest.groups is not None or old.groups is not None:
            blank = np.array([""] * len(manifest), object)
            theirs = blank if manifest.groups is None else np.array(manifest.groups, object)
            ours = np.array([""] * self.before if old.groups is None else old.groups, object)
            groups = self._merged(ours, theirs[present]).tolist()
        counts = None
        if old.info.token_dim is not None:
            counts = np.zeros(len(self.flags), np.int32)
            counts[: self.before] = old.tokens.lengths
            if increment is not None:
                counts[self.before :] = increment.tokens.lengths[self.new_rows[self.before :]]
        ids = self._ids(old, manifest)
        layout = old.info.arrays
        grown = Grown(
            rows=(*(old.info.grown or (self.before,)), len(self.flags)),
            digest=_digest(ids, labels, self.flags, self.new_rows),
            task_rows=int(layout["status"]["chunk_grid"]["configuration"]["chunk_shape"][0]),
            token_rows=(
                int(layout["tokens/values"]["chunk_grid"]["configuration"]["chunk_shape"][0])
                if "tokens/values" in layout
                else 0
            ),
        )
        return replace(
            growth.plan,
            classes=classes,
            ids=ids,
            labels=labels,
            splits=self._merged(old.split, manifest.splits[present]),
            groups=groups,
            samples=self._merged(old.samples, manifest.sample_keys[present]),
            token_counts=counts,
            grown=grown,
        )

    def _merged(self, old: np.ndarray, present: np.ndarray) -> np.ndarray:
        """A column (M,): what the manifest says of samples that are there, else what it was."""
        column = np.zeros(len(self.flags), old.dtype)
        column[: self.before] = old
        column[self.sample >= 0] = present
        return column

    def _ids(self, old: FeatureSet, manifest: Manifest) -> list[str]:
        """Ids stay; those of rows that are flagged now make room: `a.png` becomes `a.png~1`, by its state."""
        ids = list(old.id)
        taken = {*ids, *manifest.ids}
        for row in np.flatnonzero(self.flags[: self.before]).tolist():
            ids[row] = flagged_id(ids[row], old.info.state, taken)
            taken.add(ids[row])
        return ids + [manifest.ids[sample] for sample in self.sample[self.before :].tolist()]


def _digest(ids: Sequence[str], labels: np.ndarray, flags: np.ndarray, new_rows: np.ndarray) -> str:
    import hashlib

    digest = hashlib.sha256("\n".join(ids).encode())
    for column, kind in ((labels, "<i4"), (flags, "u1"), (new_rows, "<i8")):
        digest.update(np.ascontiguousarray(column, dtype=kind).tobytes())
    return digest.hexdigest()


def _classes(old: Sequence[str], now: Sequence[str], where: Path) -> tuple[tuple[str, ...], list[int]]:
    """The classes of the new state, to which new ones are appended, and the place of each present class."""
    if tuple(now[: len(old)]) == tuple(old):
        return tuple(now), list(range(len(now)))
    if len(set(old)) < len(old) or len(set(now)) < len(now):
        raise InputError(
            f"{where}: two of its classes have one name, and the order of the classes has changed: no class "
            "can be told from the other; use `--overwrite`"
        )
    classes = (*old, *(name for name in now if name not in set(old)))
    place = {name: at for at, name in enumerate(classes)}
    return classes, [place[name] for name in now]


def _differ(old: FeatureSet, increment: FeatureSet, rows: np.ndarray, again: np.ndarray) -> np.ndarray:
    """(a,) bool: samples that were encoded again and are not what they were; by row in both stores."""
    differ = old.status[rows] != increment.status[again]
    if old.info.dim is not None:
        one, two = old.source.whole()[rows].float().numpy(), increment.source.whole()[again].float().numpy()
        differ |= _apart(one, two).any(1)
    if old.info.token_dim is not None:
        differ |= old.tokens.lengths[rows] != increment.tokens.lengths[again]
        for at in np.flatnonzero(~differ).tolist():
            one = old.tokens.packed(rows[at : at + 1])[0].numpy().astype(np.float32)
            two = increment.tokens.packed(again[at : at + 1])[0].numpy().astype(np.float32)
            differ[at] = bool(_apart(one, two).any())
    return np.asarray(differ)


def _apart(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(one - two) > _NEAR * np.abs(one).max(axis=1, keepdims=True))
