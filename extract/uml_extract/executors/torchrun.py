"""One rank of several that torchrun, or a Slurm array, started: it takes tasks r, r + world, r + 2 world, …

Ranks never talk to each other. Which tasks are whose follows from the rank alone, whatever is done already
and whoever comes late; so none is lost and none is done twice.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from uml_cache import InputError, Progress

if TYPE_CHECKING:
    from uml_extract.executors import Work
    from uml_extract.executors.worker import Job


class TorchrunExecutor:
    """The rank that the environment describes (RANK, WORLD_SIZE, LOCAL_…, TORCHELASTIC_RUN_ID)."""

    def __init__(self, rank: int, world: int, run: str, beside: int = 1) -> None:
        self.rank, self.world = rank, world
        self.beside = max(1, beside)
        self._run = run

    def join(self, device: str) -> str:
        """The name of the run, which is that of the group that works on the store."""
        return self._run

    def share(self, tasks: Iterable[int]) -> list[int]:
        """This rank's tasks."""
        return [task for task in tasks if task % self.world == self.rank]

    def run(self, work: Work, job: Job, tasks: Sequence[int], progress: Progress) -> None:
        """Work through tasks in this process."""
        work(tasks)


def make(*, device: str, workers: int | None) -> TorchrunExecutor:
    """The rank of this process; `InputError` where nobody started ranks."""
    if workers is not None:
        raise InputError("--workers goes with local, slurm and ray; torchrun is told --nproc-per-node")
    try:
        rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    except (KeyError, ValueError):
        raise InputError(
            "executor torchrun finds no RANK and WORLD_SIZE; start it as `torchrun --nproc-per-node 4 "
            "--no-python uml extract --executor torchrun …`"
        ) from None
    if not 0 <= rank < world:
        raise InputError(f"RANK is {rank} and WORLD_SIZE {world}; expected 0 ≤ RANK < WORLD_SIZE")
    if "torch" in sys.modules or os.path.exists("/proc/driver/nvidia"):  # numpy encoders do without torch
        import torch

        if torch.cuda.is_available():
            torch.cuda.set_device(local_rank % torch.cuda.device_count())  # what `cuda` means from now on
    parts = (os.environ.get(name, "") for name in ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT"))
    return TorchrunExecutor(rank, world, ":".join(parts), beside)
