"""A process that dies (SIGKILL) at the n-th call that changes the disk; for the kill scripts."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

_CALLS = ("link", "replace", "rename", "fsync", "mkdir", "unlink", "rmdir")


def die_at(moment: int, after: bool) -> None:
    """Have this process die at the call with this number, before it or after it; none has the number 0."""
    calls = 0

    def target(name: str) -> None:
        real = getattr(os, name)

        def call(*arguments: object, **options: object) -> object:
            nonlocal calls
            calls += 1
            mine = calls == moment
            if mine and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*arguments, **options)
            if mine:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(os, name, call)

    for name in _CALLS:
        target(name)


def dies(work: Callable[[], object], moment: int, after: bool) -> bool:
    """Do the work in a child that dies at one call; whether it died."""
    child = os.fork()
    if not child:
        die_at(moment, after)
        try:
            work()
        except BaseException as error:
            print(f"unexpected: {error!r}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        sys.exit("the work itself failed")
    return status != 0
