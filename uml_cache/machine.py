"""What this machine has to offer to a process."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import threading
import warnings
from collections.abc import Iterator


def available_cores() -> int:
    """Cores that this process may use: its affinity where the system has one, else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def no_processes() -> str | None:
    """Why work cannot be shared with further processes here; None where it can."""
    from multiprocessing import get_context

    try:
        get_context("spawn").Event()  # semaphores, which lie in shared memory
    except (OSError, ImportError) as error:
        said = getattr(error, "strerror", None) or str(error)
        return f"this machine has no shared memory that can be written (/dev/shm: {said})"
    return None


def fork() -> int:
    """`os.fork`, for a child that goes on in Python without the parent's other threads; its id, or 0 in it.

    What the child inherits is never collected there. An ONNX session, for example, waits in its destructor
    for threads that the child does not have, for ever. The child must leave by `os._exit`.

    Raises:
        OSError: the machine has no room for another process.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks beside threads
        child = os.fork()
    if child == 0:
        gc.freeze()
    return child


@contextlib.contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Processes that are started inside do not hear Ctrl-C, from their first moment: it goes to all processes
    of a terminal, and the one that waits answers it for all."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # They inherit the mask. One that comes meanwhile waits here, and is not lost as an ignored one would be.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _signals_wait():
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """SIGINT and SIGTERM are answered after the block. A mask is one thread's: the kernel gives the signal to
    another thread, and Python raises in the main one, where a process half started would be left behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    kept = {which: signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM)}
    heard = [which for which, handler in kept.items() if callable(handler)]
    for which in heard:
        signal.signal(which, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for which in heard:
            signal.signal(which, kept[which])
        for number in came[:1]:
            signal.raise_signal(number)


def memory_bytes() -> int:
    """The machine's main memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
