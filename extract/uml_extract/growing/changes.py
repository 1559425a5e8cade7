"""What has changed between a store's current state and the data: new, changed and gone samples.

Shapes: N rows of the store, n samples of the manifest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from uml_cache import FLAGGED, UNKNOWN, FeatureSet, InputError, read_stamps
from uml_extract.growing.stamps import sample_stamps
from uml_extract.sources import sources_digest

if TYPE_CHECKING:
    from uml_manifests import Manifest

_LEAST_SHARED = 0.5  # of a store's samples; fewer, and it is more likely other data of the same name


@dataclass(frozen=True, eq=False)
class Changes:
    """How the data differ from a store's state.

    Args:
        before: (n,) int64, the row of the store that holds the sample of this id; −1: it is new.
        touched: (n,) bool, samples of the store with another text, or a file of another size or time.
        gone: (g,) int64, rows of the store whose samples are no longer there.
        stamps: (n,) uint64, of the samples as they are now; 0 where a file is gone: its features stay.
        known: whether the store says what its samples were made from.
    """

    before: np.ndarray
    touched: np.ndarray
    gone: np.ndarray
    stamps: np.ndarray
    known: bool

    @property
    def to_encode(self) -> np.ndarray:
        """(e,) int64: samples of the manifest that have to be encoded, in its order."""
        return np.flatnonzero((self.before < 0) | self.touched)


def changes_of(store: FeatureSet, manifest: Manifest, *, retry_failed: bool = False) -> Changes:
    """Compare by ids, and by what the samples were made from; nothing is read.

    Raises:
        InputError: less than half of the store's samples are in the data: they are other data.
    """
    live = ~np.isin(store.status, FLAGGED)
    ids = store.id
    place = {ids[row]: row for row in np.flatnonzero(live).tolist()}
    before = np.array([place.get(id, -1) for id in manifest.ids], np.int64)
    kept = before >= 0
    gone = np.setdiff1d(np.flatnonzero(live), before[kept])
    shared = int(kept.sum())
    if shared < _LEAST_SHARED * len(place):
        raise InputError(
            f"{store.path} holds {len(place):,} samples, and {shared:,} of them are in the data: other data "
            "have this name. Give these a --name of their own or another --out, or `--overwrite`"
        )
    stamps = sample_stamps(manifest)
    assert store.info.stamp is not None
    was = read_stamps(store.path, store.info.stamp, len(ids))
    touched = np.zeros(len(manifest), bool)
    if was is not None:
        old = was[before[kept]]
        touched[kept] = (old != UNKNOWN) & (stamps[kept] != UNKNOWN) & (old != stamps[kept])
    elif manifest.ids == ids and (by_task := _touched_tasks(store, manifest)) is not None:
        touched, was = by_task & (stamps != UNKNOWN), stamps
    if retry_failed:
        touched[kept] |= store.status[before[kept]] != 0
    return Changes(before, touched, gone, stamps, was is not None)


def _touched_tasks(store: FeatureSet, manifest: Manifest) -> np.ndarray | None:
    """(N,) bool: rows of tasks with a file that is not what it was; None where the journal does not say.

    The journal of every store of files has a digest for each task; stamps are younger.
    """
    touched = np.zeros(len(store), bool)
    records = [record for name, record in store.info.records.items() if name != "plan"]
    if not all("sources" in record for record in records):
        return None
    for record in records:
        rows = range(record["first_row"], record["first_row"] + record["rows"])
        touched[rows.start : rows.stop] = sources_digest(manifest, rows) != record["sources"]
    return touched
