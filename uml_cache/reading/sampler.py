"""Which rows in which order, decided by (seed, modality, epoch) alone.

The generator is counter-based (Philox): its key is (seed, hash of the modality's name), its counter starts at
the epoch. An epoch's order therefore depends on nothing else that runs, and can be made without the ones
before it. Shapes: n rows of the set, B rows a batch, C classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from uml_cache.errors import InputError, unknown

ORDERS = ("shuffled", "sequential", "balanced", "windowed")


@dataclass(frozen=True, eq=False, kw_only=True)
class Sampler:
    """Rows of a store in batches.

    `rows` (n,) are rows of the store: all, a split, a few-shot draw. `order`:

    - `shuffled`: a permutation of the rows, a fresh one every epoch;
    - `sequential`: as given, every epoch;
    - `balanced`: about n rows in rounds of one row of every class, the smaller classes' rows used again
      (`labels` (N,), of the whole store, are needed);
    - `windowed`: blocks of `block_rows` neighbouring rows of the store in random order, rows shuffled among
      `window_blocks` blocks at a time: what is larger than memory is then read in large pieces.

    With `world` > 1 each `rank` gets every world-th row, so that the ranks' batches together are one batch
    of the whole order; all but `sequential` repeat a few rows so that every rank has equally many. The last
    batch is shorter, or left out with `drop_last`; a set smaller than B is one batch all the same.
    """

    rows: np.ndarray
    batch_size: int
    seed: int = 0
    modality: str = ""
    order: str = "shuffled"
    labels: np.ndarray | None = field(default=None, repr=False)
    block_rows: int = 8192
    window_blocks: int = 16
    drop_last: bool = False
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", np.asarray(self.rows, dtype=np.int64))
        if self.order not in ORDERS:
            raise unknown("order", self.order, ORDERS)
        if len(self.rows) == 0:
            raise InputError("there are no rows to sample from")
        if self.batch_size < 1:
            raise InputError(f"a batch needs at least one row, got a batch size of {self.batch_size}")
        if not 0 <= self.seed < 1 << 64:
            raise InputError(f"a seed lies between 0 and 2**64 - 1, got {self.seed}")
        if not 0 <= self.rank < self.world:
            raise InputError(f"rank {self.rank} does not exist among {self.world}")
        if self.block_rows < 1 or self.window_blocks < 1:
            raise InputError("block_rows and window_blocks must be at least 1")
        if self.order == "balanced" and self.labels is None:
            raise InputError("a balanced order needs the labels")

    def __len__(self) -> int:
        """Batches of an epoch, on this rank."""
        rows = self._rows_here()
        whole, rest = divmod(rows, self.batch_size)
        return whole + (rest > 0 and (whole == 0 or not self.drop_last))

    def generator(self, epoch: int) -> np.random.Generator:
        """The epoch's generator, the same on every rank."""
        name = int.from_bytes(hashlib.sha256(self.modality.encode()).digest()[:8], "little")
        key = np.array([self.seed, name], dtype=np.uint64)
        counter = np.array([0, 0, 0, epoch], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=counter))

    def epoch(self, epoch: int) -> np.ndarray:
        """The rows of this rank in the epoch's order, (n_rank,) int64, batches not yet cut."""
        order = self._order(epoch)
        if self.world > 1 and self.order != "sequential":
            order = np.resize(order, -(-len(order) // self.world) * self.world)
        return order[self.rank :: self.world]

    def batches(self, epoch: int) -> Iterator[np.ndarray]:
        """The epoch's batches on this rank, each (B,) int64 rows of the store; the last may be shorter."""
        order = self.epoch(epoch)
        for cut in self.cuts():
            yield order[cut]

    def cuts(self) -> Iterator[slice]:
        """Where an epoch's order is cut into batches."""
        rows = self._rows_here()
        for at in range(len(self)):
            yield slice(at * self.batch_size, min((at + 1) * self.batch_size, rows))

    def _rows_here(self) -> int:
        if self.order == "sequential":
            return max(0, -(-(len(self.rows) - self.rank) // self.world))
        return -(-len(self.rows) // self.world)

    def _order(self, epoch: int) -> np.ndarray:
        if self.order == "sequential":
            return self.rows
        generator = self.generator(epoch)
        if self.order == "shuffled":
            return generator.permutation(self.rows)
        if self.order == "balanced":
            return self._balanced(generator)
        return self._windowed(generator)

    def _balanced(self, generator: np.random.Generator) -> np.ndarray:
        assert self.labels is not None
        labels = np.asarray(self.labels)[self.rows]
        classes = np.unique(labels)
        rounds = -(-len(self.rows) // len(classes))
        drawn = np.empty((rounds, len(classes)), dtype=np.int64)
        for column, label in enumerate(classes):
            members = self.rows[labels == label]
            passes = -(-rounds // len(members))
            drawn[:, column] = np.concatenate([generator.permutation(members) for _ in range(passes)])[
                :rounds
            ]
        return generator.permuted(drawn, axis=1).reshape(-1)[: len(self.rows)]

    def _windowed(self, generator: np.random.Generator) -> np.ndarray:
        blocks, block_of = np.unique(self.rows // self.block_rows, return_inverse=True)
        place = generator.permutation(len(blocks))[block_of]
        window = place // self.window_blocks
        return self.rows[np.lexsort((generator.random(len(self.rows)), window))]
