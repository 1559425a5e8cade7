"""Reading ahead: samples are decoded in threads while the encoder works on earlier ones."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import numpy as np

from uml_extract.spec import SampleError

Prepared = np.ndarray | SampleError
WORKERS = max(1, min(8, (os.cpu_count() or 1) - 1))  # the encoder keeps one core busy


def read_ahead(
    rows: Iterator[int], prepare: Callable[[int], np.ndarray], ahead: int
) -> Generator[tuple[int, Prepared], None, None]:
    """Yield (row, prepared sample or the reason why there is none) in the order of `rows`.

    At most `ahead` samples wait in memory. `ahead` 0 does without threads, for samples that cost less than
    handing them over.
    """

    def attempt(row: int) -> Prepared:
        try:
            return prepare(row)
        except SampleError as error:
            return error

    if ahead == 0:
        for row in rows:
            yield row, attempt(row)
        return
    pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="reader")
    waiting: deque[tuple[int, Future[Prepared]]] = deque()
    try:
        for row in islice(rows, ahead):
            waiting.append((row, pool.submit(attempt, row)))
        while waiting:
            row, future = waiting.popleft()
            yield row, future.result()
            for following in islice(rows, 1):
                waiting.append((following, pool.submit(attempt, following)))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
