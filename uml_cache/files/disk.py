"""How files come to be: every file that the project writes is written here.

A file is whole or as it was: it is written under a temporary name, flushed to the disk and renamed, and the
renaming is flushed, too. `write_together` keeps an order: what a record speaks of is on the disk before the
record. Temporary names are unique on all machines, and whoever makes one holds a lock on it until it is gone:
who writes into a folder for the first time clears away what a process that died has left there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from uml_cache.files.flock import LockFile, NoLocks, names, take

_OURS = re.compile(r"^\.uml-[0-9a-f]{32}\.tmp$")
_VERSION_0_1 = re.compile(r"\.[0-9a-f]{32}\.tmp$|^\..+\.\d+\.partial$")
_LOCK = "lock"  # in a temporary folder
_OPEN = 32  # files open at once
_MANY = 256  # files in a folder
_DAY = 86_400  # where there are no locks, a temporary name this old has no owner
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}

_tidied: set[str] = set()


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that it is either whole or as it was, also after a power cut."""
    with whole_file(path) as stream:
        stream.write(data)


def write_together(*stages: Mapping[Path, bytes]) -> None:
    """Write the files of several stages: those of one get their names when all before are on the disk.

    Each file is whole or as it was. Files are flushed side by side, which takes a disk the time of a few, and
    a folder once a stage, however many of its files are written.
    """
    for files in stages:
        waiting = list(files.items())
        for first in range(0, len(waiting), _OPEN):
            with contextlib.ExitStack() as written:
                renames = []
                for path, data in waiting[first : first + _OPEN]:
                    temporary, stream = written.enter_context(_temporary(path))
                    stream.write(data)
                    renames.append((temporary, path, stream))
                with ThreadPoolExecutor(len(renames)) as threads:
                    list(threads.map(_flush, [stream for *_, stream in renames]))
                for temporary, path, _ in renames:
                    os.replace(temporary, path)
        for folder in {path.parent for path in files}:
            sync_folder(folder)


def write_changed(files: Mapping[Path, bytes]) -> None:
    """Write those of the files that do not hold already what is given."""
    write_together({path: data for path, data in files.items() if not _holds(path, data)})


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.stat().st_size == len(data) and path.read_bytes() == data
    except OSError:
        return False


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that appears under `path` only when it is complete and on the disk."""
    with _temporary(path) as (temporary, stream):
        yield stream
        _flush(stream)
        os.replace(temporary, path)
    sync_folder(path.parent)


@contextlib.contextmanager
def whole_path(path: Path) -> Iterator[Path]:
    """A name to write a file, or a folder, under; it becomes `path` when all of it is on the disk.

    For what a library writes that takes names only. A folder that is there already is replaced.
    """
    with scratch_folder(path.parent) as place:
        new = place / path.name
        yield new
        flush_below(new)
        if new.is_dir():
            sync_folder(place)
            with contextlib.suppress(FileNotFoundError):
                os.rename(path, place / f"{path.name}.old")
            os.rename(new, path)
        else:
            os.replace(new, path)
        sync_folder(path.parent)


@contextlib.contextmanager
def folder_lock(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a folder for oneself, or shared with others that only read it; waits for who holds it.

    A folder to be held for oneself is made if need be. Where folders cannot be locked nothing is held.
    """
    while True:
        if not shared:
            make_folder(folder)
        try:
            lock = LockFile(folder, os.O_RDONLY)
        except FileNotFoundError:
            if shared:
                break  # what is read is not there: the reader says so
            continue
        try:
            if lock.take(shared=shared, wait=True) and lock.current:
                break
        except NoLocks:
            break
        lock.close()  # the folder was replaced meanwhile
    try:
        yield
    finally:
        lock.close()


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A folder in `parent` for what is being made; it is gone afterwards, whatever is left in it."""
    make_folder(parent)
    tidy(parent)
    while True:
        place = parent / _name()
        place.mkdir()
        try:
            lock = LockFile(place / _LOCK)
        except FileNotFoundError:
            continue  # another process took the empty folder for a leftover
        with contextlib.suppress(NoLocks):
            if not lock.take(shared=False) or not lock.current:
                lock.close()
                continue
        break
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        lock.close()


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, all of them on the disk afterwards.

    Raises:
        OSError: one of them cannot be made; `filename` is that one.
    """
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        if new.exists() and not new.is_dir():  # mkdir would say "File exists", which hides what is wrong
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(new))
        new.mkdir(exist_ok=True)
        try:
            sync_folder(new.parent)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(new)) from None


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:  # some network file systems have no such thing
            _about(error, folder)
            raise
    finally:
        os.close(handle)


def flush_below(path: Path) -> None:
    """Put a file, or a folder with all that is in it, on the disk."""
    if not path.is_dir():
        with open(path, "rb") as stream:
            os.fsync(stream.fileno())
        return
    if sum(1 for _ in islice(path.rglob("*"), _MANY)) == _MANY:
        os.sync()  # file by file it would take milliseconds each
        return
    for place, _, files in os.walk(path):
        for name in files:
            flush_below(Path(place) / name)
        sync_folder(Path(place))


def remove_leftovers(folder: Path, *, below: bool = False) -> None:
    """Delete temporary files and folders whose owners have died, in `folder` or in all `below` it.

    Only for folders that are the project's own: what version 0.1 left goes as well, if it is not in use.
    """
    for place, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            if _OURS.match(name):
                _remove_if_left(Path(place) / name)
            elif _VERSION_0_1.search(name) and name in files:
                (Path(place) / name).unlink(missing_ok=True)
        folders[:] = [name for name in folders if below and not _OURS.match(name)]


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A temporary file beside `path`, open and locked; gone afterwards, unless it was renamed."""
    make_folder(path.parent)
    tidy(path.parent)
    try:
        temporary, stream = _new_file(path.parent)
        with stream:
            try:
                yield temporary, stream
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        _about(error, path)
        raise


def _new_file(folder: Path) -> tuple[Path, BinaryIO]:
    while True:
        temporary = folder / _name()
        stream = open(temporary, "xb")  # noqa: SIM115 - the caller closes it
        try:
            if take(stream.fileno(), shared=False) and names(stream.fileno(), temporary):
                return temporary, stream
        except NoLocks:
            return temporary, stream
        stream.close()  # another process took it for a leftover before it was locked


def tidy(folder: Path) -> None:
    """Clear `folder` of what dead processes have left, when this process first writes into it."""
    key = os.path.abspath(folder)
    if key in _tidied:
        return
    _tidied.add(key)
    for name in os.listdir(folder):
        if _OURS.match(name):
            _remove_if_left(folder / name)


def _remove_if_left(path: Path) -> None:
    """Remove a temporary file or folder, if nobody holds it."""
    folder = path.is_dir()
    try:
        lock = LockFile(path / _LOCK if folder else path, os.O_RDWR | (os.O_CREAT if folder else 0))
    except OSError:
        return  # gone meanwhile, or not ours to remove
    try:
        try:
            left = lock.take(shared=False)
        except NoLocks:
            left = time.time() - path.stat().st_mtime > _DAY
        if left and folder:
            shutil.rmtree(path, ignore_errors=True)
        elif left:
            path.unlink(missing_ok=True)
    except OSError:
        pass  # not ours to remove
    finally:
        lock.close()


def _name() -> str:
    return f".uml-{uuid.uuid4().hex}.tmp"


def _flush(stream: BinaryIO) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _about(error: OSError, path: Path) -> None:
    """What a full disk says does not tell which file it was about, or names the temporary one."""
    if error.filename is None or _OURS.match(os.path.basename(str(error.filename))):
        error.filename = str(path)
