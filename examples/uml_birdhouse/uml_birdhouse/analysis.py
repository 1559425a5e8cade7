"""The command `uml gains`: what the unpaired data added, class by class.

Shapes: N test rows, C classes.
"""

from __future__ import annotations

from pathlib import Path

import click

from uml_cache import InputError, Output, uml_command


@uml_command("gains", example="uml gains ./runs", short_help="Say for each class what the data added.")
@click.argument("runs", type=click.Path(path_type=Path), default=Path("runs"))
@click.option("--k", type=int, default=1, help="Labelled samples per class.")
def gains(output: Output, runs: Path, k: int) -> None:
    """Say by how many points `uml` is ahead of `unimodal-deep` in each class of the newest run in RUNS."""
    found = by_class(runs, k)
    lines = [f"{name:20s} {points:+6.1f}" for name, points in found.items()]
    output.result(found, "\n".join(lines))


def by_class(runs: Path, k: int) -> dict[str, float]:
    """Points of accuracy that `uml` is ahead of `unimodal-deep`, by class, the mean over seeds.

    Raises:
        InputError: the run lacks one of the two methods at k.
    """
    from uml_train import newest_run

    run = newest_run(runs)
    right = {}
    for result in run.cells:
        cell = result.cell
        if cell.shots == k and cell.control is None and cell.method in ("uml", "unimodal-deep"):
            right[cell.method, cell.seed] = result.test_predictions == run.test_labels  # (N,) bool
    seeds = [seed for method, seed in right if method == "uml" and ("unimodal-deep", seed) in right]
    if not seeds:
        raise InputError(f"{run.path} has no uml and unimodal-deep at k = {k}; train them with --shots {k}")
    found = {}
    for position, name in enumerate(run.config["classes"]):
        rows = run.test_labels == position
        if rows.any():
            ahead = [right["uml", s][rows].mean() - right["unimodal-deep", s][rows].mean() for s in seeds]
            found[name] = 100 * float(sum(ahead) / len(ahead))
    return found
