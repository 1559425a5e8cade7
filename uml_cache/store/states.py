"""The states of a store that has grown. Each state is a whole store, beside the others:

    hog-color.zarr      state 1
    hog-color~2.zarr    state 2

The current state is the sealed one with the highest number. What lies beside it with a higher number is an
append that did not end. Who reads an older state goes on reading it: nothing of it changes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterable
from pathlib import Path

from uml_cache.remote import RemotePath

SUFFIX = ".zarr"
_NUMBERED = re.compile(r"^(?P<name>.+)~(?P<state>[2-9]|[1-9][0-9]+)$")


def state_of(path: Path) -> int:
    """The number of the state at `path`, from its name; 1 for a store that has not grown."""
    found = _NUMBERED.match(path.name.removesuffix(SUFFIX))
    return int(found["state"]) if found else 1


def first_state(path: Path) -> Path:
    """Where state 1 of the store at `path` lies, or lay."""
    found = _NUMBERED.match(path.name.removesuffix(SUFFIX))
    return path.parent / f"{found['name']}{SUFFIX}" if found else path


def state_path(path: Path, state: int) -> Path:
    """Where the state with this number lies, of the store that `path` is a state of."""
    first = first_state(path)
    return first if state == 1 else first.parent / f"{first.name.removesuffix(SUFFIX)}~{state}{SUFFIX}"


def states_there(path: Path) -> list[int]:
    """Numbers of the states that are there, finished or not, in order."""
    first = first_state(path)
    if isinstance(path, RemotePath):
        names: Iterable[str] = path.parent.listing()[0]
    else:
        names = os.listdir(path.parent) if path.parent.is_dir() else ()
    beside = (first.parent / name for name in names if name.endswith(SUFFIX))
    return sorted(state_of(other) for other in beside if first_state(other) == first)


def plain_name(name: str) -> str:
    """`name` of an encoder or variant, changed where it would read as a state's: `a~2` becomes `a_2`."""
    return re.sub(r"~(?=[0-9]+$)", "_", name)


def flagged_id(id: str, state: int, taken: Container[str]) -> str:
    """The id of a row that `state` was the last to have a use for; `id` may be that of another row by now."""
    name = f"{id}~{state}"
    while name in taken:
        name += "~"
    return name


def plain_id(id: str) -> str:
    """The id that a flagged row had before."""
    return re.sub(r"~[0-9]+~*$", "", id)
