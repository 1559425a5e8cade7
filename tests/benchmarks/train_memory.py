"""Memory and time of training on all rows of a large store, with each loader.

    python tests/benchmarks/train_memory.py [--rows 200000] [--width 384] [--steps 300]

A float16 store of the target (80 % train, 10 % validation, 10 % test) and a small one of texts; `uml train
--shots all --method unimodal,uml --normalize standard` in a process of its own per loader. Claimed memory is
what the process has for itself (RssAnon, sampled every 20 ms); resident memory counts mapped pages of the
store too, which the kernel takes back when it needs them. Both are given less what the same process holds
before training, after importing torch.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from uml_cache import StorePlan, create_or_resume, store_path

CLASSES = 37
_CHILD = """
import json, sys, threading, time
from pathlib import Path
from uml_train import TrainSettings, train
import torch

def status(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1000 for line in file if line.startswith(key))

torch.ones(4, 4) @ torch.ones(4, 4)
before = {key: status(key) for key in ("RssAnon", "VmRSS")}
peak = dict(before)
def watch():
    while True:
        for key in peak:
            peak[key] = max(peak[key], status(key))
        time.sleep(0.02)
threading.Thread(target=watch, daemon=True).start()
cache, out, grid, loader = sys.argv[1:]
began = time.perf_counter()
run = train(TrainSettings(
    cache=Path(cache), out=Path(out), grid=grid, loader=loader, shots=("all",), seeds=(1,),
    methods=("unimodal", "uml"), normalize="standard", device="cpu",
))
claims = {key: peak[key] - before[key] for key in peak}
heads = [result.head_path.read_bytes().hex() for result in run.cells]
print(json.dumps({"seconds": time.perf_counter() - began, "heads": heads, **claims}))
"""


def write(feats: Path, modality: str, rows: int, width: int, *, splits: bool) -> None:
    """A store of `rows` random rows around class centres, written task by task."""
    labels = np.arange(rows) % CLASSES
    parts = np.select([np.arange(rows) % 10 < 8, np.arange(rows) % 10 == 8], [0, 1], 2)
    plan = StorePlan(
        dataset="large", modality=modality, set=None, encoder={"name": "made-up"}, variant=None,
        manifest_digest="0" * 64, classes=[f"class {c}" for c in range(CLASSES)],
        ids=[f"{modality}-{i}" for i in range(rows)], labels=labels.astype(np.int32),
        splits=(parts if splits else np.full(rows, 255)).astype(np.uint8), pooled_dim=width, batch_size=1,
        versions={}, device="cpu",
    )  # fmt: skip
    store = create_or_resume(store_path(feats, "large", modality, None, "made-up", None), plan)
    centres = np.random.default_rng(width).standard_normal((CLASSES, width)).astype(np.float32)
    for task in store.pending():
        span = store.rows_of(task)
        noise = np.random.default_rng(task).standard_normal((len(span), width), dtype=np.float32)
        features = centres[labels[span.start : span.stop]] + 3 * noise
        store.write_task(task, features, None, np.zeros(len(span), np.uint8), {}, 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        feats = Path(folder) / "feats"
        write(feats, "image", arguments.rows, arguments.width, splits=True)
        write(feats, "text", 2_000, 256, splits=False)
        grid = Path(folder) / "one.toml"
        grid.write_text(
            f"lr = [0.001]\nsteps = {arguments.steps}\neval_every = 100\npatience = 100\nbatch_size = [32]\n"
        )
        copy = 4 * 0.9 * arguments.rows * arguments.width / 1e6
        print(f"{arguments.rows:,} × {arguments.width} float16; train and val as float32 are {copy:.0f} MB")
        heads = set()
        for loader in ("device", "host", "stream"):
            answer = subprocess.run(
                [sys.executable, "-c", _CHILD, str(feats), f"{folder}/{loader}", str(grid), loader],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            found = json.loads(answer.stdout)
            heads.add(json.dumps(found["heads"]))
            print(
                f"{loader:<7} claimed {found['RssAnon']:7.0f} MB   resident {found['VmRSS']:7.0f} MB   "
                f"{found['seconds']:6.1f} s"
            )
        print("the heads are equal, bit for bit" if len(heads) == 1 else "THE HEADS DIFFER")


if __name__ == "__main__":
    main()
