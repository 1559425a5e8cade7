"""Whether a store grows, and the pass that extracts what is new into the increments of one or more stores."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from uml_cache import (
    FeatureStore,
    Output,
    StoreInfo,
    StorePlan,
    WorkError,
    damaged_tasks,
    open_features,
    read_stamps,
    recorded_plan,
    remove_store,
    store_info,
    write_stamps,
)
from uml_extract.executors import Executor
from uml_extract.executors.worker import Recipe
from uml_extract.growing.finishing import finish, unfinished
from uml_extract.growing.growth import Growth
from uml_extract.growing.stamps import sample_stamps
from uml_extract.passes import Extracted, Part, fill_stores
from uml_extract.planning import store_of
from uml_extract.spec import Encoder

if TYPE_CHECKING:
    from uml_manifests import Manifest


@dataclass(frozen=True)
class Added:
    """A store that grows, with its encoder. `recipe`: how other processes load it."""

    growth: Growth
    encoder: Encoder
    recipe: Recipe | None


def grows(
    info: StoreInfo, plan: StorePlan, manifest: Manifest, retry_failed: bool, check_sources: bool
) -> bool:
    """Whether a store's current state is compared with the data, and not filled or mended in its place.

    Stores of other settings, trials and what is not finished do not grow.
    """
    if not info.own or not info.sealed or manifest.trial_name is not None or info.plan != plan.digest:
        return False
    if info.state > 1:
        return True
    there = recorded_plan(info.path)
    if there is None or there["manifest_digest"] != manifest.digest:
        return True
    return not (retry_failed or check_sources or damaged_tasks(info)) and _opens(info)


def _opens(info: StoreInfo) -> bool:
    """Whether its columns are as they were written; if not, the planning of a store makes them again."""
    try:
        open_features(info.path).close()
    except WorkError:
        return False
    return True


def keep_stamps(store: FeatureStore, manifest: Manifest) -> None:
    """Write down what a store is made from, before it is; a store that is finished keeps what it has."""
    rows = len(store.plan.ids)
    if read_stamps(store.path, store.plan.stamp, rows) is None and not store.done():
        write_stamps(store.path, store.plan.stamp, sample_stamps(manifest))


def grow(
    added: Sequence[Added],
    who: Executor,
    *,
    max_errors: float,
    decode_workers: int | Literal["auto"],
    output: Output,
) -> list[Extracted]:
    """Extract what is new into the increments, in one pass, and put the new states together.

    All of `added` encode the same samples. Where other workers have not finished their share, the one that
    ends last puts the states together.

    Raises:
        InputError: another run holds one of the stores.
        WorkError: more unreadable samples than allowed, or values that do not fit a store's dtype.
    """
    began = time.monotonic()
    first = added[0].growth
    rows = first.changes.to_encode
    rates = [0.0] * len(added)
    if len(rows):
        part = first.manifest.some(rows)
        allowed = max_errors if isinstance(max_errors, int) else int(max_errors * len(first.manifest))
        resumed = False
        for one in added:
            there = recorded_plan(one.growth.increment)
            resumed |= there is not None
            if there is not None and there != one.growth.increment_plan.fields:
                remove_store(one.growth.increment)  # the data have changed once more since it was begun
        parts = [
            Part(store_of(one.growth.increment, one.growth.increment_plan, False), one.encoder, one.recipe)
            for one in added
        ]
        for each in parts:
            keep_stamps(each.store, part)
        done = fill_stores(
            part, parts, who, max_errors=allowed, decode_workers=decode_workers,
            retry_failed=False, check_sources=resumed, output=output,
        )  # fmt: skip
        rates = [extracted.rows_per_second for extracted in done]
    return [_extracted(one.growth, began, rate) for one, rate in zip(added, rates, strict=True)]


def _extracted(growth: Growth, began: float, rate: float) -> Extracted:
    """Put one new state together and say what has become of the store."""
    grew = finish(growth) or unfinished(growth)
    unreadable = tuple(store_info(grew.path).failed())
    return Extracted(
        store=grew.path,
        rows=grew.rows,
        failed=len(unreadable),
        tasks=grew.tasks,
        resumed_tasks=min(grew.tasks, growth.info.tasks),
        seconds=time.monotonic() - began,
        rows_per_second=rate,
        unreadable=unreadable,
        grew=grew,
    )
