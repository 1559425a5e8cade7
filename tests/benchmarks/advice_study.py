"""How good the advice is: estimates before training against what training then measured.

    OMP_NUM_THREADS=1 python tests/benchmarks/advice_truth.py     # measures; again until nothing is left
    OMP_NUM_THREADS=1 python tests/benchmarks/advice_study.py     # estimates; again until nothing is left
    python tests/benchmarks/advice_judge.py                       # scores and table

Every estimator sees the rows of the pool alone, never those that the truth was validated or tested on. Two
cases: `rich`, the whole pool (16 rows per class and more), and `poor`, exactly k rows per class, of which one
shot must be left out to score on. Lines go to `WORK/estimates-*.jsonl`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from advice_truth import SHOTS, WORK
from advice_worlds import Target, all_targets

from added_information import information_gain
from closed_form_head import Ridge, class_prior, gain
from uml_evaluate.advice.geometry import agreement
from uml_evaluate.advice.pilot import pilot
from uml_evaluate.advice.training_rows import Rows, capped, reduced, rows_per_class, splits

SPLITS, PILOTED = 4, 2


def estimates(target: Target, shots: int, case: str, draw: int) -> list[dict[str, object]]:
    """One record per auxiliary: every estimator's number, and its seconds."""
    rng = np.random.default_rng((draw, shots))
    labels = target.pool[1]
    kept = capped(labels, shots if case == "poor" else rows_per_class(target.classes), rng)
    rows = reduced(target.pool[0][kept], labels[kept], target.classes, rng)
    others, names = [], []
    for auxiliary in target.auxiliaries:
        chosen = capped(auxiliary.labels, rows_per_class(target.classes), rng)
        others.append(reduced(auxiliary.features[chosen], auxiliary.labels[chosen], target.classes, rng))
        names.append(auxiliary.name)
    pairs = list(splits(rows, shots, SPLITS, rng))
    piloted: list[np.ndarray] = []
    began = time.perf_counter()
    for number, (train, held_out) in enumerate(pairs[:PILOTED]):
        found = pilot(rows.taken(train), rows.taken(held_out), others, seed=number)
        base = [found.alone[width][0] for width in found.widths]
        piloted.append(np.array([found.gains(), found.gains(1), base]))
    pilot_seconds = (time.perf_counter() - began) / max(1, len(others))
    records = []
    for i, (name, other) in enumerate(zip(names, others, strict=True)):
        record: dict[str, object] = {"key": [target.name, name, shots, case, draw]}
        began = time.perf_counter()
        found_geometry = agreement(rows, other, rng)
        record["a_seconds"] = time.perf_counter() - began
        record["a"] = None if found_geometry is None else found_geometry.alignment
        record["a_z"] = None if found_geometry is None else found_geometry.z
        began = time.perf_counter()
        prior = class_prior(other)
        gains = [gain(Ridge(rows.taken(train)), rows.taken(held), prior) for train, held in pairs]
        whole = gain(Ridge(_drawn(rows, shots, rng)), None, prior)
        record["b_seconds"] = time.perf_counter() - began
        record["b"] = [g.accuracy for g in gains]
        record["b_evidence"] = whole.evidence
        began = time.perf_counter()
        record["c"] = information_gain(rows, other, rng)
        record["c_seconds"] = time.perf_counter() - began
        for row, kind in enumerate(("d", "d_best", "d_base")):
            record[kind] = [float(p[row, i]) for p in piloted]
        record["d_seconds"] = pilot_seconds
        record["rows"] = len(other.labels)
        records.append(record)
    return records


def _drawn(rows: Rows, shots: int, rng: np.random.Generator) -> Rows:
    return rows.taken(capped(rows.labels, shots, rng))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="stop after so long, to be resumed")
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--shared", type=Path, default=Path(__file__).parents[3] / "shared")
    parser.add_argument("--part", default="0/1", help="i/n: every n-th target from the i-th on")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    deadline = time.monotonic() + 60 * arguments.minutes
    part, parts = map(int, arguments.part.split("/"))
    path = arguments.work / f"estimates-{part}-{parts}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text().splitlines() if path.exists() else []
    done = {tuple(json.loads(line)["key"]) for line in lines}
    targets = all_targets(arguments.work, arguments.shared)[part::parts]
    with path.open("a") as file:
        for case, draw in (("rich", 1), ("poor", 1)):
            for shots in SHOTS:
                for target in targets:
                    if (target.name, target.auxiliaries[-1].name, shots, case, draw) in done:
                        continue
                    if time.monotonic() > deadline:
                        return
                    for record in estimates(target, shots, case, draw):
                        file.write(json.dumps(record) + "\n")
                    file.flush()


if __name__ == "__main__":
    main()
