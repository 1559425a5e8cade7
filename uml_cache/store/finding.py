"""Which stores are in a cache folder, and which state of each is the current one."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from uml_cache.errors import InputError, Remark, WorkError
from uml_cache.remote import RemotePath, as_path, is_remote
from uml_cache.store.catalogue import StoreInfo, store_info
from uml_cache.store.checking import Memory
from uml_cache.store.states import first_state, state_path, states_there


@dataclass(frozen=True)
class DamagedStore:
    """A store that cannot be described, and why."""

    path: Path
    error: InputError | WorkError | OSError

    @property
    def reason(self) -> str:
        """What is wrong with it, in one line."""
        return str(self.error)


def find_stores(feats: Path | str, *, states: bool = False) -> list[StoreInfo]:
    """Every sound store in a cache folder, sorted by path; `feats` may be a store itself.

    Of a store that has grown this is the current state, or all of them with `states`.

    A damaged store is left out, with a `Remark` that names it: it never stops the others; where there are no
    others, what is wrong with it is raised. An existing folder
    without stores gives an empty list; a path that is no folder raises `InputError`.
    """
    found, damaged = look_for_stores(feats)
    for store in damaged:
        warnings.warn(f"{store.path} is left out: {store.reason}", Remark, stacklevel=2)
    if states:
        return found
    current = current_states(found)
    for newer in found:
        if (used := current[first_state(newer.path)]).state < newer.state:
            warnings.warn(
                f"{newer.path} is an append that has not ended; {used.path} is used. The same `uml extract` "
                "finishes it",
                Remark,
                stacklevel=2,
            )
    return [store for store in found if store is current[first_state(store.path)]]


def current_states(stores: Sequence[StoreInfo]) -> dict[Path, StoreInfo]:
    """Of each store, by the place of its first state, the sealed state with the highest number.

    A store without a sealed state stands for itself with its first one.
    """
    current: dict[Path, StoreInfo] = {}
    for store in sorted(stores, key=lambda s: (s.sealed, s.state if s.sealed else -s.state)):
        current[first_state(store.path)] = store
    return current


def current_store(path: Path | str) -> StoreInfo | None:
    """The current state of the store whose first state lies, or lay, at `path`; None where no state is there.

    Raises:
        InputError: what is there is no store.
        WorkError: the metadata of a state are damaged.
    """
    place = as_path(path)
    found = [store_info(state_path(place, state)) for state in states_there(place)]
    return next(iter(current_states(found).values()), None)


def state_to_grow(path: Path | str) -> StoreInfo | None:
    """The current state of a store. None where there is none, or where its only one is damaged so that
    nothing can be said of it: then planning makes what is missing, or refuses.

    Raises:
        InputError, WorkError: one of several states is no store, or is damaged.
    """
    try:
        return current_store(path)
    except (InputError, WorkError):
        if states_there(as_path(path)) != [1]:
            raise
        return None


def damaged_tasks(store: StoreInfo) -> list[int]:
    """Tasks of a sealed store whose files are not what its journal says, in order.

    What was sound when it was last read is not read again; objects of object storage are not read.
    """
    if is_remote(store.path):
        return []
    memory = Memory(store.path)
    return [
        int(name)
        for name, record in store.records.items()
        if name != "plan" and memory.unsound(record["files"])
    ]


def look_for_stores(feats: Path | str) -> tuple[list[StoreInfo], list[DamagedStore]]:
    """The sound and the damaged stores of a cache folder, each sorted by path.

    Raises as `find_stores` does, and where none is sound what is wrong with the first.
    """
    feats = as_path(feats)
    if not feats.is_dir():
        what = "is a file" if feats.exists() else "does not exist"
        raise InputError(f"cache folder {feats} {what}; `uml extract --out {feats}` makes one")
    if (feats / "zarr.json").exists():
        return [store_info(feats)], []
    found: list[StoreInfo] = []
    damaged: list[DamagedStore] = []
    for path in store_places(feats):
        try:
            found.append(store_info(path))
        except (InputError, WorkError, OSError) as error:
            damaged.append(DamagedStore(path, error))
    if damaged and not found:
        raise damaged[0].error
    return found, damaged


def store_places(feats: Path) -> list[Path]:
    """Every folder of a cache folder that is called a store, sound or not, sorted."""
    return sorted(_remote_places(feats) if isinstance(feats, RemotePath) else _places(feats))


def _places(feats: Path) -> Iterator[Path]:
    for folder, names, _ in os.walk(feats):
        here = [name for name in names if name.endswith(".zarr") and not name.startswith(".")]
        yield from (Path(folder) / name for name in here)
        names[:] = [name for name in names if name not in here and not name.startswith(".")]


def _remote_places(prefix: RemotePath) -> Iterator[Path]:
    folders, _ = prefix.listing()
    for name in folders:
        inner = prefix / name
        if name.startswith("."):
            continue
        if name.endswith(".zarr"):
            yield inner  # type: ignore[misc]
        else:
            yield from _remote_places(inner)  # type: ignore[arg-type]
