"""`uml eval`: parse, call `uml_evaluate.evaluate`, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from uml_cache.command import Output, uml_command

if TYPE_CHECKING:
    from uml_train.settings import Shots

_EXAMPLE = """
uml train --cache ./feats
uml eval --probe fewshot --k 4
uml eval --probe linear
uml eval --analysis margin,silhouette
"""
_DEFAULT_K = "4"


@uml_command("eval", example=_EXAMPLE, short_help="Show what the unpaired data added in the newest run.")
@click.option("--probe", type=click.Choice(["fewshot", "linear"]), default="fewshot", show_default=True,
              help="fewshot: k labelled samples per class; linear: all of them.")  # fmt: skip
@click.option("--k", metavar="K[,K]", help=f"Shots of the few-shot probe.  [default: {_DEFAULT_K}]")
@click.option("--cache", type=click.Path(path_type=Path),
              help="Folder with the run's feature stores, if they have moved.")  # fmt: skip
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True,
              help="Folder of runs (the newest is read), or one run.")  # fmt: skip
@click.option("--analysis", metavar="NAME[,NAME]|all",
              help="What the run learnt instead of a table: margin, silhouette, prototypes, boundary, "
                   "alignment, exchange; at the shots of --k, by default all of the run.")  # fmt: skip
@click.option("--aux", metavar="MODALITY[+MODALITY]",
              help="Configuration that --analysis looks at.  [default: the run's first]")  # fmt: skip
@click.option("--pair", nargs=2, metavar="CLASS CLASS",
              help="Classes of --analysis boundary.  [default: those most mixed up]")  # fmt: skip
@click.option("--manifest", type=click.Path(path_type=Path),
              help="Manifest or CSV of the texts, whose words --analysis exchange counts.")  # fmt: skip
def evaluate(
    output: Output, probe: str, k: str | None, cache: Path | None, runs: Path, **analysis: Any
) -> None:
    """Accuracy of every method of the newest run, mean ± standard deviation over its seeds, and the paired
    differences with 95 % intervals: the deeper head, the initialisation, the unpaired data.

    Cells that the run lacks at these shots are trained with the run's own settings and added to it.
    """
    if analysis["analysis"] is not None:
        from uml_evaluate.analyses.asked import run_asked

        run_asked(output, runs=runs, k=k, cache=cache, **analysis)
        return
    from uml_evaluate.evaluation import evaluate as run_evaluation
    from uml_train import newest_run

    shots = _shots(probe, k)
    run = newest_run(runs)
    output.say(f"newest run: {run.path}")
    found = run_evaluation(run, shots=shots, cache=cache, output=output)
    output.result(found.to_json(), found.text())


def _shots(probe: str, k: str | None) -> tuple[Shots, ...]:
    from uml_cache.errors import InputError
    from uml_train.settings import parse_numbers

    if probe == "linear":
        if k is not None:
            raise InputError(
                f"--k {k} belongs to --probe fewshot; --probe linear trains on every labelled sample"
            )
        return ("all",)
    if k == "all":
        raise InputError("--k all means every labelled sample; that is --probe linear")
    shots = parse_numbers(_DEFAULT_K if k is None else k, "--k")
    if min(shots) < 1:
        raise InputError(f"--k is {k}; it must be at least 1")
    return shots
