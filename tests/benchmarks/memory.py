"""Peak memory of every stage by the number of rows.

    python tests/benchmarks/memory.py [--rows 10000,200000,1300000] [--stages extract,import,verify,…]

Made-up stores of 100 classes: a target of 64 float16 features (80 % to train, 10 % to validate, 10 % to test)
and 1,000 texts of 32. Each stage is a command of its own:

- `extract`: the arrays of a `.npz` through the built-in encoder `identity`;
- `import`: the same features by `uml cache import`;
- `verify`: `uml cache verify` of the store;
- `train few`: two methods on 4 labels a class, three seeds, solved;
- `train all`: `--shots all`, by steps of 32, 200 of them;
- `train stream`: the same with `--loader stream`;
- `eval`, `report`: of the run with 4 labels a class; `eval all`, `report all`: of the one on all rows.

"Own" is what a process has for itself (RssAnon, looked at every 20 ms, the sum of a command's processes);
mapped pages of a store are not counted, since the kernel takes them back when it needs them. Bytes a row are
what each row more costs between the smallest store and the largest; a row of features has 128.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CLASSES, WIDTH, TEXTS = 100, 64, 1_000
GRID = "lr = [0.01]\nsteps = 200\nwarmup = 20\neval_every = 100\npatience = 10\nbatch_size = [32]\n"


def stages(folder: Path) -> dict[str, list[str]]:
    """Each stage's words; the paths are those of `folder`."""
    words = "train --dataset large --target image:identity --cache feats --method unimodal,uml"
    train = words.split()
    full = [*train, "--shots", "all", "--seeds", "1", "--grid", "grid.toml"]
    return {
        "extract": ["extract", "--encoder", "identity", "--data", "large.npz", "--out", "extracted"],
        "import": [
            "cache", "import", "train=train.npz", "val=val.npz", "test=test.npz", "--dataset", "large",
            "--modality", "image", "--encoder", "identity", "--out", "feats",
        ],
        "verify": ["cache", "verify", "feats"],
        "train few": [*train, "--shots", "4", "--seeds", "1-3", "--out", "few"],
        "train all": [*full, "--out", "all"],
        "train stream": [*full, "--loader", "stream", "--out", "streamed"],
        "eval few": ["eval", "--k", "4", "--no-train", "--runs", "few"],
        "eval all": ["eval", "--probe", "linear", "--no-train", "--runs", "all"],
        "report few": ["report", "few", "--no-samples"],
        "report all": ["report", "all", "--no-samples"],
    }  # fmt: skip


def prepare(folder: Path, rows: int) -> None:
    """The arrays that `extract` and `import` read, and a store of texts."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLASSES, WIDTH), dtype=np.float32)
    parts = {}
    for name, count in (("train", rows * 8 // 10), ("val", rows // 10), ("test", rows // 10)):
        labels = np.arange(count) % CLASSES
        features = (centres[labels] + 3 * rng.standard_normal((count, WIDTH), dtype=np.float32)).astype(
            np.float16
        )
        parts |= {f"{name}.features": features, f"{name}.labels": labels}
        np.savez(folder / f"{name}.npz", features=features, labels=labels)
    np.savez(folder / "large.npz", **parts)
    labels = np.arange(TEXTS) % CLASSES
    texts = rng.standard_normal((CLASSES, 32))[labels] + rng.standard_normal((TEXTS, 32))
    np.savez(folder / "texts.npz", features=texts.astype(np.float16), labels=labels)
    (folder / "grid.toml").write_text(GRID)
    words = [
        "cache",
        "import",
        "texts.npz",
        "--dataset",
        "large",
        "--modality",
        "text",
        "--encoder",
        "made-up",
    ]
    peak(folder, [*words, "--out", "feats"])


def peak(folder: Path, words: list[str]) -> tuple[float, float]:
    """Own memory in MB and seconds of a command."""
    command = [sys.executable, "-m", "uml_cache", *words, "--quiet"]
    began = time.perf_counter()
    log = folder / "log"
    with log.open("w") as said:
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=said)
        own = 0
        while process.poll() is None:
            own = max(own, sum(_own(pid) for pid in _family(process.pid)))
            time.sleep(0.02)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{log.read_text()}")
    return own / 1000, time.perf_counter() - began


def _family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(one for child in children for one in _family(int(child)))]


def _own(pid: int) -> int:
    """RssAnon in kB; 0 of a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default="10000,200000,1300000")
    parser.add_argument("--stages", help="only those whose names begin so, and import")
    given = parser.parse_args()
    wanted = tuple(given.stages.split(",")) if given.stages else ("",)
    counts = [int(count) for count in given.rows.split(",")]
    found: dict[str, list[float]] = {}
    for rows in counts:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            prepare(folder, rows)
            print(
                f"{rows:,} rows: {2 * rows * WIDTH / 1e6:.0f} MB of features, load {os.getloadavg()[0]:.1f}"
            )
            for stage, words in stages(folder).items():
                if stage != "import" and not stage.startswith(wanted):  # the others read what is imported
                    continue
                own, seconds = peak(folder, words)
                found.setdefault(stage, []).append(own)
                print(f"  {stage:<14}{own:8.0f} MB {seconds:8.1f} s", flush=True)
    if len(counts) > 1:
        print(f"{'own, MB':<16}" + "".join(f"{count:>12,}" for count in counts) + f"{'bytes a row':>14}")
        for stage, values in found.items():
            growth = (values[-1] - values[0]) * 1e6 / (counts[-1] - counts[0])
            print(f"{stage:<16}" + "".join(f"{value:>12.0f}" for value in values) + f"{growth:>14.0f}")


if __name__ == "__main__":
    main()
