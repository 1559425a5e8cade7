"""Removing a store: it is gone at once, or still there whole."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from uml_cache.errors import InputError
from uml_cache.files.disk import scratch_folder, sync_folder
from uml_cache.remote import RemotePath, as_path
from uml_cache.store import journal
from uml_cache.store.locks import rewriting, writer_lock
from uml_cache.store.states import first_state, state_path, states_there


def remove_store(place: Path | str) -> int:
    """Remove the store at `place`, a sound, damaged or unfinished one; returns the bytes that it took.

    On a disk it is moved aside in one step and then deleted. On object storage, where nothing moves, the
    plan's record goes first: from then on there is no store, and the same call again removes what is left.

    Raises:
        InputError: there is no store, or it is being written, or read (objects are not locked).
    """
    path = as_path(place)
    # An array of a store has such a file, too, and a store around it.
    inside = any((above / "zarr.json").exists() for above in (path.parent, path.parent.parent))
    if not (path / "zarr.json").exists() or inside or path.name.startswith("."):
        raise InputError(
            f"{path} is no feature store, and nothing was removed; `uml cache ls` lists the stores of a "
            "cache folder"
        )
    if isinstance(path, RemotePath):
        return _remove_objects(path)
    size = sum((Path(at) / name).stat().st_size for at, _, names in os.walk(path) for name in names)
    with ExitStack() as held:
        if (path / journal.JOURNAL).is_dir():
            held.enter_context(writer_lock(path))
        held.enter_context(rewriting(path))
        aside = held.enter_context(scratch_folder(path.parent))
        # Where its samples came from, and what they were: first, since nobody finds them without the store.
        for beside in (".origin.json", ".stamps"):
            path.with_name(path.name.removesuffix(".zarr") + beside).unlink(missing_ok=True)
        os.rename(path, aside / path.name)
        sync_folder(path.parent)
    return size


def remove_states(place: Path | str) -> int:
    """Remove a store with all its states, the newest first, and what an append has left; returns the bytes.

    `place` is that of its first state, which need not be there any more.

    Raises:
        InputError: as `remove_store`; the states that came later are gone then.
    """
    path = as_path(place)
    states = states_there(path)
    size = sum(remove_store(state_path(path, state)) for state in reversed(states))
    increment = path.parent / ".growing" / first_state(path).name
    if (increment / "zarr.json").exists():
        size += remove_store(increment)
    return size


def _remove_objects(store: RemotePath) -> int:
    size = store.size_below()
    first, last = journal.PLAN, "zarr.json"  # by the last one a store that is half gone is still known
    (store.parent / f"{store.name.removesuffix('.zarr')}.stamps").unlink(missing_ok=True)
    names = sorted(store.states(), key=lambda name: (name != first, name == last, name))
    for name in names:
        (store / name).unlink(missing_ok=True)
    return size
