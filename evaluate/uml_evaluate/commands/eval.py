"""`uml eval`: parse, call `uml_evaluate.evaluate`, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from uml_cache.command import Output, uml_command

if TYPE_CHECKING:
    from uml_train.settings import Shots

_EXAMPLE = """
uml train --cache ./feats
uml eval --probe fewshot --k 4
uml eval --probe linear
uml eval --advise --cache ./feats --target image
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
@click.option("--advise", is_flag=True,
              help="Estimate, before any training, what each auxiliary in --cache would add.")  # fmt: skip
@click.option("--target", help="With --advise: MODALITY[.SET][:ENCODER].  [default: image, audio or text]")
@click.option("--dataset", help="With --advise: the data set, where the cache holds several.")
@click.option("--class-map", type=click.Path(path_type=Path),
              help="With --advise: CSV of class names that differ (auxiliary,target).")  # fmt: skip
def evaluate(
    output: Output,
    probe: str,
    k: str | None,
    cache: Path | None,
    runs: Path,
    advise: bool,
    target: str | None,
    dataset: str | None,
    class_map: Path | None,
) -> None:
    """Accuracy of every method of the newest run, mean ± standard deviation over its seeds, and the paired
    differences with 95 % intervals: the deeper head, the initialisation, the unpaired data.

    Cells that the run lacks at these shots are trained with the run's own settings and added to it.

    With --advise no run is read: for every auxiliary in the cache and each k, an estimate of what the data
    would add (`uml` − `unimodal-deep`), from the training rows alone.
    """
    if advise:
        _advise(output, probe, k, cache, target, dataset, class_map)
        return
    _only_with_advise({"--target": target, "--dataset": dataset, "--class-map": class_map})
    from uml_evaluate.evaluation import evaluate as run_evaluation
    from uml_train import newest_run

    shots = _shots(probe, k)
    run = newest_run(runs)
    output.say(f"newest run: {run.path}")
    found = run_evaluation(run, shots=shots, cache=cache, output=output)
    output.result(found.to_json(), found.text())


def _advise(
    output: Output,
    probe: str,
    k: str | None,
    cache: Path | None,
    target: str | None,
    dataset: str | None,
    class_map: Path | None,
) -> None:
    from uml_cache.errors import InputError
    from uml_evaluate.advice import advise, text

    if probe == "linear":
        raise InputError("--advise is about k labelled samples per class; leave --probe linear out")
    shots = None if k is None else tuple(s for s in _shots(probe, k) if s != "all")
    found = advise(
        cache or Path("feats"), target=target, dataset=dataset, k=shots, class_map=class_map, output=output
    )
    output.result(found.to_json(), text(found))


def _only_with_advise(options: dict[str, object]) -> None:
    from uml_cache.errors import InputError

    for option, value in options.items():
        if value is not None:
            raise InputError(f"{option} {value} belongs to --advise; without it the run says what is read")


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
