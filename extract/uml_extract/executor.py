"""Executors: who works through the pending tasks of a store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from uml_cache.errors import unknown

Work = Callable[[Sequence[int]], None]


class Executor(Protocol):
    """Calls `work`, once or several times, so that it meets every task; to repeat a task does no harm."""

    def run(self, work: Work, tasks: Sequence[int]) -> None: ...


class LocalExecutor:
    """All tasks in this process, in order."""

    def run(self, work: Work, tasks: Sequence[int]) -> None:
        work(tasks)


EXECUTORS: dict[str, Callable[[], Executor]] = {"local": LocalExecutor}


def get_executor(name: str) -> Executor:
    """The executor of that name; `InputError` if there is none."""
    if name not in EXECUTORS:
        raise unknown("executor", name, EXECUTORS)
    return EXECUTORS[name]()
