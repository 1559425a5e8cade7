"""Several processes started by torchrun train one run: each takes its part of the cells.

Cells do not depend on each other and each is written whole by one process, so the run is the same as one
process's. The processes meet only to begin together and to write the tables at the end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

_Item = TypeVar("_Item")
_PATIENCE = timedelta(days=7)  # the first to finish waits for the last


def speaks() -> bool:
    """Whether this process is alone, or the first of those that torchrun started; it prints for all."""
    return os.environ.get("RANK", "0") == "0"


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

    def summed(self, values: Tensor) -> Tensor:
        """The sum of every process's tensor, of any shape and dtype, on the CPU; alone it is the tensor
        itself."""
        if self.world > 1:
            import torch.distributed as dist

            dist.all_reduce(values)
        return values

    def parallel(self, network: Module, *, partly: bool = False) -> Callable[..., Any]:
        """A network whose gradients are the mean over the processes; alone it is the network itself.

        On CUDA the gradients go through NCCL.

        Args:
            partly: whether some steps leave parameters without a gradient.
        """
        if self.world == 1:
            return network
        import torch.distributed as dist
        from torch.nn.parallel import DistributedDataParallel

        cuda = next(network.parameters()).is_cuda
        group = dist.new_group(backend="nccl") if cuda else None
        return DistributedDataParallel(network, process_group=group, find_unused_parameters=partly)

    def in_turn(self, work: Callable[[], object]) -> None:
        """Let the first process alone do some work that the others rely on, after all have come here."""
        self.wait()
        if self.first:
            work()
        self.wait()
