"""The journal: which files of a store exist, with their checksums; and how files come to be at all.

Every file is written under a temporary name, flushed to the disk and renamed; the record that lists it
comes last. What no record lists does not exist. `journal/plan.json` lists what planning wrote,
`journal/<task>.json` what each task wrote. A record carries the sha256 of its own content.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from uml_cache.documents import parse_json
from uml_cache.errors import InputError
from uml_cache.remote import is_remote, remote_names

JOURNAL = "journal"
PLAN = f"{JOURNAL}/plan.json"
_LOCK = f"{JOURNAL}/lock"
_PATIENCE = 30.0  # seconds to wait for a member of one's own group
_SETTLING = 2.0  # seconds in which a member that was first may not have written its group's name yet
_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp$")
_RECORD = re.compile(r"^(0|[1-9][0-9]*)\.json$")


class BrokenRecord(ValueError):
    """A journal record that cannot be read, or whose content is not what its own checksum says."""


@dataclass(frozen=True)
class FailedRow:
    """A sample that could not be read: its row in the store, its id, why, and the task that holds it."""

    row: int
    id: str
    reason: str
    task: int


def canonical(value: Any) -> bytes:
    """One spelling of a JSON value, for checksums and comparison."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest(value: Any) -> str:
    """sha256 of a JSON value's canonical spelling."""
    return hashlib.sha256(canonical(value)).hexdigest()


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that appears under `path` only when it is complete and on the disk."""
    if not path.parent.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        sync_folder(path.parent.parent)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        _name(error, path)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        _name(error, folder)
        raise
    finally:
        os.close(handle)


def _name(error: BaseException, path: Path) -> None:
    """What a full disk says does not tell which file it was about."""
    if isinstance(error, OSError) and error.filename is None:
        error.filename = str(path)


def write_record(store: Path, name: str, content: dict[str, Any]) -> None:
    """Write `journal/<name>.json`; from then on what it lists exists."""
    with whole_file(store / JOURNAL / f"{name}.json") as stream:
        stream.write(record_bytes(content))


def record_bytes(content: dict[str, Any]) -> bytes:
    """A record with the sha256 of its own content."""
    record = {**content, "sha256": digest(content)}
    return json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False).encode()


def read_record(path: Path) -> dict[str, Any]:
    """A record's content; `BrokenRecord` if it is damaged, FileNotFoundError if there is none."""
    data = path.read_bytes()
    try:
        record = parse_json(data)
        written = record.pop("sha256")
        if written == digest(record):
            return record
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        pass
    raise BrokenRecord(f"{path} is not what its own checksum says")


def record_names(store: Path) -> list[int]:
    """Tasks that have a record, in order. Nothing is read."""
    with contextlib.suppress(FileNotFoundError):
        names = remote_names(store / JOURNAL) if is_remote(store) else os.listdir(store / JOURNAL)
        return sorted(int(name[:-5]) for name in names if _RECORD.match(name))
    return []


def failed_rows(store: Path, tasks: Iterable[int]) -> list[FailedRow]:
    """The rows that failed in `tasks`, in order. A task without a sound record has none."""
    found = []
    for task in sorted(tasks):
        with contextlib.suppress(BrokenRecord, FileNotFoundError):
            record = read_record(store / JOURNAL / f"{task}.json")
            found += [
                FailedRow(sample["row"], sample["id"], sample["reason"], task) for sample in record["failed"]
            ]
    return found


def remove_record(store: Path, task: int) -> None:
    """Take a task's record away, before its files are written anew."""
    path = store / JOURNAL / f"{task}.json"
    if path.exists():
        path.unlink()
        if not is_remote(path):
            sync_folder(path.parent)


def remove_leftovers(store: Path) -> None:
    """Delete the temporary files of a writer that died. Only for who holds the lock."""
    for folder, _, names in os.walk(store):
        for name in names:
            if _TEMPORARY.search(name):
                (Path(folder) / name).unlink(missing_ok=True)


@contextlib.contextmanager
def writer_lock(store: Path, group: str | None = None) -> Iterator[None]:
    """Be the only local writer of `store`, or one of the writers of `group`; the lock dies with its process.

    Processes that name the same group share the lock; they agree among themselves who writes which task. Who
    comes when nobody writes clears away what a writer that died has left. Raises `InputError` when another
    run, of another group or of none, holds the store. Processes forked meanwhile do not hold it.
    """
    handle = os.open(store / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    _held.add(handle)
    try:
        came = time.monotonic()
        while not _enter(handle, store, group):
            owner, _, there = os.pread(handle, 256, 0).decode(errors="replace").strip().partition(" ")
            # A member of our group may hold the lock for itself while it clears the store for all of us.
            patience = 0.0 if group is None else _PATIENCE if there == group else _SETTLING
            if time.monotonic() - came > patience:
                by = f" (process {owner})" if owner else ""
                raise InputError(
                    f"{store} is being written by another run{by}; wait for it to end, or stop it, then run "
                    "again"
                )
            time.sleep(0.02)
        yield
    finally:
        if handle in _held:
            _held.discard(handle)
            os.close(handle)


def _let_go() -> None:
    """A forked child holds no lock: else it would keep its parent's for a while after the parent's end."""
    while _held:
        os.close(_held.pop())


_held: set[int] = set()  # open lock files of this process
os.register_at_fork(after_in_child=_let_go)


def _enter(handle: int, store: Path, group: str | None) -> bool:
    """Take the lock without waiting; whether that was possible."""
    if _locked(handle, shared=False):
        content = f"{os.getpid()} {group or ''}".rstrip().encode()
        os.pwrite(handle, content, 0)
        os.ftruncate(handle, len(content))
        remove_leftovers(store)
        # To share the lock is to let go of it for a moment: another run may be faster.
        return group is None or _locked(handle, shared=True)
    if group is None or not _locked(handle, shared=True):
        return False
    if os.pread(handle, 256, 0).decode(errors="replace").partition(" ")[2] == group:
        return True
    _unlock(handle)
    return False


def _locked(handle: int, *, shared: bool) -> bool:
    import fcntl

    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unlock(handle: int) -> None:
    import fcntl

    fcntl.flock(handle, fcntl.LOCK_UN)
