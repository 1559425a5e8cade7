"""A store whose data have grown or changed: its current state, what has changed, and the increment.

What is new, or may have changed, is extracted like any data set into a store of its own, the increment, below
a hidden folder. It is gone on with after an interrupt, and shared among workers, as any store is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from uml_cache import (
    UNKNOWN,
    InputError,
    Output,
    StoreInfo,
    StorePlan,
    WorkError,
    damaged_tasks,
    first_state,
    open_features,
    state_path,
    states_there,
    store_info,
)
from uml_extract.growing.changes import Changes, changes_of

if TYPE_CHECKING:
    from uml_manifests import Manifest

FOLDER = ".growing"


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
    other = f"`uml cache rm {info.path}` goes back to the state before, or " if _has_sound_past(info) else ""
    mend = f"{other}`uml extract --overwrite` makes the store anew"
    if bad := damaged_tasks(info):
        raise WorkError(f"{info.path} is damaged in task {bad[0]}: {mend}")
    try:
        store = open_features(info.path)
    except WorkError as error:
        raise WorkError(f"{str(error).partition(';')[0]}; {mend}") from None
    try:
        changes = changes_of(store, manifest, retry_failed=retry_failed)
        if not changes.known and len(changes.before) and store.info.stamp is not None:
            output.say(
                f"{info.path} does not say what its samples were made from: those with known ids count as "
                "unchanged"
            )
        lost = int(((changes.before >= 0) & (changes.stamps == UNKNOWN)).sum())
        if lost:
            output.say(f"the files of {lost:,} samples are gone; what {info.path} holds of them stays")
    finally:
        store.close()
    return Growth(info, plan, manifest, changes, prune)


def _has_sound_past(info: StoreInfo) -> bool:
    """Whether the state before is there and whole. Both states share the files that did not change."""
    before = [number for number in states_there(info.path) if number < info.state]
    if not before:
        return False
    try:
        past = store_info(state_path(info.path, before[-1]))
        return past.sealed and not damaged_tasks(past)
    except (InputError, WorkError, OSError):
        return False
