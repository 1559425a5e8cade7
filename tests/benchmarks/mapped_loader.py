"""Race of the mapped loader: shuffled epochs and few random rows, against the usual ways to read features.

    python tests/benchmarks/mapped_loader.py --rows 1000000

Every side reads the same float16 values with one torch thread from a warm page cache; the sides take turns,
and medians of the rounds are compared. `needed` is what the project promises for 1,000,000 rows of 384.

- index_select: a plain loop over a tensor in memory, into a reused buffer: the bound.
- zarr-python: epochs the way that suits it best, whole shards in random order, rows shuffled within each;
  random rows through `oindex`. It keeps its own default threads.
- DataLoader: `TensorDataset` in memory, batched, shuffled, no workers; timed on a part of an epoch, since it
  works per sample.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from torch.utils.data import DataLoader, TensorDataset

from uml_cache import StorePlan, create_or_resume, open_features
from uml_cache.reading import HostLoader, Sampler

FEW_ROWS = 1600
NEEDED = {"index_select": 0.8, "zarr-python": 3.0, "DataLoader": 20.0, "zarr-python, few rows": 300.0}


def build(path: Path, rows: int, dim: int) -> None:
    """A sealed float16 store of N(0, 2) values."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 100, rows).astype(np.int32)
    plan = StorePlan(
        dataset="race",
        modality="image",
        encoder={"name": "normal"},
        manifest_digest="race",
        classes=[str(label) for label in range(100)],
        ids=[str(row) for row in range(rows)],
        labels=labels,
        splits=np.zeros(rows, np.uint8),
        pooled_dim=dim,
        batch_size=1,
        versions={},
        device="cpu",
    )
    store = create_or_resume(path, plan)
    with store.lock():
        for task in store.pending():
            size = len(store.rows_of(task))
            values = generator.standard_normal((size, dim), dtype=np.float32) * np.float32(2)
            store.write_task(task, values, None, np.zeros(size, np.uint8), {}, 0.0)


class Race:
    """The sides, over one store. Each method reads and returns the number of rows."""

    def __init__(self, path: Path, batch: int, part: float) -> None:
        self.features = open_features(path, access="mapped")
        self.rows = len(self.features)
        self.batch = batch
        self.part = part
        self.labels = torch.from_numpy(self.features.label.astype(np.int64))
        self.memory = open_features(path, access="memory").pooled
        self.zarr = zarr.open_group(path, mode="r")["pooled"]
        self.buffer = torch.empty((batch, self.memory.shape[1]), dtype=self.memory.dtype)
        sampler = Sampler(rows=np.arange(self.rows), batch_size=batch, modality="image")
        self.loader = HostLoader(self.features, sampler)
        self.generator = torch.Generator().manual_seed(0)
        self.numpy = np.random.default_rng(0)
        self.dataset = TensorDataset(self.memory, self.labels)

    def mapped_epoch(self, at: int) -> int:
        return sum(len(batch.values) for batch in self.loader.epoch(at))

    def memory_epoch(self, at: int) -> int:
        order = torch.randperm(self.rows, generator=self.generator)
        total = 0
        for first in range(0, self.rows, self.batch):
            index = order[first : first + self.batch]
            values = torch.index_select(self.memory, 0, index, out=self.buffer[: len(index)])
            self.labels[index]
            total += len(values)
        return total

    def zarr_epoch(self, at: int) -> int:
        step = self.zarr.shards[0]
        total = 0
        for first in self.numpy.permutation(np.arange(0, self.rows, step)):
            block = torch.from_numpy(self.zarr[first : first + step])
            order = torch.randperm(len(block), generator=self.generator)
            for index in order.split(self.batch):
                values, _ = torch.index_select(block, 0, index), self.labels[first + index]
                total += len(values)
        return total

    def dataloader_epoch(self, at: int) -> int:
        loader = DataLoader(self.dataset, batch_size=self.batch, shuffle=True, generator=self.generator)
        total = 0
        for values, _ in loader:
            total += len(values)
            if total >= self.rows * self.part:
                break
        return total

    def _few(self) -> np.ndarray:
        return self.numpy.choice(self.rows, FEW_ROWS, replace=False)

    def mapped_few(self, at: int) -> int:
        return len(self.features.pooled[torch.from_numpy(self._few())])

    def zarr_few(self, at: int) -> int:
        return len(self.zarr.oindex[self._few()])


def timed(side: Callable[[int], int], at: int) -> float:
    """Rows per second."""
    began = time.perf_counter()
    rows = side(at)
    return rows / (time.perf_counter() - began)


def run(race: Race, rounds: int) -> dict[str, Any]:
    """Rates (median rows per second) of every side, and our ratio to each rival."""
    sides = {
        "mapped": race.mapped_epoch,
        "index_select": race.memory_epoch,
        "zarr-python": race.zarr_epoch,
        "DataLoader": race.dataloader_epoch,
        "mapped, few rows": race.mapped_few,
        "zarr-python, few rows": race.zarr_few,
    }
    for name in ("mapped", "index_select", "mapped, few rows"):
        timed(sides[name], 0)  # page tables filled, buffers touched
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for at in range(rounds):
        for name, side in sides.items():
            rates[name].append(timed(side, at + 1))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    ratios = {
        rival: medians["mapped, few rows" if "few" in rival else "mapped"] / medians[rival]
        for rival in NEEDED
    }
    return {"rows_per_second": medians, "ratios": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--part", type=float, default=0.1, help="part of an epoch that DataLoader is timed on"
    )
    parser.add_argument("--folder", type=Path, help="keep the store here, and use it again")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        path = (options.folder or Path(scratch)) / f"race-{options.rows}x{options.dim}.zarr"
        build(path, options.rows, options.dim)
        result = run(Race(path, options.batch, options.part), options.rounds)
    if options.json:
        print(json.dumps({"rows": options.rows, "dim": options.dim, **result}))
        return
    print(
        f"{options.rows} × {options.dim} float16, batch {options.batch}, {options.rounds} rounds, one torch "
        f"thread; {os.cpu_count()} × {platform.machine()}, torch {torch.__version__}, zarr {zarr.__version__}"
    )
    for name, rate in result["rows_per_second"].items():
        print(f"{name:<24}{rate:>14,.0f} rows/s")
    print(f"{'mapped against':<24}{'ratio':>10}{'needed':>10}")
    for rival, ratio in result["ratios"].items():
        print(f"{rival:<24}{ratio:>10.2f}{NEEDED[rival]:>10.1f}")


if __name__ == "__main__":
    main()
