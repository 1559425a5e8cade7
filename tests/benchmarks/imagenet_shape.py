"""A store of ImageNet's shape, from writing it to the scores of heads on it: seconds and memory of each step.

    python tests/benchmarks/imagenet_shape.py [--folder DIR] [--rows 1281167] [--loader auto]

1,281,167 training rows (2 % of them for validation) and 50,000 test rows of 384 float16 features in 1,000
classes, made up around class centres, and 10 texts a class. Then, each in a process of its own: the build,
`uml cache verify`, `uml train --shots all` of six full-data heads (`unimodal`, `unimodal-deep` and `uml`, two
learning rates each, 1,000 steps of 32), `uml eval --probe linear`, and a nearest-class-mean probe over all
training rows. Resident memory counts mapped pages of the store, which the kernel takes back when it needs
them; "own" is what the process has for itself (RssAnon, looked at every 50 ms, the largest of its processes).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from uml_cache import StorePlan, create_or_resume, store_path
from uml_extract.encoding.writer import task_writer

NAME = "imagenet-shape"
CLASSES, WIDTH, TEST, TEXTS = 1_000, 384, 50_000, 10
GRID = "lr = [0.01, 0.001]\nsteps = 1000\nwarmup = 50\neval_every = 100\npatience = 10\nbatch_size = [32]\n"


def build(feats: Path, train: int) -> None:
    """Both stores, written task by task as the extractor writes them."""
    labels = np.arange(train + TEST, dtype=np.int32) % CLASSES
    splits = np.where(np.arange(train + TEST) // CLASSES % 50 == 0, 1, 0).astype(np.uint8)
    splits[train:] = 2
    _store(feats, "image", labels, splits)
    texts = np.arange(CLASSES * TEXTS, dtype=np.int32) % CLASSES
    _store(feats, "text", texts, np.full(len(texts), 255, np.uint8))


def _store(feats: Path, modality: str, labels: np.ndarray, splits: np.ndarray) -> None:
    plan = StorePlan(
        dataset=NAME, modality=modality, set=None, encoder={"name": "made-up"}, variant=None,
        manifest_digest="0" * 64, classes=[f"class {c}" for c in range(CLASSES)],
        ids=[f"{modality}-{i}" for i in range(len(labels))], labels=labels, splits=splits, pooled_dim=WIDTH,
        batch_size=1, versions={}, device="cpu",
    )  # fmt: skip
    store = create_or_resume(store_path(feats, NAME, modality, None, "made-up", None), plan)
    centres = np.random.default_rng(0).standard_normal((CLASSES, WIDTH), dtype=np.float32)
    with task_writer(store) as write:
        for task in store.pending():
            span = store.rows_of(task)
            values = np.random.default_rng([task, len(labels)]).standard_normal(
                (len(span), WIDTH), dtype=np.float32
            )
            values = centres[labels[span.start : span.stop]] + 5 * values
            write((task, values, None, np.zeros(len(span), np.uint8), {}, 0.0))


def measured(name: str, command: list[str]) -> None:
    """Run a command and print its wall time, processor time and memory; its output on failure."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    own, finished = 0, 0
    while not finished:
        own = max([own, *(_own(pid) for pid in _family(process.pid))])
        time.sleep(0.05)
        finished, status, usage = os.wait4(process.pid, os.WNOHANG)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    said = process.stdout.read() if process.stdout else ""
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{said}")
    print(
        f"{name:<34}{seconds:8.1f} s  {usage.ru_utime + usage.ru_stime:8.1f} s of one core"
        f"  own {own / 2**20:6.2f} GiB  resident {usage.ru_maxrss / 2**20:6.2f} GiB"
        f"  load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    if name.startswith(("train", "linear", "nearest")):
        print("\n".join(f"    {line}" for line in said.splitlines()[-14:]), flush=True)


def _family(pid: int) -> list[int]:
    """A process and its children."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [pid, *(int(child) for child in children.split())]


def _own(pid: int) -> int:
    """RssAnon in KiB; 0 of a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("imagenet-shape"), help="made anew, 1 GB")
    parser.add_argument("--rows", type=int, default=1_281_167, help="training rows")
    parser.add_argument("--loader", default="auto")
    parser.add_argument("--build", action="store_true", help="only write the stores")
    given = parser.parse_args()
    feats, runs, grid = (given.folder / name for name in ("feats", "runs", "grid.toml"))
    if given.build:
        build(feats, given.rows)
        return
    shutil.rmtree(given.folder, ignore_errors=True)
    given.folder.mkdir(parents=True)
    grid.write_text(GRID)
    print(f"{given.rows:,} + {TEST:,} rows × {WIDTH}, {len(os.sched_getaffinity(0))} cores")
    store = store_path(feats, NAME, "image", None, "made-up", None)
    uml = [sys.executable, "-m", "uml_cache"]
    here = ["--folder", str(given.folder), "--rows", str(given.rows), "--build"]
    measured("build", [sys.executable, __file__, *here])
    measured("verify", [*uml, "cache", "verify", str(store)])
    train = ["--shots", "all", "--seeds", "1", "--method", "unimodal,unimodal-deep,uml", "--grid", str(grid)]
    where = ["--cache", str(feats), "--out", str(runs), "--loader", given.loader]
    measured("train, six full-data heads", [*uml, "train", *where, *train, "--target", "image"])
    measured("linear probe", [*uml, "eval", "--probe", "linear", "--runs", str(runs)])
    measured(
        "nearest class mean, all rows",
        [*uml, "eval", "--probe", "linear", "--rivals", "ncm", "--runs", str(runs)],
    )


if __name__ == "__main__":
    main()
