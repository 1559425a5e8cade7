"""The rows of a new state: those of the state before in their places, then what is new.

Shapes: N rows of the old state, M of the new one, n samples of the manifest, a samples encoded again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from uml_cache import (
    REMOVED,
    REPLACED,
    UNKNOWN,
    FeatureSet,
    Grown,
    InputError,
    StorePlan,
    flagged_id,
    read_stamps,
    recorded_plan,
)
from uml_extract.growing.grew import Grew
from uml_extract.growing.growth import Growth

if TYPE_CHECKING:
    from uml_manifests import Manifest

# Shares of a row's largest value: about one step of the dtype, as batches of other sizes leave it.
_STEPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-17}
_STALE = 1  # a stamp that no sample has: what was read is not known, so that it is read once more


@dataclass(frozen=True, eq=False)
class Rows:
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
    def of(cls, growth: Growth, old: FeatureSet, increment: FeatureSet | None) -> Rows:
        """Settle what is new, what is replaced, and what only had to be looked at again."""
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
        now = np.zeros(count, np.uint64)
        now[sample >= 0] = changes.stamps[sample[sample >= 0]]
        stamps = np.where(now == UNKNOWN, stamps, now)
        read = _read_from(increment, len(chosen))
        again = np.flatnonzero(~fresh)
        stamps[before[chosen[again]]] = read[again]
        none = np.full(len(added), -1, np.int64)
        return cls(
            old_rows=np.concatenate([np.arange(count), none]),
            new_rows=np.concatenate([np.full(count, -1, np.int64), added]),
            flags=np.concatenate([flags, np.zeros(len(added), np.uint8)]),
            sample=np.concatenate([sample, chosen[added]]),
            stamps=np.concatenate([stamps, read[added]]),
            before=count,
        )

    def counted(self, growth: Growth) -> Grew:
        """How many samples of each kind there are; the state is taken for the old one."""
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


def _read_from(increment: FeatureSet | None, count: int) -> np.ndarray:
    """(e,) uint64 stamps of the samples that were encoded, as they were before they were read.

    A file that changes while an append is interrupted has another stamp by then, and is encoded next time.
    """
    found = None
    if increment is not None:
        found = read_stamps(increment.path, str(increment.info.stamp), count)
    return np.full(count, _STALE, np.uint64) if found is None else found


def _digest(ids: Sequence[str], labels: np.ndarray, flags: np.ndarray, new_rows: np.ndarray) -> str:
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
    within = _within(old)
    differ = old.status[rows] != increment.status[again]
    if old.info.dim is not None:
        differ |= _apart(old.source.whole()[rows], increment.source.whole()[again], within)
    if old.info.token_dim is not None:
        differ |= old.tokens.lengths[rows] != increment.tokens.lengths[again]
        for at in np.flatnonzero(~differ).tolist():
            one = old.tokens.packed(rows[at : at + 1])[0]
            two = increment.tokens.packed(again[at : at + 1])[0]
            differ[at] = bool(_apart(one, two, within).any())
    return np.asarray(differ)


def _within(store: FeatureSet) -> float:
    """The share of a row's largest value that one sample's features may differ by in another batch.

    A network rounds in its dtype, by the size of the batch. So does `log-mel`, which multiplies the frames of
    all sounds at once. The other encoders of our own compute each sample alone, to the bit.
    """
    if store.info.encoder.get("library") == "numpy" and store.info.modality != "audio":
        return 0.0
    plan = recorded_plan(store.path) or {}
    return max(_STEPS.get(str(plan.get(name)), 0.0) for name in ("dtype", "compute_dtype"))


def _apart(one: torch.Tensor, two: torch.Tensor, within: float) -> np.ndarray:
    """(n,) bool: rows of two (n, D) tensors that are more than `within` apart.

    Whole numbers differ where they are not equal.
    """
    if not one.is_floating_point():
        return (one != two).any(1).numpy()
    first, second = one.double(), two.double()
    near = torch.isclose(first, second, rtol=0.0, atol=0.0, equal_nan=True)
    near |= (first - second).abs() <= within * first.abs().amax(1, keepdim=True)
    return (~near).any(1).numpy()
