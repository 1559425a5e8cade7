"""Reading ahead in processes: decoders run beside the encoder, on cores of their own and without its locks.

Samples come back in order, through memory that parent and children share. A child that dies or hangs is
replaced and its samples are read again, one by one; a sample that ends two children is unreadable.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import pickle
import signal
import sys
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import islice
from multiprocessing.connection import Connection, Pipe
from typing import Any, Generic, TypeVar

import numpy as np

from uml_cache import fork
from uml_extract.spec import NO_MEMORY, SampleError

Prepared = np.ndarray | SampleError
Key = TypeVar("Key")
"""What names a sample: a row, or whatever else it is made from; it goes through a pipe."""
Request = tuple[Any, int | None]  # a key, and the slot of the shared memory for it

_SHARED_BYTES = 1 << 30  # of address space: pages that no sample touches take no memory
PATIENCE = 300.0  # seconds for one request, before the child is taken to hang
_LARGEST_REQUEST = 16  # samples; messages cost about as much as decoding a tiny picture
_ATTEMPTS = 2
_GLANCE = 0.5  # seconds between two looks whether the parent is still there


CAN_FORK = sys.platform == "linux"  # elsewhere system libraries do not survive it


class ReaderProcesses(Generic[Key]):
    """`count` children that call `prepare`; they start when they are first needed and stay until `close`.

    `prepare` makes an array of a key, of any shape and dtype. `patience` is in seconds, for one request.
    """

    def __init__(
        self, prepare: Callable[[Key], np.ndarray], count: int, ahead: int, *, patience: float = PATIENCE
    ) -> None:
        self._prepare = prepare
        self._ahead = max(ahead, count)
        self._patience = patience
        self._size = max(1, min(_LARGEST_REQUEST, self._ahead // (4 * count)))
        self._children: list[_Child | None] = [None] * count
        self._under_way: list[deque[list[Request]]] = [deque() for _ in range(count)]
        self._slots: _Slots | None = None

    def read(self, rows: Iterator[Key]) -> Generator[tuple[Key, Prepared], None, None]:
        """Yield (row, prepared sample or the reason why there is none) in the order of `rows`.

        At most `ahead` samples wait, besides those that the caller holds. What else `prepare` raises is
        raised here.
        """
        order: deque[int] = deque()  # which child has the next rows
        self._slots = self._slots or _Slots(2 * self._ahead)
        try:
            self._hand_out(rows, order)
            while order:
                child = order.popleft()
                requests = self._under_way[child][0]
                answers = self._answers(child)
                self._under_way[child].popleft()
                self._hand_out(rows, order)
                for (row, slot), answer in zip(requests, answers, strict=True):
                    yield row, self._slots.taken(slot, answer)
        finally:
            if any(self._under_way):
                self.close()

    def close(self) -> None:
        """End the children; a later `read` starts new ones."""
        for at, child in enumerate(self._children):
            if child is not None:
                child.stop()
            self._children[at] = None
            self._under_way[at].clear()
        self._slots = None

    def _hand_out(self, rows: Iterator[Key], order: deque[int]) -> None:
        assert self._slots is not None
        waiting = sum(len(requests) for queue in self._under_way for requests in queue)
        while waiting < self._ahead:
            size = min(self._size, self._ahead - waiting)
            requests = [(row, self._slots.free()) for row in islice(rows, size)]
            if not requests:
                return
            child = min(range(len(self._children)), key=lambda at: len(self._under_way[at]))
            self._child(child).ask(requests)
            self._under_way[child].append(requests)
            order.append(child)
            waiting += len(requests)

    def _child(self, at: int) -> _Child:
        child = self._children[at]
        if child is None:
            assert self._slots is not None
            others = [other.connection for other in self._children if other is not None]
            child = self._children[at] = _Child(self._prepare, self._slots.memory, others)
        return child

    def _answers(self, at: int) -> list[Any]:
        """What the child says to its oldest request."""
        answers, _ = self._child(at).answers(self._patience)
        if answers is not None:
            return answers
        self._end(at)
        requests, *later = self._under_way[at]
        answers = []
        for request in requests:  # one of them is to blame; the others shall not suffer for it
            for _ in range(_ATTEMPTS):
                self._child(at).ask([request])
                found, what = self._child(at).answers(self._patience)
                if found is not None:
                    answers += found
                    break
                self._end(at)
            else:
                answers.append(f"the process that reads it {what}, {_ATTEMPTS} times")
        for requests in later:
            self._child(at).ask(requests)
        return answers

    def _end(self, at: int) -> None:
        child, self._children[at] = self._children[at], None
        if child is not None:
            child.stop()


class _Slots:
    """Shared memory in equal parts. A part is free again when the last array that lies in it is gone."""

    def __init__(self, count: int) -> None:
        self.memory = _Memory(count)
        self._free = list(range(count))

    def free(self) -> int | None:
        """A free slot; None, when the caller holds that many samples: the next ones come through the pipe."""
        return self._free.pop() if self._free else None

    def taken(self, slot: int | None, answer: Any) -> Prepared:
        """A child's answer as the sample it stands for."""
        if slot is None or not isinstance(answer, tuple):
            if slot is not None:
                self._free.append(slot)
            if isinstance(answer, BaseException):
                raise answer
            return SampleError(answer) if isinstance(answer, str) else answer
        dtype, shape = answer
        flat = self.memory.slot(slot, dtype, shape)
        # Every view of the sample keeps `flat` alive, whatever it was cut from.
        weakref.finalize(flat, self._free.append, slot).atexit = False
        return flat.reshape(shape)


