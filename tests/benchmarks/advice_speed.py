"""Seconds of `uml eval --advise`: 100 classes, a target of 50,000 × 384, ten auxiliaries of 5,000 × 3,200.

    OMP_NUM_THREADS=2 python tests/benchmarks/advice_speed.py [--folder DIR]

The stores (about 360 MB) are made first and left in DIR; what is timed is a fresh process of the command,
from start to exit.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from toy_stores import write_store

CLASSES, TARGET, AUXILIARY, AUXILIARIES = 100, (50_000, 384), (5_000, 3_200), 10


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("/tmp/uml-advice-speed"))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    names = [f"class {c}" for c in range(CLASSES)]
    geometry = rng.standard_normal((CLASSES, 20))

    def features(rows: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(rows) % CLASSES
        means = geometry @ rng.standard_normal((20, dim)) / 4
        return means[labels] + rng.standard_normal((rows, dim), dtype=np.float32), labels

    feats = arguments.folder / "feats"
    if not feats.exists():
        x, labels = features(*TARGET)
        splits = rng.choice(3, TARGET[0], p=[0.8, 0.1, 0.1])
        write_store(feats, "image", x, labels, splits, classes=names)
        for number in range(AUXILIARIES):
            x, labels = features(*AUXILIARY)
            write_store(feats, "text", x, labels, np.full(len(x), 255), classes=names, encoder=f"enc{number}")
    seconds = []
    code = "from uml_cache.cli import main; main()"
    for _ in range(arguments.rounds):
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", code, "eval", "--advise", "--cache", str(feats), "--json"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        seconds.append(time.perf_counter() - began)
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{', '.join(f'{s:.1f}' for s in seconds)} s; load {load}, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
