"""The new state, put together from the state before and the increment. Nothing of the old state changes."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import numpy as np

from uml_cache import (
    Origin,
    assemble,
    first_state,
    folder_lock,
    is_remote,
    open_features,
    read_stamps,
    remove_store,
    state_path,
    store_info,
    write_stamps,
)
from uml_extract.growing.grew import Grew
from uml_extract.growing.growth import FOLDER, Growth
from uml_extract.growing.state_rows import Rows
from uml_extract.origin import record_origin


def finish(growth: Growth) -> Grew | None:
    """Put the new state together; None while the increment is not finished, by other workers.

    Raises:
        InputError: another process is at it.
    """
    if (grew := _as_it_was(growth)) is not None:
        return grew
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
        rows = Rows.of(growth, old, increment)
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


def _as_it_was(growth: Growth) -> Grew | None:
    """What is said of a store that has nothing new, so that nothing is written; None where it has."""
    if len(growth.changes.to_encode):
        return None
    with contextlib.closing(open_features(growth.info.path)) as old:
        rows = Rows.of(growth, old, None)
        was = read_stamps(old.path, str(old.info.stamp), len(old))
        same = was is not None and np.array_equal(was, rows.stamps) and not rows.differ(growth, old)
        return rows.counted(growth) if same else None


def unfinished(growth: Growth) -> Grew:
    """A store whose increment other workers have not finished yet: it is as it was."""
    info = growth.info
    return Grew(info.path, info.rows, info.tasks)


def _already(growth: Growth) -> Grew:
    """Another worker has put the new state together while this one was waiting."""
    path = state_path(growth.info.path, growth.info.state + 1)
    info = store_info(path)
    return Grew(path, len(growth.manifest), info.tasks)