class _Memory:
    """Shared with every child that is forked later. It has no name, so nothing of it can be left behind."""

    def __init__(self, slots: int) -> None:
        self.slot_bytes = max(1, _SHARED_BYTES // slots // mmap.PAGESIZE) * mmap.PAGESIZE
        self._bytes = mmap.mmap(-1, slots * self.slot_bytes)

    def slot(self, at: int, dtype: np.dtype, shape: Sequence[int]) -> np.ndarray:
        """The beginning of a slot as a flat array, as many values as `shape` has."""
        return np.frombuffer(self._bytes, dtype, math.prod(shape), at * self.slot_bytes)


class _Child:
    """One forked process and the pipe to it. Requests are answered in order.

    Forked by hand: the start of a `multiprocessing.Process` closes the child's standard input, and waits for
    ever where a thread of the parent was reading from it.
    """

    def __init__(
        self, prepare: Callable[[Any], np.ndarray], memory: _Memory, others: Sequence[Connection]
    ) -> None:
        self.connection, theirs = Pipe()
        foreign = [*others, self.connection]  # ends of the parent: with a copy of them nobody hears it go
        parent = os.getpid()
        self._id = fork()
        if self._id == 0:
            try:
                _serve(theirs, foreign, prepare, memory, parent)
            finally:
                os._exit(0)  # nothing of the parent's is flushed, closed or unwound
        theirs.close()

    def ask(self, requests: list[Request]) -> None:
        with contextlib.suppress(OSError):  # it has ended, which `answers` will say
            self.connection.send(requests)

    def answers(self, patience: float) -> tuple[list[Any] | None, str]:
        """The next answer; None, and what became of the child, if there will not be one."""
        if not self.connection.poll(patience):
            return None, f"did not answer for {patience:.0f} s"
        with contextlib.suppress(EOFError, OSError):
            return self.connection.recv(), ""
        status = self._gone()
        return None, f"was killed by signal {-status}" if status < 0 else "ended"

    def stop(self) -> None:
        if self._id:
            os.kill(self._id, signal.SIGKILL)  # it holds nothing that could be lost
            self._gone()
        self.connection.close()

    def _gone(self) -> int:
        """Wait for the end; the exit status, or less than zero: the signal."""
        status = 0
        with contextlib.suppress(ChildProcessError):
            status = os.waitstatus_to_exitcode(os.waitpid(self._id, 0)[1])
        self._id = 0
        return status


def _serve(
    connection: Connection,
    foreign: Sequence[Connection],
    prepare: Callable[[Any], np.ndarray],
    memory: _Memory,
    parent: int,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's to answer
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for other in foreign:
        other.close()
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)  # a fork has none of its parent's threads
    with contextlib.suppress(EOFError, OSError):
        while True:
            while not connection.poll(_GLANCE):
                if os.getppid() != parent:
                    return
            requests = connection.recv()
            connection.send([_answer(prepare, memory, row, slot) for row, slot in requests])


def _answer(prepare: Callable[[Any], np.ndarray], memory: _Memory, row: int, slot: int | None) -> Any:
    """The sample's dtype and shape, where it fits its slot, or itself; a reason; or what went wrong."""
    try:
        sample = prepare(row)
    except SampleError as error:
        return str(error)
    except MemoryError:
        return NO_MEMORY
    except Exception as error:
        return _portable(error)
    if slot is None or not 0 < sample.nbytes <= memory.slot_bytes or sample.dtype.hasobject:
        return sample
    memory.slot(slot, sample.dtype, sample.shape).reshape(sample.shape)[...] = sample
    return sample.dtype, sample.shape


def _portable(error: Exception) -> Exception:
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # what cannot be pickled fails in many ways
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
