"""Does the advice predict what sentences add to real pictures? No data set here taught it anything.

    OMP_NUM_THREADS=1 python tests/benchmarks/advice_real.py --real ../shared/real --work advice

Three picture sets through EfficientNet-Lite2 × MiniLM and mpnet × k = 1, 2, 4, 8, 16: `uml eval --advise` on
the training rows, beside `uml` − `unimodal-deep` as study-grocery (12 draws) and study-sets (6) measured it.
Advice that WORK has already is not made again. The pairs go to `advice_real.csv`.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np

TEXTS = {"minilm": ("MiniLM", "minilm_l6"), "mpnet": ("mpnet", "mpnet_base")}
OUT = Path(__file__).with_name("advice_real.csv")


def measured() -> dict[tuple[str, str, int], float]:
    """Points that `uml` added, by data set, text encoder and k."""
    found = {}
    for recipe in ("study-grocery", "study-sets"):
        path = files("uml_evaluate.reproduce") / "results" / f"{recipe}-ours.json"
        for one in json.loads(path.read_text(encoding="utf-8"))["differences"]:
            if (one["a"], one["b"], one["role"]) == ("uml", "unimodal-deep", "data"):
                found[one["dataset"], one["variant"], one["shots"]] = one["delta"]
    return found


def advise(real: Path, work: Path, dataset: str, text: str) -> list[dict[str, object]]:
    """What `uml eval --advise` says of one pair, at every k."""
    made = work / f"advice-{dataset}-{text}.json"
    if not made.exists():
        cache = str(work / f"{dataset}-{text}")
        for name, modality, encoder in (
            (f"{dataset}_lite2", "image", "efficientnet_lite2"),
            (f"{dataset}_text_{text}", "text", TEXTS[text][1]),
        ):
            uml("cache", "import", str(real / "features" / f"{name}.npz"), "--dataset", dataset, "--modality",
                modality, "--encoder", encoder, "--out", cache)  # fmt: skip
        made.write_text(
            uml("eval", "--advise", "--cache", cache, "--target", "image", "--k", "1,2,4,8,16", "--json"),
            encoding="utf-8",
        )
    return list(json.loads(made.read_text(encoding="utf-8"))["advice"])


def uml(*words: str) -> str:
    """What the command prints."""
    command = [sys.executable, "-m", "uml_cache", *words, "--quiet"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--real", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    truth = measured()
    rows = []
    for dataset in ("dtd10", "food10", "grocery"):
        for text, (variant, _) in TEXTS.items():
            for one in advise(given.real, given.work, dataset, text):
                k = one["shots"]
                rows.append([dataset, variant, k, one["estimate"], one["ci_low"], one["ci_high"],
                             one["verdict"], round(truth[dataset, variant, k], 2)])  # fmt: skip
    head = ("dataset", "text", "k", "estimate", "low", "high", "verdict", "measured")
    with OUT.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([head, *rows])
    said, low, high, was = (np.array([row[i] for row in rows], float) for i in (3, 4, 5, 7))
    verdicts = {name: [r[7] for r in rows if r[6] == name] for name in sorted({r[6] for r in rows})}
    print(f"{len(rows)} pairs; inside the 90 % interval: {((low <= was) & (was <= high)).sum()}")
    for name, values in verdicts.items():
        print(f"{name}: {len(values)}, measured {min(values):+.2f} to {max(values):+.2f}")
    for dataset in ("dtd10", "food10", "grocery", "all"):
        rows_of = np.array([dataset in (row[0], "all") for row in rows])
        a, b = said[rows_of], was[rows_of]
        ranks = [np.argsort(np.argsort(x)) for x in (a, b)]
        print(
            f"{dataset}: rank correlation {np.corrcoef(*ranks)[0, 1]:+.2f}, same sign "
            f"{(np.sign(a) == np.sign(b)).sum()} of {len(a)}, root mean square error "
            f"{np.sqrt(((a - b) ** 2).mean()):.2f}, of 0 {np.sqrt((b**2).mean()):.2f}"
        )


if __name__ == "__main__":
    main()
