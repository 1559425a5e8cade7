"""Locks that die with their process: `flock`, and nothing that is decided by a process number.

A lock holds between processes, containers and, where the file system passes it on, machines. The kept library
`filelock` has no lock that readers share, which is what stores need; so `flock` is called itself.
"""

from __future__ import annotations

import errno
import os
import weakref
from pathlib import Path

_UNKNOWN = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


class NoLocks(OSError):
    """The file system knows no locks."""


class LockFile:
    """A file that is open to be locked. `close`, or its own end, lets go of it.

    A process that is forked meanwhile holds nothing: else it would keep the lock after its parent's end.
    """

    def __init__(self, path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> None:
        self.handle: int | None = os.open(path, flags | os.O_CLOEXEC, 0o666)
        self._path = path
        _open.add(self)

    def take(self, *, shared: bool, wait: bool = False) -> bool:
        """Lock the file, for oneself or shared; whether that was possible. Raises `NoLocks`."""
        return self.handle is not None and take(self.handle, shared=shared, wait=wait)

    def free(self) -> None:
        """Unlock the file, and keep it open."""
        if self.handle is not None:
            import fcntl

            fcntl.flock(self.handle, fcntl.LOCK_UN)

    @property
    def current(self) -> bool:
        """Whether the path still is this file: another process may have replaced or deleted it."""
        return self.handle is not None and names(self.handle, self._path)

    def close(self) -> None:
        """Let go of the file."""
        handle, self.handle = self.handle, None
        if handle is not None:
            os.close(handle)

    def __del__(self) -> None:
        if getattr(self, "handle", None) is not None:
            self.close()


def take(handle: int, *, shared: bool, wait: bool = False) -> bool:
    """Lock an open file, for oneself or shared; whether that was possible. Raises `NoLocks`."""
    try:
        import fcntl
    except ImportError as error:
        raise NoLocks(errno.ENOSYS, "this system has no locks (flock)") from error
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(handle, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _UNKNOWN:
            raise NoLocks(error.errno, "the file system has no locks (flock)") from error
        raise
    return True


def names(handle: int, path: Path) -> bool:
    """Whether `path` is the file that `handle` has open."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _let_go() -> None:
    for lock in list(_open):
        lock.close()


_open: weakref.WeakSet[LockFile] = weakref.WeakSet()
os.register_at_fork(after_in_child=_let_go)
