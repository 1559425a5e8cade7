"""The Gaussian experiment's variations in short: hidden width 128, 3,000 steps, 3 seeds, every arm.

    python tests/benchmarks/gaussian_variations.py --out FILE.json

`uml reproduce gaussian --sweep SETTING` varies the same settings with 10,000 steps at both widths and 5
seeds, which takes half an hour of a core or more for each. Given again, this goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import torch

from uml_cache.machine import available_cores
from uml_evaluate.reproduce.gaussian.gaussian_finding import PAIRS, Comparison
from uml_train.gaussian.autoencoder import Training
from uml_train.gaussian.experiment import ARMS, GaussianJob, held_out_error
from uml_train.gaussian.world import World

SEEDS, WIDTH, STEPS = (1, 2, 3), 128, 3_000
VALUES: dict[str, tuple[float, ...]] = {
    "attenuation": (0.0, 0.05, 0.2, 1.0),
    "noise": (0.1, 0.3, 1.0),
    "budget": (1_000, 10_000, 30_000),
}


def job_of(setting: str, value: float) -> GaussianJob:
    """The first arm of one value, seed 0."""
    job = GaussianJob(arm=ARMS[0], seed=0, training=Training(hidden=WIDTH, steps=STEPS))
    if setting == "budget":
        return replace(job, budget=int(value))
    return replace(job, world=replace(World(), **{setting: value}))


def one(job: GaussianJob) -> float:
    """The held-out error, by one thread: a second one costs these small products more than it gives."""
    torch.set_num_threads(1)
    return held_out_error(job)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    out: Path = parser.parse_args().out
    known: dict[str, float] = json.loads(out.read_text()) if out.exists() else {}
    jobs = {
        (setting, value, arm, seed): replace(job_of(setting, value), arm=arm, seed=seed)
        for setting, values in VALUES.items()
        for value in values
        for seed in SEEDS
        for arm in ARMS
    }
    missing = [job for job in dict.fromkeys(jobs.values()) if repr(job) not in known]
    with ProcessPoolExecutor(available_cores(), mp_context=get_context("spawn")) as pool:
        for job, error in zip(missing, pool.map(one, missing), strict=True):
            known[repr(job)] = error
            out.write_text(json.dumps(known, indent=1))
    names = [f"{a} − {b}" for _, a, b in PAIRS]
    print("| setting | value | X error | " + " | ".join(names) + " |\n|---" + "|---" * (2 + len(names)) + "|")
    for setting, values in VALUES.items():
        for value in values:
            errors = {arm: [known[repr(jobs[setting, value, arm, s])] for s in SEEDS] for arm in ARMS}
            found = Comparison(WIDTH, value, errors)
            cells = [found.difference(a, b) for _, a, b in PAIRS]
            shown = [f"{c.delta:+.3f} [{c.low:+.3f}, {c.high:+.3f}]" for c in cells]
            mean = sum(errors["x"]) / len(SEEDS)
            print(f"| {setting} | {value:g} | {mean:.3f} | " + " | ".join(shown) + " |")


if __name__ == "__main__":
    main()
