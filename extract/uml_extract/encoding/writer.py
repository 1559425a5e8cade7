"""Writing behind: finished tasks are hashed and flushed to the disk while the encoder is at the next ones."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from uml_cache import FeatureStore

_AT_ONCE = 2  # one waits for the disk while the other is converted and hashed


@contextlib.contextmanager
def task_writer(store: FeatureStore) -> Iterator[Callable[[tuple[Any, ...]], None]]:
    """A function that takes the arguments of `store.write_task` and returns before the task is committed.

    At most two tasks are under way; a third waits for the first. What a commit raises is raised by a later
    call or at the end, when every task that was given is committed. After an error those under way are still
    finished.
    """
    waiting: deque[Future[None]] = deque()
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="writer") as pool:

        def write(task: tuple[Any, ...]) -> None:
            if len(waiting) == _AT_ONCE:
                waiting.popleft().result()
            waiting.append(pool.submit(store.write_task, *task))

        yield write
        while waiting:
            waiting.popleft().result()
