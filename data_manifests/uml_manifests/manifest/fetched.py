"""Samples that lie on object storage: each is fetched when it is read, and the next ones with it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from uml_cache import RemotePath

_AHEAD = 32  # objects that are on their way at once


class Fetched(Sequence[Any]):
    """The content of objects; who asks for one has the next ones fetched, too."""

    def __init__(self, place: RemotePath, names: Sequence[str]) -> None:
        self._place, self._names = place, names
        self._begin()

    def _begin(self) -> None:
        self._pool = ThreadPoolExecutor(_AHEAD, thread_name_prefix="fetch")
        self._waiting: dict[int, Future[bytes]] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"_place": self._place, "_names": self._names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def some(self, rows: Sequence[int]) -> Fetched:
        """Those of `rows` alone; nothing is fetched yet."""
        return Fetched(self._place, [self._names[row] for row in rows])

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, row: Any) -> bytes:
        """The bytes of one object.

        Raises:
            FileNotFoundError: it is gone.
            WorkError: the storage fails, after a minute of trying again.
        """
        with self._lock:
            last = min(row + _AHEAD, len(self))
            newest = max(self._waiting, default=row)
            for at in {row, *range(max(newest, row) + 1, last)}:
                if at not in self._waiting:
                    self._waiting[at] = self._pool.submit(self._fetch, at)
            own = self._waiting.pop(row)
            # Who goes on elsewhere, with another task, leaves nothing behind in memory.
            for at in [at for at in self._waiting if not row - _AHEAD <= at < row + 2 * _AHEAD]:
                self._waiting.pop(at).cancel()
        return own.result()

    def _fetch(self, row: int) -> bytes:
        return (self._place / self._names[row]).read_bytes()
