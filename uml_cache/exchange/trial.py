"""Work on a file that may be crafted, tried first in a process of its own.

C libraries that were not written for hostile files run in circles on some of them, or crash. What a child
survives, this process does next; what it does not is one error.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from uml_cache.errors import InputError
from uml_cache.machine import fork

PATIENCE = 30.0  # seconds, and more for a large file
_RATE = 20e6  # bytes a second, the slowest disk that is waited for
_GLANCE = 0.002
_LONGEST_GLANCE = 0.05


def try_first(path: Path, work: Callable[[], object]) -> None:
    """Do `work` in a child; what it raises there is not heard. `InputError` where it crashes or never ends.

    Linux alone: elsewhere libraries do not survive a fork, and nothing is tried.
    """
    if sys.platform != "linux":
        return
    try:
        child = fork()
    except OSError:
        return
    if child == 0:
        try:
            with contextlib.suppress(BaseException):
                work()
        finally:
            os._exit(0)
    status = _wait(child, PATIENCE + path.stat().st_size / _RATE)
    if status is None:
        raise InputError(f"{path}: reading it does not finish; the file is damaged")
    if status < 0:
        raise InputError(f"{path}: reading it crashes the library (signal {-status}); the file is damaged")


def _wait(child: int, seconds: float) -> int | None:
    """The child's exit status, less than zero a signal; None once it was ended because it took too long."""
    end, glance = time.monotonic() + seconds, _GLANCE
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(glance)
        glance = min(2 * glance, _LONGEST_GLANCE)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None
