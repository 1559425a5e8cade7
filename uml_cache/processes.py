"""A pool of processes that ends with the process that waits for it, whatever becomes of that one."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any


@contextlib.contextmanager
def process_pool(
    processes: int, begin: Callable[..., None] | None = None, *args: Any
) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes, each of which calls `begin(*args)` first. Submit inside `deaf_to_interrupts`.

    Where the block raises, or its process is killed, work under way is dropped and the processes end.
    """
    context = get_context("spawn")
    # A pipe, and no event: its end reaches the workers whatever becomes of this process, and who sets an
    # event waits for its sleepers, which a signal may have ended.
    told, stop = context.Pipe(duplex=False)
    with (
        stop,
        told,
        ProcessPoolExecutor(
            processes, mp_context=context, initializer=_begin, initargs=(told, begin, args)
        ) as pool,
    ):
        try:
            yield pool
        except BaseException:
            stop.close()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _begin(told: Connection, begin: Callable[..., None] | None, args: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_when_told, args=(told,), daemon=True).start()
    if begin is not None:
        begin(*args)


def _end_when_told(told: Connection) -> None:
    """End where the other end of the pipe is closed: the process that waits wants no more, or was killed and
    cannot end its workers, which would then wait for ever for the next piece of work."""
    with contextlib.suppress(OSError):
        told.poll(None)
    os._exit(1)
