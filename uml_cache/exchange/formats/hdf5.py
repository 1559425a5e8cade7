"""HDF5 files, read as what they are: one file. Nothing in it makes the library open another.

An HDF5 file may name other files (external links, external storage, virtual data sets), point anywhere inside
itself (soft links), and promise any number of values in a few bytes. Only what lies in the file is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uml_cache.errors import InputError
from uml_cache.files.promises import check_promise
from uml_cache.tables.columns import PLAIN

if TYPE_CHECKING:
    import h5py

_MOST_OBJECTS = 100_000
_MOST_LINKS = 16  # soft links, one pointing to the next
_DEEPEST = 32  # groups inside each other


def open_hdf5(path: Path, what: str | None = None) -> h5py.File:
    """The file, opened to read. Raises `InputError` if it is no sound HDF5 file, or none of `what`."""
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError as error:
        said = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: cannot be read as {what or path.suffix} ({said})") from None


def hdf5_object(group: h5py.Group, name: str) -> Any:
    """The group or data set at `name` (`a/b`) inside a group, if it lies in the file.

    Raises:
        InputError: nothing there, or a link or a data set whose content would come from another file, a data
            set that promises more than the file can hold, or one with a filter that is not installed.
    """
    found = _follow(group, name, 0)
    if found is None:
        raise InputError(f"{_file(group)}: has no {name!r} in it")
    return found


def hdf5_members(group: h5py.Group) -> Iterator[tuple[str, Any]]:
    """Names and objects directly inside a group; links that lead nowhere or out of the file are left out.

    Raises:
        InputError: it holds too many objects, or its groups are too deep or form a loop.
    """
    names = list(group)
    if len(names) > _MOST_OBJECTS:
        raise InputError(f"{_file(group)}: holds {len(names):,} objects; at most {_MOST_OBJECTS:,} are read")
    if group.name.count("/") > _DEEPEST:
        raise InputError(
            f"{_file(group)}: its groups are nested more than {_DEEPEST} deep, or lead in a circle"
        )
    for name in names:
        found = _follow(group, name, 0)
        if found is None:
            refuse_unread(_file(group), name, "it is a link that leads nowhere, or to another file")
        else:
            yield name, found


def refuse_unread(where: str, name: str, reason: str) -> None:
    """Raise `InputError` where a member that cannot be read is called like a column: nothing is lost in
    silence."""
    if any(name.lower() in names for names in PLAIN.values()):
        raise InputError(f"{where}: {name!r} cannot be read: {reason}; put its values into the file")


def _follow(group: h5py.Group, name: str, links: int) -> Any:
    """What `name` leads to without leaving the file, None where there is nothing."""
    import h5py

    here: Any = group.file if name.startswith("/") else group
    for part in filter(None, name.split("/")):
        if not isinstance(here, h5py.Group):
            return None
        link = here.get(part, getlink=True) if part in here.keys() else None  # noqa: SIM118 (of links alone)
        if isinstance(link, h5py.SoftLink):
            if links >= _MOST_LINKS:
                return None
            here = _follow(here, link.path, links + 1)
        elif isinstance(link, h5py.HardLink):
            here = _opened(here, part)
        else:
            return None  # nothing there, or another file's
        if here is None:
            return None
    return here


def _opened(group: h5py.Group, name: str) -> Any:
    import h5py

    try:
        found = group[name]
    except (KeyError, OSError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())[:120]
        raise InputError(f"{_file(group)}: {name!r} cannot be read ({said})") from None
    if isinstance(found, h5py.Dataset):
        _check(found, f"{_file(group)}: {found.name}")
    return found


def _check(found: h5py.Dataset, where: str) -> None:
    import h5py

    plan = found.id.get_create_plist()
    if plan.get_external_count() or plan.get_layout() == h5py.h5d.VIRTUAL:
        raise InputError(
            f"{where}: its values lie in other files, which a data file must not open; copy them into it"
        )
    for at in range(plan.get_nfilters()):
        code, _, _, called = plan.get_filter(at)
        if not h5py.h5z.filter_avail(code):
            said = called.decode(errors="replace") or str(code)
            raise InputError(f"{where}: is compressed by {said!r}, which is not installed; save it with gzip")
    if found.shape is None:
        return
    count = 1
    for size in found.shape:
        count *= size
    check_promise(where, count * found.id.get_type().get_size(), Path(found.file.filename).stat().st_size)


def _file(group: h5py.Group) -> str:
    return str(group.file.filename)
