"""What `--dry-run` says beside what the same command takes, the starts of all processes counted.

    python tests/benchmarks/estimates.py [--only NAME,NAME] [--rounds 1]

Stores are made up around class centres: 37 classes, pictures of 384 and 1,024 features (20 to train, 6 to
validate and 10 to test in each class; `large` has 200, 40 and 40), texts of 384 and 3,200. Every command is
run as a person runs it, first with `--dry-run`, then without, each from an empty folder of runs. `said` is
the estimate's `seconds`, `took` the clock's from start to exit, `ratio` the larger over the smaller.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

WANTED = 1.5
CLASSES = 37
SHORT = "lr = [0.003]\nsteps = 300\nwarmup = 20\neval_every = 50\npatience = 6\nbatch_size = [32]\n"
SMALL = "--dataset small --target image:narrow --aux text:narrow"
LARGE = "--dataset large --aux text:narrow --shots all --seeds 1-2"
TEXTS = "--dataset small --target image:narrow --aux text:wide"
TOKENS = "--dataset tokens --target image:narrow --aux text:narrow"
COMMANDS = {
    "fair": f"train {SMALL} --seeds 1-3",
    "fair, self-training, refit": "train --dataset small --target image:wide --aux text:narrow --shots 4 "
    "--seeds 1-4 --refit --method unimodal,ridge,prior,self-training,uml",
    "fair, all rows": f"train {LARGE} --target image:narrow --method unimodal,ridge,prior,uml",
    "fair, wide texts": f"train {TEXTS} --shots 2,8 --seeds 1-4 --method uml,uml-init",
    "quick": f"train {SMALL} --grid quick --shots 2,8 --seeds 1-3",
    "quick, wide texts": f"train {TEXTS} --grid quick --shots 4 --seeds 1-2 --method unimodal,uml-init",
    "quick, mlp, all rows": f"train {LARGE} --target image:wide --grid quick --trunk mlp "
    "--method unimodal,unimodal-deep,uml",
    "paper": f"train --protocol paper {SMALL} --shots 4 --seeds 1 --method unimodal,uml",
    "one short run": f"train {SMALL} --grid SHORT --shots 4 --seeds 1 --method unimodal,uml",
    "transformer over tokens": f"train {TOKENS} --trunk transformer --grid SHORT --shots 4 --seeds 1",
    "pretrain": f"pretrain {TOKENS} --seeds 1 --shots 4",
}


def build(feats: Path) -> None:
    """All stores."""
    from toy_stores import clusters, write_store

    classes = [f"class {c}" for c in range(CLASSES)]
    for dataset, (train, val, test) in {"small": (20, 6, 10), "large": (200, 40, 40)}.items():
        labels = np.tile(np.arange(CLASSES), train + val + test)
        splits = np.repeat([0, 1, 2], [train * CLASSES, val * CLASSES, test * CLASSES])
        texts = np.tile(np.arange(CLASSES), 12)
        none = np.full(len(texts), 255)
        for name, dim, text in (("narrow", 384, 384), ("wide", 1024, 3200)):
            image = clusters(1, labels, dim, 5.0)
            write_store(feats, "image", image, labels, splits, dataset=dataset, encoder=name, classes=classes)
            words = clusters(2, texts, text, 2.0)
            write_store(feats, "text", words, texts, none, dataset=dataset, encoder=name, classes=classes)
    labels = np.tile(np.arange(CLASSES), 12)
    splits = np.repeat([0, 1, 2], 4 * CLASSES)
    given = {"dataset": "tokens", "encoder": "narrow", "classes": classes}
    for modality, parts, count in (("image", splits, 16), ("text", np.full(len(labels), 255), 10)):
        features = clusters(3, labels, 64, 3.0)
        tokens = np.repeat(features[:, None], count, 1) + clusters(4, np.arange(count), 64, 0.0)
        write_store(feats, modality, features, labels, parts, tokens=list(tokens), **given)


def seconds_of(command: list[str]) -> tuple[float, dict]:
    """A command's seconds by the clock from start to exit, and its JSON answer."""
    began = time.perf_counter()
    answer = subprocess.run(command, capture_output=True, text=True)
    took = time.perf_counter() - began
    if answer.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{answer.stderr}")
    return took, json.loads(answer.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help="names of commands, or beginnings of them")
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    wanted = tuple(part.strip() for part in given.only.split(",")) if given.only else ("",)
    far = []
    with tempfile.TemporaryDirectory() as folder:
        feats, runs, grid = (Path(folder) / name for name in ("feats", "runs", "short.toml"))
        build(feats)
        grid.write_text(SHORT)
        print(f"{'command':<36}{'dry run':>10}{'said':>10}{'took':>10}{'ratio':>8}{'load':>7}")
        for name, text in COMMANDS.items():
            if not name.startswith(wanted):
                continue
            words = [str(grid) if word == "SHORT" else word for word in text.split()]
            command = [sys.executable, "-m", "uml_cache", *words, "--cache", str(feats), "--out", str(runs)]
            found = []
            for _ in range(given.rounds):
                shutil.rmtree(runs, ignore_errors=True)
                tried, estimate = seconds_of([*command, "--quiet", "--json", "--dry-run"])
                took, _ = seconds_of([*command, "--quiet", "--json"])
                found.append((tried, estimate["seconds"], took))
            tried, said, took = (statistics.median(part) for part in zip(*found, strict=True))
            ratio = max(said / took, took / said)
            far += [name] if ratio > WANTED else []
            seconds = "".join(f"{value:>8.1f} s" for value in (tried, said, took))
            print(f"{name:<36}{seconds}{ratio:>8.2f}{os.getloadavg()[0]:>7.1f}", flush=True)
    print(f"wanted: at most {WANTED}; beyond: {', '.join(far) or 'none'}")
    sys.exit(1 if far else 0)


if __name__ == "__main__":
    main()
