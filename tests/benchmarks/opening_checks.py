"""What it costs to look at a store's shards before they are first trained on, and the second time.

    OMP_NUM_THREADS=1 python tests/benchmarks/opening_checks.py --gigabytes 2

Writes a store of float16 features, reads it once so that it lies in memory, and prints processor seconds a GB
of the first look (CRC-32C), of the same look by sha256 (what version 0.1's stores have, and the rival), of
reading the bytes alone, and of opening the store again. Wanted: at most 0.2 s a GB and core at first, nothing
afterwards.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from uml_cache import StorePlan, create_or_resume, open_features, store_info
from uml_cache.store import checking

_DIM = 768


def make(path: Path, gigabytes: float) -> float:
    """A sealed store of about so many GB of pooled features; how many they are."""
    rows = int(gigabytes * 1e9 / (2 * _DIM))
    plan = StorePlan(
        dataset="checks",
        modality="image",
        encoder={"name": "made-up"},
        manifest_digest="0" * 64,
        classes=["all"],
        ids=[str(row) for row in range(rows)],
        labels=np.zeros(rows, np.int32),
        splits=np.zeros(rows, np.uint8),
        pooled_dim=_DIM,
        batch_size=64,
        versions={},
        device="cpu",
    )
    store = create_or_resume(path, plan)
    block = np.random.default_rng(0).standard_normal((8192, _DIM), dtype=np.float32)
    for task in store.pending():
        size = len(store.rows_of(task))
        store.write_task(task, block[:size] + np.float32(task), None, np.zeros(size, np.uint8), {}, 0.0)
    return rows * 2 * _DIM / 1e9


def cost(work: Callable[[], object], before: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Medians of processor seconds and of seconds."""
    found = []
    for _ in range(rounds):
        before()
        processor, clock = time.process_time(), time.perf_counter()
        work()
        found.append((time.process_time() - processor, time.perf_counter() - clock))
    return statistics.median(f[0] for f in found), statistics.median(f[1] for f in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.environ["XDG_CACHE_HOME"] = f"{name}/cache"
        path = Path(name) / "store.zarr"
        size = make(path, options.gigabytes)
        entries = [
            entry
            for record in store_info(path).records.values()
            for entry in record["files"]
            if entry["path"].startswith("pooled/c/")
        ]
        by_sha256 = [{k: v for k, v in entry.items() if k != "crc32c"} for entry in entries]
        buffer = np.empty(1 << 20, np.uint8)

        def forget() -> None:
            shutil.rmtree(f"{name}/cache", ignore_errors=True)

        def read() -> None:
            for entry in entries:
                with open(path / entry["path"], "rb", buffering=0) as stream:
                    while stream.readinto(buffer):
                        pass

        def opened(check: bool) -> None:
            features = open_features(path, check=check)
            _ = features.pooled
            features.close()

        read()
        time.sleep(0.5)  # a file that has just changed is not remembered
        works: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "reading the bytes alone": (read, forget),
            "first look, CRC-32C": (lambda: checking.Memory(path).unsound(entries), forget),
            "first look, sha256": (lambda: checking.Memory(path).unsound(by_sha256), forget),
            "second look": (lambda: checking.Memory(path).unsound(entries), lambda: None),
            "opening without a look": (lambda: opened(False), lambda: None),
            "opening for the first time": (lambda: opened(True), forget),
            "opening again": (lambda: opened(True), lambda: None),
        }
        print(f"{size:.2f} GB in {len(entries)} shards, {options.rounds} rounds")
        for what, (work, before) in works.items():
            processor, clock = cost(work, before, options.rounds)
            print(f"{what:28} {processor / size:7.4f} processor s/GB {clock / size:7.4f} s/GB")


if __name__ == "__main__":
    main()
