"""Executors: who works through the pending tasks of a store. All of them run the same idempotent task.

`local` works in this process, or in one process per device; `torchrun` is one of the ranks that torchrun
(or a Slurm array) started and takes every WORLD_SIZE-th task; `ray` hands whole tasks to a cluster. `slurm`
is not among them: it submits a script whose jobs are ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from uml_cache import InputError, Progress, unknown

if TYPE_CHECKING:
    from uml_extract.executors.worker import Job

NAMES = ("local", "torchrun", "slurm", "ray")
Work = Callable[[Sequence[int]], None]


class Executor(Protocol):
    """Sees to it that every task of its share is done; to repeat a task does no harm.

    `beside` tells, after `join`, how many processes of the extraction share this machine's cores.
    """

    beside: int

    def join(self, device: str) -> str | None:
        """The group of writers that share the store's lock, None where this process is the only one.

        `device` is what the store's plan says of it: `cpu`, or the name of a CUDA device.
        """
        ...

    def share(self, tasks: Iterable[int]) -> list[int]:
        """Those of `tasks` that fall to this executor, the same ones whenever it is asked."""
        ...

    def run(self, work: Work, job: Job, tasks: Sequence[int], progress: Progress) -> None:
        """Do `tasks`: with `work`, in this process, or by `job`, in others. Raises what the work raises."""
        ...


def get_executor(name: str, *, device: str = "auto", workers: int | None = None) -> Executor:
    """The executor of that name; `InputError` if there is none, or if it cannot work here."""
    if name not in NAMES:
        raise unknown("executor", name, NAMES)
    if workers is not None and workers < 1:
        raise InputError(f"--workers is {workers}; it must be at least 1")
    if name == "slurm":
        raise InputError(
            "executor slurm submits the command `uml extract`; from Python use local, torchrun or ray"
        )
    return import_module(f"uml_extract.executors.{name}").make(device=device, workers=workers)
