"""`uml cache gc`: old states go, and with `compact` the rows that the current state has no use for.

Shapes: N rows of the current state, M of the compacted one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache.errors import InputError
from uml_cache.files.disk import write_atomic
from uml_cache.files.documents import parse_json
from uml_cache.growing.assembly import Origin, assemble, flagged_rows
from uml_cache.growing.stamps import read_stamps, write_stamps
from uml_cache.reading.features import FeatureSet, open_features
from uml_cache.remote import as_path, is_remote
from uml_cache.store import journal
from uml_cache.store.catalogue import StoreInfo, store_info
from uml_cache.store.finding import current_states, find_stores
from uml_cache.store.plans.plan import Grown, StorePlan
from uml_cache.store.removal import remove_store
from uml_cache.store.states import SUFFIX, first_state, state_path


@dataclass
class Collected:
    """What was, or would be, removed of one store. `busy` are states that another command has open."""

    current: Path
    removed: list[Path] = field(default_factory=list)
    busy: list[Path] = field(default_factory=list)
    compacted: int = 0

    def to_json(self) -> dict[str, Any]:
        """One entry of `uml cache gc --json`."""
        return {
            "store": str(self.current),
            "removed": [str(path) for path in self.removed],
            "busy": [str(path) for path in self.busy],
            "compacted": self.compacted,
        }

    def text(self, dry: bool) -> list[str]:
        """Lines for the terminal; none where there is nothing to do."""
        would = "would be " if dry else ""
        lines = [f"{path} {'would be' if dry else 'is'} removed" for path in self.removed]
        lines += [f"{path} is being read, and stays" for path in self.busy]
        if self.compacted:
            lines.append(
                f"{self.compacted:,} flagged rows {would}left out of {self.current}; splits that uml draws "
                "are drawn anew"
            )
        return lines


def collect(feats: Path | str, *, compact: bool = False, dry: bool = False) -> list[Collected]:
    """Remove the old states of every store of a cache folder, or of the store at `feats`.

    An append that has not ended stays: the next extraction goes on with it.

    Args:
        compact: make a state without the flagged rows first, where there are any.
        dry: change nothing.

    Raises:
        InputError: there is no cache folder, or another process is compacting a store.
    """
    found = find_stores(feats, states=True)
    if len(found) == 1 and found[0].path == as_path(feats):
        found = [
            store for store in find_stores(found[0].path.parent, states=True)
            if first_state(store.path) == first_state(found[0].path)
        ]  # fmt: skip
    return [
        _collect(current, [s for s in found if first_state(s.path) == place], compact, dry)
        for place, current in current_states(found).items()
        if current.own and current.sealed
    ]


def _collect(current: StoreInfo, states: Sequence[StoreInfo], compact: bool, dry: bool) -> Collected:
    done = Collected(current.path)
    if compact:
        done.compacted = _flagged(current)
        if done.compacted and not dry:
            done.current = _compact(current)
            states = [*states, store_info(done.current)]
    newest = store_info(done.current).state
    for old in states:
        if old.state >= newest and not (compact and done.compacted and dry and old.state == newest):
            continue
        if not dry:
            try:
                remove_store(old.path)
            except InputError:
                done.busy.append(old.path)
                continue
        done.removed.append(old.path)
    return done


def _flagged(current: StoreInfo) -> int:
    with contextlib.closing(open_features(current.path, check=False)) as features:
        return int(flagged_rows(features.status).sum())


def _compact(current: StoreInfo) -> Path:
    with contextlib.closing(open_features(current.path)) as old:
        rows = np.flatnonzero(~flagged_rows(old.status))
        path = state_path(current.path, current.state + 1)
        none = np.full(len(rows), -1, np.int64)
        origin = Origin(old, None, rows, none, np.zeros(len(rows), np.uint8))
        assemble(path, _plan(old, rows), origin)
    _carry(current, path, rows)
    return path


def _plan(old: FeatureSet, rows: np.ndarray) -> StorePlan:
    """The plan of the rows that stay, laid out as a new store would be."""
    fields = journal.read_record(old.path / journal.PLAN)["fields"]
    attributes = parse_json((old.path / "zarr.json").read_bytes())["attributes"]
    names = ("dataset", "modality", "set", "encoder", "variant", "manifest_digest", "compute_dtype", "dtype")
    ids = old.id
    return StorePlan(
        **{name: fields[name] for name in (*names, "batch_size", "pooled_dim", "token_dim")},
        classes=old.info.classes,
        ids=[ids[row] for row in rows.tolist()],
        labels=old.label[rows],
        splits=old.split[rows],
        groups=None if old.groups is None else [old.groups[row] for row in rows.tolist()],
        samples=old.samples[rows],
        id_kind=str(old.id_kind or "given"),
        token_counts=old.tokens.lengths[rows] if old.info.token_dim is not None else None,
        versions=attributes.get("versions", {}),
        device=attributes.get("device", "cpu"),
        grown=Grown(rows=(len(rows),), digest=f"compacted from {old.info.stamp}"),
    )


def _carry(old: StoreInfo, path: Path, rows: np.ndarray) -> None:
    """What lies beside the store goes with it: where its samples came from, and what they were."""
    stamps = read_stamps(old.path, str(old.stamp), old.rows)
    if stamps is not None:
        write_stamps(path, str(store_info(path).stamp), stamps[rows])
    origin = old.path.parent / f"{old.path.name.removesuffix(SUFFIX)}.origin.json"
    if not is_remote(path) and origin.exists():
        write_atomic(path.parent / f"{path.name.removesuffix(SUFFIX)}.origin.json", origin.read_bytes())
