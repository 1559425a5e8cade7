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
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from uml_cache.errors import InputError
from uml_cache.remote import is_remote, remote_names

JOURNAL = "journal"
PLAN = f"{JOURNAL}/plan.json"
_LOCK = f"{JOURNAL}/lock"
_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp$")
_RECORD = re.compile(r"^(0|[1-9][0-9]*)\.json$")


class BrokenRecord(ValueError):
    """A journal record that cannot be read, or whose content is not what its own checksum says."""


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
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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
        record = json.loads(data)
        written = record.pop("sha256")
        if written == digest(record):
            return record
    except (ValueError, KeyError, AttributeError, TypeError):
        pass
    raise BrokenRecord(f"{path} is not what its own checksum says")


def record_names(store: Path) -> list[int]:
    """Tasks that have a record, in order. Nothing is read."""
    with contextlib.suppress(FileNotFoundError):
        names = remote_names(store / JOURNAL) if is_remote(store) else os.listdir(store / JOURNAL)
        return sorted(int(name[:-5]) for name in names if _RECORD.match(name))
    return []


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
def writer_lock(store: Path) -> Iterator[None]:
    """Be the only local writer of `store`; the lock dies with the process. `InputError` if there is one."""
    import fcntl

    handle = os.open(store / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(handle, 64, 0).decode(errors="replace").strip()
            by = f" (process {owner})" if owner else ""
            raise InputError(
                f"{store} is being written by another run{by}; wait for it to end, or stop it, then run again"
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)
