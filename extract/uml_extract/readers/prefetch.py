"""Reading ahead: samples are decoded while the encoder works on earlier ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Generic, Literal

import numpy as np

from uml_cache import InputError, available_cores
from uml_extract.readers.processes import CAN_FORK, Key, Prepared, ReaderProcesses
from uml_extract.spec import NO_MEMORY, SampleError
from uml_manifests import HeldManifest, Manifest

WORKERS = max(1, min(8, available_cores() - 1))  # threads; the encoder keeps one core busy
_MOST = 16
_LEAST_ROWS = 16  # a further process is not worth starting for fewer


def reader_count(asked: int | Literal["auto"], modality: str, beside: int) -> int:
    """How many processes read samples for one encoder; 0: none, it is done in this one.

    `auto` is a core each, shared with the `beside` encoders of this machine, where samples are decoded
    (pictures, sounds). Texts and rows of arrays cost less than handing them over. `InputError` below 0.
    """
    if asked != "auto" and asked < 0:
        raise InputError(f"--decode-workers is {asked}; expected auto, or a whole number from 0 on")
    if not CAN_FORK or modality not in ("image", "audio"):
        return 0
    cores = available_cores()
    return max(1, min(_MOST, cores // beside)) if asked == "auto" else asked


def readers_for(manifest: Manifest, asked: int | Literal["auto"], beside: int) -> int:
    """`reader_count` for a manifest; 0 where samples come over connections of this process.

    Threads read those: a forked process cannot use them.
    """
    count = reader_count(asked, manifest.modality, beside)
    return 0 if isinstance(manifest, HeldManifest) and manifest.fetched else count


class Reading(Generic[Key]):
    """Reads the samples of any number of sequences, one after the other, `ahead` of who takes them.

    A sample is named by its row, or by a key that says how it is to be prepared as well. `prepare` makes an
    array of it, of any shape and dtype.

    `processes` children decode them; with 0, threads of this process. `ahead` 0 does without both.
    """

    def __init__(self, prepare: Callable[[Key], np.ndarray], ahead: int, processes: int, rows: int) -> None:
        count = min(processes, -(-rows // _LEAST_ROWS))
        self._prepare = prepare
        self._ahead = ahead
        self._processes = ReaderProcesses(prepare, count, ahead) if count and ahead else None

    def read(self, rows: Iterator[Key]) -> Generator[tuple[Key, Prepared], None, None]:
        """(row, prepared sample or the reason why there is none) in the order of `rows`."""
        if self._processes is not None:
            return self._processes.read(rows)
        return read_ahead(rows, self._prepare, self._ahead)

    def close(self) -> None:
        """End the processes."""
        if self._processes is not None:
            self._processes.close()


def read_ahead(
    rows: Iterator[Key], prepare: Callable[[Key], np.ndarray], ahead: int
) -> Generator[tuple[Key, Prepared], None, None]:
    """Yield each row and its prepared sample, or the reason why there is none, in the order of `rows`.

    Threads prepare them; samples may have any shape and dtype. At most `ahead` of them wait in memory.
    `ahead` 0 does without threads, for samples that cost less than handing them over.
    """

    def attempt(row: Key) -> Prepared:
        try:
            return prepare(row)
        except SampleError as error:
            return error
        except MemoryError:
            return SampleError(NO_MEMORY)

    if ahead == 0:
        for row in rows:
            yield row, attempt(row)
        return
    pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="reader")
    waiting: deque[tuple[Key, Future[Prepared]]] = deque()
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
