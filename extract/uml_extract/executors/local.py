"""This machine: the work of one process, or of one process per device that are handed tasks as they go.

A worker that dies, or says nothing for `stall` seconds, is replaced, and its task is done by another.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import selectors
import subprocess
import sys
import time
import uuid
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import IO, TYPE_CHECKING, Any

from uml_cache import InputError, Progress, WorkError, available_cores, deaf_to_interrupts

if TYPE_CHECKING:
    from uml_extract.executors import Work
    from uml_extract.executors.worker import Job

_ATTEMPTS = 2  # a task that takes two workers with it is at fault itself
STALL_SECONDS = 900.0


class LocalExecutor:
    """In this process or, with more than one device or worker, in one process each.

    A process gets its next task when it has done the last. `device` is the one asked for, `workers` the
    number of processes (default: one per CUDA device if any may be used, else this one).
    """

    def __init__(self, device: str, workers: int | None, stall: float = STALL_SECONDS) -> None:
        self._device = device
        self._workers = workers
        self._stall = stall
        self._slots: list[str | None] = [None]

    @property
    def beside(self) -> int:
        """How many encoders share this machine."""
        return len(self._slots)

    def join(self, device: str) -> str | None:
        """Decide on the devices; the name of the group that works on the store, None for one process."""
        self._slots = [None]
        if device != "cpu" and self._device in ("auto", "cuda"):
            self._slots = list(_cuda_devices())
        if self._workers is not None:
            self._slots = [self._slots[at % len(self._slots)] for at in range(self._workers)]
        return None if len(self._slots) == 1 else uuid.uuid4().hex

    def share(self, tasks: Iterable[int]) -> list[int]:
        """All of the tasks."""
        return list(tasks)

    def run(self, work: Work, job: Job, tasks: Sequence[int], progress: Progress) -> None:
        """Work through tasks here, or hand them out to processes."""
        if len(self._slots) == 1 or not job.portable:
            work(tasks)
        else:
            self._hand_out(job, tasks, progress)

    def _hand_out(self, job: Job, tasks: Sequence[int], progress: Progress) -> None:
        waiting = deque(tasks)
        lost: Counter[int] = Counter()
        sent = pickle.dumps(job)
        with selectors.DefaultSelector() as selector:
            workers: set[_Process] = set()

            def start(device: str | None) -> None:
                with deaf_to_interrupts():  # one that comes meanwhile finds a worker that can be stopped
                    worker = _Process(sent, device, len(self._slots))
                    workers.add(worker)
                selector.register(worker.output, selectors.EVENT_READ, worker)

            def stop(worker: _Process) -> None:
                workers.discard(worker)
                with contextlib.suppress(KeyError):  # an interrupt came before it was registered
                    selector.unregister(worker.output)
                worker.stop()

            try:
                for device in self._slots[: len(tasks)]:
                    start(device)
                while workers:
                    for key, _ in selector.select(timeout=min(1.0, self._stall)):
                        worker: _Process = key.data
                        for answer in worker.answers():
                            if answer == "ready" or "done" in answer:
                                worker.task = None
                            elif "rows" in answer:
                                progress.update(answer["rows"])
                            else:
                                kind, message = answer["error"]
                                raise InputError(message) if kind == "InputError" else WorkError(message)
                        if worker.idle and worker.task is None:
                            if waiting:
                                worker.hand(waiting.popleft())
                            else:
                                stop(worker)
                    for worker in list(workers):
                        patience = (
                            STALL_SECONDS if worker.task is None else self._stall
                        )  # weights load slowly
                        if not worker.ended and worker.silent < patience:
                            continue
                        what = "exited" if worker.ended else "stopped answering"
                        stop(worker)
                        task = worker.task
                        if task is None:
                            raise WorkError(
                                f"a worker {what} before its first task. Rerun with --workers 1 to see "
                                "the error"
                            )
                        lost[task] += 1
                        rows = f"samples {(span := job.rows_of(task)).start} to {span.stop - 1}"
                        if lost[task] == _ATTEMPTS:
                            raise WorkError(
                                f"{_ATTEMPTS} workers {what} in task {task} ({rows}); finished tasks are kept"
                            )
                        waiting.appendleft(task)
                        progress.update(-worker.rows)
                        start(worker.device)
            finally:
                for worker in list(workers):
                    stop(worker)


class _Process:
    """A worker process as its parent sees it: the task in hand, and when it last said something."""

    def __init__(self, job: bytes, device: str | None, beside: int) -> None:
        threads = str(max(1, available_cores() // beside))
        environment = {"OMP_NUM_THREADS": threads, **os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
        self._process = subprocess.Popen(
            [sys.executable, "-m", "uml_extract.executors.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input: IO[bytes] = self._process.stdin
        self.output: IO[bytes] = self._process.stdout
        self.device = device
        self.task: int | None = None
        self.idle = False
        self.ended = False
        self.rows = 0
        self._heard = time.monotonic()
        self._rest = b""
        self._send(job)

    @property
    def silent(self) -> float:
        """Seconds since the last word."""
        return time.monotonic() - self._heard

    def hand(self, task: int) -> None:
        self.task, self.idle, self.rows = task, False, 0
        self._heard = time.monotonic()
        self._send(b"%d\n" % task)

    def answers(self) -> list[Any]:
        """What came since the last call; sets `ended` when nothing more will."""
        data = os.read(self.output.fileno(), 1 << 16)
        self.ended = not data
        self._heard = time.monotonic()
        *lines, self._rest = (self._rest + data).split(b"\n")
        found = [json.loads(line) for line in lines]
        for answer in found:
            if answer == "ready" or "done" in answer:
                self.idle = True
            elif "rows" in answer:
                self.rows += answer["rows"]
        return found

    def stop(self) -> None:
        self._process.kill()  # what it was writing has no record, so it does not exist
        self._process.wait()
        for stream in (self._input, self.output):
            with contextlib.suppress(OSError):
                stream.close()

    def _send(self, data: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has ended, which its output will say
            self._input.write(data)
            self._input.flush()


def make(*, device: str, workers: int | None) -> LocalExecutor:
    """The executor of this machine."""
    return LocalExecutor(device, workers)


def _cuda_devices() -> list[str]:
    """The CUDA devices, as a child's CUDA_VISIBLE_DEVICES names them."""
    import torch

    names = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return names or [str(at) for at in range(torch.cuda.device_count())]
