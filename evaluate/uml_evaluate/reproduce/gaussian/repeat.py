"""`uml reproduce gaussian`: paper E.14, its claim and two controls, paired by seed.

Shapes: S seeds.

    OUT/jobs/<hash>.json    one network's settings and held-out error; what is there is not trained again
    OUT/results.csv         one row per network of this command
    OUT/*.png, *.svg        the figure

The paper claims that 5,000 samples of X and 5,000 of Y reconstruct X better than 10,000 of X. Samples, starts
and batches of a seed are the same in every arm, so arms are compared pair by pair; intervals are
Student's t over seeds.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from uml_cache import (
    InputError,
    Output,
    available_cores,
    deaf_to_interrupts,
    no_processes,
    process_pool,
    unknown,
)
from uml_evaluate.reproduce.gaussian.gaussian_finding import ArmErrors, GaussianFinding
from uml_train import DamagedFile, gaussian, read_record, record_bytes, rows_of, write_atomic

SEEDS = (1, 2, 3, 4, 5)
WIDTHS = (10, 128)
SWEEPS: dict[str, tuple[float, ...]] = {
    "budget": (1_000, 3_000, 10_000, 30_000),
    "attenuation": (0.0, 0.05, 0.2, 1.0),
    "noise": (0.1, 0.3, 1.0),
    "steps": (400, 1_000, 3_000, 10_000),
    "projection": (0.25, 0.5, 1.0, 2.0),
    "lr": (5e-4, 1e-3, 5e-3, 1e-2),
}


def run(
    out: Path,
    *,
    scale: str,
    protocol: str = "fair",
    sweep: str | None,
    seeds: Sequence[int] | None,
    output: Output,
) -> GaussianFinding:
    """Train what is missing in `out` and compare.

    Args:
        scale: `full`, or `tiny` for fewer samples and steps.
        protocol: whose scale of the projections, learning rate and number of steps.
        sweep: a name in `SWEEPS`; None: the main comparison at both widths.

    Raises:
        InputError: seeds given twice, an unknown sweep.
    """
    if sweep is not None and sweep not in SWEEPS:
        raise unknown("sweep of gaussian:", sweep, SWEEPS)
    seeds = tuple(SEEDS if seeds is None else seeds)
    if len(set(seeds)) < len(seeds):
        raise InputError(f"seeds are {seeds}; give different ones")
    values: tuple[float | None, ...] = (None,) if sweep is None else SWEEPS[sweep]
    settings = [
        (hidden, value, _setting(scale, protocol, hidden, sweep, value))
        for hidden in WIDTHS
        for value in values
    ]
    jobs = [
        replace(job, arm=arm, seed=seed) for _, _, job in settings for seed in seeds for arm in gaussian.ARMS
    ]
    errors = _trained(out, jobs, output)
    comparisons = [
        ArmErrors(
            hidden,
            value,
            {arm: [errors[replace(job, arm=arm, seed=seed)] for seed in seeds] for arm in gaussian.ARMS},
        )
        for hidden, value, job in settings
    ]
    results = out / f"results{_suffix(sweep, scale)}.csv"
    _write_results(results, comparisons, sweep, seeds)
    figures = _drawn(out, comparisons, sweep, scale)
    return GaussianFinding(sweep, seeds, comparisons, results, figures)


def _setting(
    scale: str, protocol: str, hidden: int, sweep: str | None, value: float | None
) -> gaussian.GaussianJob:
    """The job of one width at one value, for the first arm and seed 0."""
    asked = {name: row.value(protocol) for name, row in rows_of("gaussian").items()}
    values: dict[str, Any] = {} if sweep is None else {sweep: value}
    asked |= values
    job = gaussian.GaussianJob(
        arm=gaussian.ARMS[0],
        seed=0,
        budget=int(asked.pop("budget", 10_000)),
        training=gaussian.Training(hidden=hidden, lr=float(asked.pop("lr")), steps=int(asked.pop("steps"))),
        world=gaussian.World(**asked),
    )
    if scale == "tiny":
        training = replace(job.training, steps=max(20, job.training.steps // 200), batch_size=64)
        job = replace(job, budget=job.budget // 10, training=training)
    return job


def _trained(
    out: Path, jobs: Sequence[gaussian.GaussianJob], output: Output
) -> dict[gaussian.GaussianJob, float]:
    """The error of every job; those that `out` lacks are trained, one core each."""
    folder = out / "jobs"
    found = {job: error for job in jobs if (error := _known(folder, job)) is not None}
    todo = [job for job in jobs if job not in found]
    with output.progress(len(jobs), "network", "gaussian", initial=len(found)) as bar:
        for job, error in _errors(todo):
            record = {**asdict(job), "error": error}
            write_atomic(_path(folder, job), record_bytes(record, indent=1))
            found[job] = error
            bar.update(1)
    return found


def _errors(jobs: Sequence[gaussian.GaussianJob]) -> Iterable[tuple[gaussian.GaussianJob, float]]:
    processes = min(available_cores(), len(jobs))
    # Starting a process costs seconds; less work than this stays in one.
    if sum(job.training.steps for job in jobs) < 50_000 or processes < 2 or no_processes():
        for job in jobs:
            yield job, _one(job)
        return
    with process_pool(processes) as pool:
        with deaf_to_interrupts():  # the processes are started now
            pending = {pool.submit(_one, job): job for job in jobs}
        for future in as_completed(pending):
            yield pending[future], future.result()


def _one(job: gaussian.GaussianJob) -> float:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a second thread costs these small products more than it gives
    try:
        return gaussian.held_out_error(job)
    finally:
        torch.set_num_threads(threads)


def _path(folder: Path, job: gaussian.GaussianJob) -> Path:
    text = json.dumps(asdict(job), sort_keys=True)
    return folder / f"{sha256(text.encode()).hexdigest()[:16]}.json"


def _known(folder: Path, job: gaussian.GaussianJob) -> float | None:
    path = _path(folder, job)
    if not path.exists():
        return None
    again = "delete it and run again"
    values = read_record(path, again, required=False)
    error = values.pop("error", None)
    if values != json.loads(json.dumps(asdict(job))) or not isinstance(error, float):
        raise DamagedFile(path, "is damaged (it holds no error of this network)", again)
    return error


def _write_results(
    path: Path, comparisons: Sequence[ArmErrors], sweep: str | None, seeds: Sequence[int]
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["hidden", sweep or "value", "arm", "seed", "held_out_error"])
    for c in comparisons:
        for arm, errors in c.errors.items():
            writer.writerows([c.hidden, c.value, arm, s, e] for s, e in zip(seeds, errors, strict=True))
    write_atomic(path, text.getvalue().encode())


def _drawn(out: Path, comparisons: Sequence[ArmErrors], sweep: str | None, scale: str) -> list[Path]:
    from uml_evaluate.comparing.shown.figures import save
    from uml_evaluate.reproduce.gaussian.gaussian_figure import main_figure, sweep_figure

    figure = main_figure(comparisons) if sweep is None else sweep_figure(comparisons, sweep)
    return save(figure, out, f"gaussian{_suffix(sweep, scale)}").files


def _suffix(sweep: str | None, scale: str) -> str:
    return (f"-{sweep}" if sweep else "") + ("-tiny" if scale == "tiny" else "")
