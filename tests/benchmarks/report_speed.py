"""`uml report` of many runs: the first time, and once their intervals are known.

    python tests/benchmarks/report_speed.py [--runs 300]

One run of three methods, two shots and three seeds (18 cells, 48 classes, 864 test rows) is trained, and
copied with other predictions: each copy has 5 % of them drawn anew, so that no two comparisons are equal. The
command is run as a person runs it, the start of its process counted, with an empty cache folder of its own;
then again. `bootstrap` is one `paired_difference` of 10,000 replicates, 50,000 rows and ten draws.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

CLASSES, TEST = 48, 18


def trained(folder: Path) -> Path:
    """The run that is copied."""
    from toy_stores import clusters, write_store
    from uml_train import TrainSettings, train

    labels = np.tile(np.arange(CLASSES), 12 + 4 + TEST)
    splits = np.repeat([0, 1, 2], [12 * CLASSES, 4 * CLASSES, TEST * CLASSES])
    classes = [f"class {c}" for c in range(CLASSES)]
    feats = folder / "feats"
    write_store(feats, "image", clusters(1, labels, 64, 6.0), labels, splits, classes=classes)
    texts = np.tile(np.arange(CLASSES), 8)
    words = clusters(2, texts, 64, 2.0)
    write_store(feats, "text", words, texts, np.full(len(texts), 255), classes=classes)
    methods = ("unimodal", "unimodal-deep", "uml")
    settings = TrainSettings(cache=feats, out=folder / "one", shots=(4, 8), seeds=(1, 2, 3), methods=methods)
    return train(settings).path


def copies(run: Path, runs: Path, count: int) -> None:
    """Copies of a run, each with other predictions."""
    from run_records import change_predictions
    from uml_train import load_run

    rng = np.random.default_rng(0)
    for i in range(count):
        shutil.copytree(run, runs / f"{run.name}-{i}")
        copy = load_run(runs / f"{run.name}-{i}")
        for result in copy.cells:
            known = result.test_predictions
            other = rng.integers(CLASSES, size=len(known))
            change_predictions(copy, result, np.where(rng.random(len(known)) < 0.05, other, known))


def reported(runs: Path, cache: Path) -> None:
    """Run the command and print what it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    command = [sys.executable, "-m", "uml_cache", "report", str(runs), "--quiet"]
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "XDG_CACHE_HOME": str(cache)}
    )
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"report: {seconds:.1f} s, {spent:.1f} s of a processor, load {os.getloadavg()[0]:.1f}", flush=True)


def bootstrap() -> None:
    """Time one large paired difference."""
    from uml_evaluate.comparing.statistics import paired_difference

    rng = np.random.default_rng(0)
    a_sn, b_sn = rng.random((10, 50_000)) < 0.6, rng.random((10, 50_000)) < 0.6
    for _ in range(3):
        began, spent = time.perf_counter(), time.process_time()
        found = paired_difference(a_sn, b_sn, rng=np.random.default_rng(1), replicates=10_000)
        seconds, spent = time.perf_counter() - began, time.process_time() - spent
        print(f"bootstrap: {seconds:.2f} s, {spent:.2f} s of a processor, [{found.low!r}, {found.high!r}]")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=300)
    given = parser.parse_args()
    bootstrap()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copies(trained(folder), folder / "runs", given.runs)
        for _ in range(3):
            reported(folder / "runs", folder / "cache")


if __name__ == "__main__":
    main()
