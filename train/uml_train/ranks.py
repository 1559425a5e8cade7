"""Several processes started by torchrun train one run: each takes its part of the cells.

Cells do not depend on each other and each is written whole by one process, so the run is the same as one
process's. The processes meet only to begin together and to write the tables at the end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

_Item = TypeVar("_Item")
_PATIENCE = timedelta(days=7)  # the first to finish waits for the last


@dataclass(frozen=True)
class Ranks:
    """This process's place among those that train together; by default it is alone."""

    rank: int = 0
    world: int = 1

    @classmethod
    def of_environment(cls) -> Ranks:
        """The place that torchrun gave to this process (RANK, WORLD_SIZE), joined to the others by gloo."""
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world == 1:
            return cls()
        import torch
        import torch.distributed as dist

        if not dist.is_initialized():
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            dist.init_process_group(backend, timeout=_PATIENCE)
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    def part(self, items: Sequence[_Item]) -> list[_Item]:
        """Every world-th of the items, so that costly neighbours are shared out."""
        return list(items[self.rank :: self.world])

    def wait(self) -> None:
        """Return when every process is here."""
        if self.world > 1:
            import torch.distributed as dist

            dist.barrier()

    def in_turn(self, work: Callable[[], object]) -> None:
        """Let the first process alone do some work that the others rely on, after all have come here."""
        self.wait()
        if self.first:
            work()
        self.wait()
