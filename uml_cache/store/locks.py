"""Who may write a store, and who reads it: nothing is rewritten under a reader's eyes.

Two locks, both gone with their process. Writers hold `journal/lock`, one alone or a group together. Readers
share a lock on `journal/plan.json`, which every store has and which can be locked where nothing can be
written; who takes records away needs it for itself. Object storage has no locks.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from uml_cache.errors import InputError, WorkError
from uml_cache.files.disk import remove_leftovers
from uml_cache.files.flock import LockFile, NoLocks
from uml_cache.store.journal import JOURNAL, PLAN

_LOCK = f"{JOURNAL}/lock"
_PATIENCE = 30.0  # seconds to wait for a member of one's own group
_SETTLING = 2.0  # seconds in which a member that was first may not have written its group's name yet
_OPENING = 3.0  # seconds for which another process may look at a store that it cannot use, or rewrite it


@contextlib.contextmanager
def writer_lock(store: Path, group: str | None = None) -> Iterator[None]:
    """Be the only local writer of `store`, or one of the writers of `group`; the lock dies with its process.

    Processes that name the same group share the lock; they agree among themselves who writes which task. Who
    comes when nobody writes clears away what a writer that died has left. Raises `InputError` when another
    run, of another group or of none, holds the store. Processes forked meanwhile do not hold it.
    """
    lock = LockFile(store / _LOCK)
    try:
        came = time.monotonic()
        while not _enter(lock, store, group):
            owner, _, there = _said(lock).partition(" ")
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
    except NoLocks as error:
        raise WorkError(f"{store}: {error.strerror}; put the cache on one that has") from None
    finally:
        lock.close()


def _enter(lock: LockFile, store: Path, group: str | None) -> bool:
    """Take the lock without waiting; whether that was possible."""
    if lock.take(shared=False):
        content = f"{os.getpid()} {group or ''}".rstrip().encode()
        assert lock.handle is not None
        os.pwrite(lock.handle, content, 0)
        os.ftruncate(lock.handle, len(content))
        remove_leftovers(store, below=True)
        # To share the lock is to let go of it for a moment: another run may be faster.
        return group is None or lock.take(shared=True)
    if group is None or not lock.take(shared=True):
        return False
    if _said(lock).partition(" ")[2] == group:
        return True
    lock.free()
    return False


def _said(lock: LockFile) -> str:
    """Process number and group of who came first, for messages and for those of the same group."""
    assert lock.handle is not None
    return os.pread(lock.handle, 256, 0).decode(errors="replace").strip()


class Reader:
    """Holds a store against being rewritten, until `close` or until nothing refers to it any more.

    Where the file system has no locks, or there is nothing to open, nothing is held. Raises `InputError`
    while another process takes records of the store away.
    """

    def __init__(self, store: Path) -> None:
        try:
            self._lock = _plan_lock(store, shared=True)
        except BlockingIOError:
            raise InputError(
                f"{store} is being rewritten by another process; run again when that has ended"
            ) from None

    def close(self) -> None:
        """Let go of the store."""
        if self._lock is not None:
            self._lock.close()


@contextlib.contextmanager
def rewriting(store: Path) -> Iterator[None]:
    """Keep readers away while records of a sealed store are taken away.

    Raises `InputError` while another process, or this one, has the store open for reading.
    """
    try:
        lock = _plan_lock(store, shared=False)
    except BlockingIOError:
        raise InputError(
            f"{store} is being read (`uml train` or another command has it open) and cannot be rewritten "
            "meanwhile; nothing was changed: run again when that has ended"
        ) from None
    try:
        yield
    finally:
        if lock is not None:
            lock.close()


def _plan_lock(store: Path, *, shared: bool) -> LockFile | None:
    """The readers' lock, taken; None where there are no locks. BlockingIOError where another holds it."""
    came = time.monotonic()
    while True:
        try:
            lock = LockFile(store / PLAN, os.O_RDONLY if shared else os.O_RDWR)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return None
        try:
            if lock.take(shared=shared) and lock.current:
                return lock
        except NoLocks:
            return None
        lock.close()
        if time.monotonic() - came > _OPENING:
            raise BlockingIOError
        time.sleep(0.02)
