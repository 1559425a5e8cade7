"""What it costs that files are on the disk before what speaks of them: how much of `uml demo` is fsync.

    python tests/benchmarks/flushing.py

Counted is the time in which at least one thread waits for the disk. At most 2 % is asked for; exits 1 above.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

from uml_cache import Output
from uml_evaluate.demo import run_demo

_MOST = 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    waits: list[tuple[float, float]] = []
    lock, fsync = threading.Lock(), os.fsync

    def timed(handle: int) -> None:
        began = time.perf_counter()
        fsync(handle)
        with lock:
            waits.append((began, time.perf_counter()))

    os.fsync = timed
    with tempfile.TemporaryDirectory() as scratch:
        began = time.perf_counter()
        run_demo(Path(scratch) / "demo", seeds=arguments.seeds, output=Output())
        seconds = time.perf_counter() - began
    waited = _together(waits)
    print(f"{len(waits)} calls of fsync, {waited:.2f} s of {seconds:.1f} s: {100 * waited / seconds:.2f} %")
    sys.exit(waited > _MOST * seconds)


def _together(waits: list[tuple[float, float]]) -> float:
    """Seconds that are covered by at least one of the intervals."""
    total, reached = 0.0, 0.0
    for began, ended in sorted(waits):
        total += max(0.0, ended - max(began, reached))
        reached = max(reached, ended)
    return total


if __name__ == "__main__":
    main()
