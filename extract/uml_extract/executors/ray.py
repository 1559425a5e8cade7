"""Ray: whole tasks, handed to whatever machines the cluster has at the moment.

A task whose worker dies is given to another one; machines may come and go. All of them must see the store and
the data under the same paths.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import uuid
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from uml_cache import InputError, Progress, WorkError

if TYPE_CHECKING:
    from uml_extract.executors import Work
    from uml_extract.executors.worker import Job, Worker

_RETRIES = 5
_AHEAD = 4  # tasks in the queue for every one at work, so that a new machine finds some

_loaded: dict[str, Worker] = {}  # the one worker of a Ray process, by its job's group


class RayExecutor:
    """Every task is one Ray task; at most `workers` of them at once (default: what the cluster holds)."""

    def __init__(self, workers: int | None) -> None:
        self._workers = workers
        self._group = uuid.uuid4().hex
        self._gpus = 0
        self.beside = os.cpu_count() or 1  # every task claims one core

    def join(self, device: str) -> str:
        """Decide whether workers take GPUs; the name of the group that works on the store."""
        self._gpus = int(device != "cpu")
        return self._group

    def share(self, tasks: Iterable[int]) -> list[int]:
        """All of the tasks."""
        return list(tasks)

    def run(self, work: Work, job: Job, tasks: Sequence[int], progress: Progress) -> None:
        """Work through tasks on the workers of the cluster.

        Raises:
            InputError: the encoder is an object.
            WorkError: a task failed after all retries.
        """
        if not job.portable:
            raise InputError("ray loads the encoder on its workers: give the encoder's name, not an object")
        if not tasks:
            return
        import ray

        ours = not ray.is_initialized()
        if ours:
            environment = {"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}}
            address = os.environ.get("RAY_ADDRESS")
            ray.init(
                address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=environment
            )
        try:
            with contextlib.redirect_stdout(sys.stderr):  # Ray's remarks are no result
                self._hand_out(ray, job, tasks, progress)
        finally:
            if ours:
                ray.shutdown()

    def _hand_out(self, ray: Any, job: Job, tasks: Sequence[int], progress: Progress) -> None:
        options = {"num_cpus": 1, "num_gpus": self._gpus, "max_retries": _RETRIES}
        remote = ray.remote(**options)(_run_task)
        shared = ray.put(job)
        rest = iter(tasks)
        waiting = [remote.remote(shared, task) for task in islice(rest, self._room(ray))]
        while waiting:
            finished, waiting = ray.wait(waiting)
            try:
                rows, error = ray.get(finished[0])
            except ray.exceptions.RayError as failure:
                first = str(failure).strip().splitlines()[0]
                raise WorkError(f"a task failed after {_RETRIES} retries by ray: {first}") from None
            if error is not None:
                kind, message = error
                raise InputError(message) if kind == "InputError" else WorkError(message)
            progress.update(rows)
            room = self._room(ray) - len(waiting)
            waiting += [remote.remote(shared, task) for task in islice(rest, max(room, 1))]

    def _room(self, ray: Any) -> int:
        if self._workers is not None:
            return self._workers
        resource = "GPU" if self._gpus else "CPU"
        return max(1, int(ray.cluster_resources().get(resource, 1))) * _AHEAD


def _run_task(job: Job, task: int) -> tuple[int, tuple[str, str] | None]:
    """One task on a Ray worker → rows done and, if it failed for good, the error's kind and words."""
    from uml_extract.executors.worker import Worker

    rows = 0

    def count(done: int) -> None:
        nonlocal rows
        rows += done

    try:
        worker = _loaded.get(str(job.group))
        if worker is None:
            _loaded.clear()
            worker = _loaded[str(job.group)] = Worker(job)
        worker.run(task, count)
    except (InputError, WorkError) as error:
        return rows, (type(error).__name__, str(error))
    return rows, None


def make(*, device: str, workers: int | None) -> RayExecutor:
    """The executor; `InputError` where ray is not installed."""
    try:
        import ray  # noqa: F401
    except ImportError:
        raise InputError("executor ray needs the package ray: pip install 'uml-cache[ray]'") from None
    return RayExecutor(workers)
