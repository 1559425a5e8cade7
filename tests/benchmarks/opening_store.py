"""Opening a store of ImageNet's size, and 1,600 random rows of it from a cold disk.

    python tests/benchmarks/opening_store.py [--rows 1300000] [--folder DIR]

Rows of 384 float16 features. `opening` is `open_features` and the tensor of the features, in a process that
has imported what it needs; first with the look at all bytes, then when this is remembered. For the cold reads
the kernel drops the pages of all shards. The limit of the disk is as many random pages of the same files,
read one by one, and all asked for at once and then read; sides take turns, and medians are compared. Wanted:
opening again in 0.2 s, cold rows in 1.5 times the limit.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from mapped_loader import build

FEW, PAGE = 1600, 4096
_OURS = """
import sys, time
import numpy as np, torch, zarr
from uml_cache import open_features
torch.set_num_threads(1)
began = time.perf_counter()
features = open_features(sys.argv[1], advice="random")
pooled = features.pooled
opened = time.perf_counter()
rows = torch.from_numpy(np.random.default_rng(int(sys.argv[2])).integers(len(pooled), size=int(sys.argv[3])))
out = torch.empty(len(rows), pooled.shape[1], dtype=pooled.dtype)
reading = time.perf_counter()
torch.index_select(features.pooled_of(rows.numpy()), 0, rows, out=out)
print(opened - began, time.perf_counter() - reading)
"""


def ours(store: Path, seed: int) -> tuple[float, float]:
    """Seconds of opening, and of the rows."""
    words = [sys.executable, "-c", _OURS, str(store), str(seed), str(FEW)]
    answer = subprocess.run(words, check=True, capture_output=True, text=True)
    opening, reading = map(float, answer.stdout.split())
    return opening, reading


def limit(shards: list[Path], seed: int) -> tuple[float, float]:
    """Seconds of as many pages, one by one, and all asked for at once."""
    rng = np.random.default_rng(seed)
    files = [os.open(path, os.O_RDONLY) for path in shards]
    try:
        seconds = []
        for ahead in (False, True):
            where = [
                (files[i], int(rng.integers(os.fstat(files[i]).st_size // PAGE)) * PAGE)
                for i in rng.integers(len(files), size=FEW).tolist()
            ]
            cold(shards)
            began = time.perf_counter()
            for file, at in where if ahead else ():
                os.posix_fadvise(file, at, PAGE, os.POSIX_FADV_WILLNEED)
            for file, at in where:
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
                os.pread(file, PAGE, at)
            seconds.append(time.perf_counter() - began)
    finally:
        for file in files:
            os.close(file)
    return seconds[0], seconds[1]


def cold(shards: list[Path]) -> None:
    """Let the kernel drop the pages of files."""
    for path in shards:
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_300_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        os.environ["XDG_CACHE_HOME"] = name
        store = Path(name) / "store.zarr"
        build(store, given.rows, 384)
        shards = sorted((store / "pooled").rglob("c/*/*"))
        print(f"{given.rows:,} rows in {len(shards)} shards, load {os.getloadavg()[0]:.1f}")
        time.sleep(1)  # files that have just been written are not remembered as sound
        print(f"opening with a look at all bytes: {ours(store, 0)[0]:.2f} s")
        found = []
        for seed in range(given.rounds):
            cold(shards)
            found.append((*ours(store, seed), *limit(shards, seed)))
        again, rows, single, ahead = (statistics.median(values) for values in zip(*found, strict=True))
        print(f"opening again: {again:.3f} s")
        print(
            f"{FEW} rows cold: {1000 * rows:.0f} ms; as many pages one by one {1000 * single:.0f} ms "
            f"({rows / single:.2f}), asked for at once {1000 * ahead:.0f} ms ({rows / ahead:.2f})"
        )


if __name__ == "__main__":
    main()
