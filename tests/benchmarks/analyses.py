"""Time and peak memory of the analyses of a run: 100 classes, 50,000 test rows of 384 features.

    OMP_NUM_THREADS=1 python tests/benchmarks/analyses.py [--folder DIR]      every analysis, one process each
    OMP_NUM_THREADS=1 python tests/benchmarks/analyses.py --silhouette 200000     the silhouette alone

The run is made first (Gaussian classes, a short grid) and kept in the folder for the next call.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

CLASSES, TEST, DIM, TEXTS = 100, 500, 384, 20
SHOTS, SEEDS = (1, 4, 16), (1, 2, 3)


def make_run(folder: Path) -> Path:
    """Stores and a run of five methods: 45 cells."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
    from toy_stores import clusters, write_store
    from uml_train import TrainSettings, train

    names = [f"class {c}" for c in range(CLASSES)]
    labels = np.tile(np.arange(CLASSES), 20 + TEST)
    splits = np.repeat([0, 1, 2], [16 * CLASSES, 4 * CLASSES, TEST * CLASSES])
    words = np.tile(np.arange(CLASSES), TEXTS)
    pictures = clusters(1, labels, DIM, 4.0).astype(np.float32)
    write_store(folder / "feats", "image", pictures, labels, splits, classes=names)
    texts = clusters(2, words, DIM, 1.0).astype(np.float32)
    write_store(folder / "feats", "text", texts, words, np.full(len(words), 255), classes=names)
    grid = folder / "grid.toml"
    grid.write_text("lr = [0.01]\nsteps = 60\nwarmup = 5\neval_every = 20\n")
    settings = TrainSettings(
        cache=folder / "feats", shots=SHOTS, seeds=SEEDS, grid=str(grid), texts=TEXTS - 4, out=folder / "runs"
    )
    return train(settings).path


def measure(run: Path, names: list[str]) -> None:
    """Compute analyses and print wall time, processor time and peak memory of this process."""
    from uml_evaluate.analyses.running import analyse
    from uml_train import load_run

    shutil.rmtree(run / "analyses", ignore_errors=True)
    began, spent = time.perf_counter(), time.process_time()
    done = analyse(load_run(run), names)
    line(", ".join(done.computed), began, spent)


def line(what: str, began: float, spent: float) -> None:
    wall, processor = time.perf_counter() - began, time.process_time() - spent
    peak = max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, _children()) / 2**20
    load = os.getloadavg()[0]
    print(
        f"{what}: {wall:.1f} s ({processor:.1f} s of one core), peak {peak:.2f} GiB, load {load:.1f}",
        flush=True,
    )


def _children() -> int:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("analyses-benchmark"))
    parser.add_argument("--silhouette", type=int)
    parser.add_argument("--only")
    given = parser.parse_args()
    if given.silhouette:
        from uml_evaluate.analyses.cluster_scores import silhouette

        features = np.random.default_rng(0).standard_normal((given.silhouette, DIM), dtype=np.float32)
        began, spent = time.perf_counter(), time.process_time()
        silhouette(features, np.arange(given.silhouette) % CLASSES)
        line(f"silhouette of {given.silhouette:,} x {DIM}", began, spent)
        return
    (given.folder / "runs").mkdir(parents=True, exist_ok=True)
    found = [path.parent for path in (given.folder / "runs").glob("*/config.json")]
    run = found[0] if found else make_run(given.folder)
    if given.only:
        measure(run, given.only.split(","))
        return
    names = ["margin", "silhouette", "prototypes", "boundary", "alignment"]
    for some in (*names, ",".join(names), "exchange"):
        command = [sys.executable, __file__, "--folder", str(given.folder), "--only", some]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
