"""The Gaussian experiment's variations in short: hidden width 128, 2,000 steps, 3 seeds, every arm.

    python tests/benchmarks/gaussian_variations.py --out FILE.json

`uml reproduce gaussian --sweep SETTING` varies the same settings with 10,000 steps at both widths and 5
seeds, which takes half an hour of a core or more for each. Given again, this goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from uml_evaluate.reproduce.gaussian_finding import PAIRS, Comparison
from uml_train.gaussian.autoencoder import Training
from uml_train.gaussian.data import World
from uml_train.gaussian.experiment import ARMS, GaussianJob, held_out_error

SEEDS, WIDTH, STEPS = (1, 2, 3), 128, 2_000
VALUES: dict[str, tuple[float, ...]] = {
    "attenuation": (0.0, 0.05, 0.2, 1.0),
    "noise": (0.1, 0.3, 1.0),
    "budget": (1_000, 3_000, 10_000, 30_000),
}


def job_of(setting: str, value: float) -> GaussianJob:
    """The first arm of one value, seed 0."""
    job = GaussianJob(arm=ARMS[0], seed=0, training=Training(hidden=WIDTH, steps=STEPS))
    if setting == "budget":
        return replace(job, budget=int(value))
    return replace(job, world=replace(World(), **{setting: value}))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    out: Path = parser.parse_args().out
    torch.set_num_threads(1)
    known: dict[str, float] = json.loads(out.read_text()) if out.exists() else {}
    names = [f"{a} − {b}" for _, a, b in PAIRS]
    print("| setting | value | X error | " + " | ".join(names) + " |\n|---" + "|---" * (2 + len(names)) + "|")
    for setting, values in VALUES.items():
        for value in values:
            errors: dict[str, list[float]] = {arm: [] for arm in ARMS}
            for seed in SEEDS:
                for arm in ARMS:
                    job = replace(job_of(setting, value), arm=arm, seed=seed)
                    if repr(job) not in known:
                        known[repr(job)] = held_out_error(job)
                        out.write_text(json.dumps(known, indent=1))
                    errors[arm].append(known[repr(job)])
            found = Comparison(WIDTH, value, errors)
            cells = [found.difference(a, b) for _, a, b in PAIRS]
            shown = [f"{c.delta:+.3f} [{c.low:+.3f}, {c.high:+.3f}]" for c in cells]
            mean = sum(errors["x"]) / len(SEEDS)
            print(f"| {setting} | {value:g} | {mean:.3f} | " + " | ".join(shown) + " |", flush=True)


if __name__ == "__main__":
    main()
