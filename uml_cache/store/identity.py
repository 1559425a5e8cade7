"""What a store is known by: a digest of its content, taken from the journal.

`fingerprint` changes whenever a byte of an array does, and with the encoder and the class names, without
which the bytes mean nothing. Library versions, device and seconds leave it as it is: a store that is made
again with the same bytes is the same store. Of the journal only checksums count, which version 0.1 wrote too.
A store that another tool wrote has no journal: its files are read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from uml_cache.errors import WorkError
from uml_cache.remote import RemotePath, is_remote
from uml_cache.store import journal
from uml_cache.store.checking import Memory

_AT_ONCE = 32  # requests to object storage
_OF_THE_STORE = ("zarr.json", "journal/zarr.json", "tokens/zarr.json")  # groups: these hold no array


def recorded(store: Path) -> dict[str, dict[str, Any]]:
    """Every record of the journal by its name, `plan` first, then the tasks in order.

    Raises `WorkError` for a record that is lost or damaged.
    """
    names = ["plan", *map(str, journal.record_names(store))]
    paths = [store / journal.JOURNAL / f"{name}.json" for name in names]
    if is_remote(store):
        with ThreadPoolExecutor(_AT_ONCE) as several:
            return dict(zip(names, several.map(_record, paths), strict=True))
    return dict(zip(names, map(_record, paths), strict=True))


def fingerprint(records: dict[str, dict[str, Any]], classes: Sequence[str]) -> str:
    """sha256 over the arrays that `records` list, the encoder's spec and the class names.

    Until the store is sealed it is that of what is there.
    """
    encoder = records["plan"]["fields"]["encoder"]
    files = {
        entry["path"]: entry["sha256"]
        for entry in _files(records.values())
        if entry["path"] not in _OF_THE_STORE
    }
    return journal.digest({"encoder": encoder, "classes": list(classes), "files": files})


def foreign_fingerprint(store: Path) -> str:
    """sha256 over the files of a store that another tool wrote: their names and all that is in them.

    They are read once, and remembered as files that are checked are. On object storage what the storage says
    of each object's state stands for its content.
    """
    if isinstance(store, RemotePath):
        return journal.digest(store.states())
    memory = Memory(store)
    found = {}
    for place, folders, names in os.walk(store):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            file = os.path.relpath(os.path.join(place, name), store)
            if not name.startswith("."):
                found[file] = memory.sha256(file)
    memory.save()
    return journal.digest(found)


def _files(records: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    return (entry for record in records for entry in record["files"])


def _record(path: Path) -> dict[str, Any]:
    try:
        return journal.read_record(path)
    except FileNotFoundError:
        raise WorkError(
            f"{path} is missing: run the same `uml extract` command again to make what is missing"
        ) from None
    except journal.BrokenRecord as error:
        store = path.parent.parent
        raise WorkError(f"{error}; `uml cache verify {store}` names what else is damaged") from None
