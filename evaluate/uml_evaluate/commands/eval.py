"""`uml eval`: parse, call `uml_evaluate`, print."""

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
uml eval --probe fewshot --k 4 --rivals all
uml eval --probe knn --target image:hog-color
uml eval --shift shapes-dark,shapes-sketch --k 4
uml eval --compare runs/shapes-image-1234abcd runs/shapes-image-5678ef01
"""
_DEFAULT_K = "4"
_HEADS = ("fewshot", "linear")


@uml_command("eval", example=_EXAMPLE, short_help="Show what the unpaired data added in the newest run.")
@click.option("--probe", type=click.Choice([*_HEADS, "knn", "zeroshot", "logreg", "logreg-sklearn"]),
              default="fewshot", show_default=True,
              help="fewshot: the run's heads at k labelled samples per class; linear: at all of them. knn, "
                   "zeroshot, logreg (logreg-sklearn: scikit-learn's solver): without heads, at --k samples "
                   "per class or all.")  # fmt: skip
@click.option("--k", metavar="K[,K]", help=f"Labelled samples per class.  [default of fewshot: {_DEFAULT_K}]")
@click.option("--rivals", metavar="all|NAME[,NAME]",
              help="Beside the run's heads, on the same draws: logreg, lda, ncm, ridge-text; where encoders "
                   "share a space also cross-modal, tip-adapter, tip-adapter-f, lp++.")  # fmt: skip
@click.option("--target", metavar="MODALITY[:ENCODER]",
              help="Probe this store of --cache, in a run of its own below RUNS/probes.")  # fmt: skip
@click.option("--dataset", metavar="NAME", help="The data set of --target, where the cache holds several.")
@click.option("--shift", metavar="NAME[,NAME]",
              help="Score the run's heads on other data sets of the same encoder.")  # fmt: skip
@click.option("--class-map", type=click.Path(path_type=Path), metavar="FILE",
              help="For --shift: CSV with columns auxiliary,target (theirs, the run's) where class names "
                   "differ.")  # fmt: skip
@click.option("--compare", nargs=2, type=click.Path(path_type=Path), metavar="RUN_A RUN_B",
              help="Paired differences between two runs, with intervals and a corrected test.")  # fmt: skip
@click.option("--cache", type=click.Path(path_type=Path),
              help="Folder with the run's feature stores, if they have moved.")  # fmt: skip
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True,
              help="Folder of runs (the newest is read), or one run.")  # fmt: skip
def evaluate(
    output: Output,
    probe: str,
    k: str | None,
    rivals: str | None,
    target: str | None,
    dataset: str | None,
    shift: str | None,
    class_map: Path | None,
    compare: tuple[Path, Path] | None,
    cache: Path | None,
    runs: Path,
) -> None:
    """Accuracy of every method of the newest run, mean ± standard deviation over its seeds, and the paired
    differences with 95 % intervals: the deeper head, the initialisation, the unpaired data.

    Cells that the run lacks at these shots are trained with the run's own settings and added to it; so are
    probes and rivals.
    """
    _check(probe, rivals, target, dataset, shift, class_map, compare)
    if compare is not None:
        from uml_evaluate.contrast import contrast
        from uml_train import load_run

        found = contrast(*map(load_run, compare), shots=None if k is None else _shots("fewshot", k))
        output.result(found.to_json(), found.text())
        return

    from uml_evaluate.evaluation import evaluate as run_evaluation
    from uml_train import newest_run

    if target is not None:
        from uml_evaluate.probes.begin import begin_probes

        run = begin_probes(cache or Path("feats"), dataset, target, probe, runs / "probes", output)
    else:
        run = newest_run(runs)
        output.say(f"newest run: {run.path}")
    if shift is not None:
        from uml_evaluate.shift import shifted

        shots = None if k is None and probe == "fewshot" else _shots(probe, k)
        moved = shifted(run, shift.split(","), shots=shots, cache=cache, class_map=class_map, output=output)
        output.result(moved.to_json(), moved.text())
        return

    from uml_evaluate.probes.cells import probe_names

    heads = probe in _HEADS
    probes = () if rivals is None else probe_names(rivals)
    result = run_evaluation(
        run,
        shots=_shots(probe, k),
        heads=heads,
        probes=probes if heads else (probe,),
        cache=cache,
        output=output,
    )
    output.result(result.to_json(), result.text())


def _check(
    probe: str,
    rivals: str | None,
    target: str | None,
    dataset: str | None,
    shift: str | None,
    class_map: Path | None,
    compare: tuple[Path, Path] | None,
) -> None:
    """Refuse options that do not go together."""
    from uml_cache.errors import InputError

    given = {"--rivals": rivals, "--target": target, "--shift": shift, "--compare": compare}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise InputError(f"{' and '.join(named)} do not go together; give one of them")
    if rivals is not None and probe not in _HEADS:
        raise InputError(f"--rivals stands beside the run's heads (--probe fewshot or linear), not {probe}")
    if target is not None and probe in _HEADS:
        raise InputError(
            f"--target is for probes without heads, and --probe {probe} trains some: `uml train --target "
            f"{target}` does that; or give --probe knn, zeroshot or logreg"
        )
    if dataset is not None and target is None:
        raise InputError("--dataset belongs to --target")
    if class_map is not None and shift is None:
        raise InputError("--class-map belongs to --shift")


def _shots(probe: str, k: str | None) -> tuple[Shots, ...]:
    from uml_cache.errors import InputError
    from uml_train.settings import parse_numbers

    if probe == "linear" and k is not None:
        raise InputError(
            f"--k {k} belongs to --probe fewshot; --probe linear trains on every labelled sample"
        )
    if probe != "fewshot" and k is None:
        return ("all",)
    if k == "all":
        fix = "that is --probe linear" if probe == "fewshot" else f"leave it out with --probe {probe}"
        raise InputError(f"--k all means every labelled sample; {fix}")
    shots = parse_numbers(_DEFAULT_K if k is None else k, "--k")
    if min(shots) < 1:
        raise InputError(f"--k is {k}; it must be at least 1")
    return shots
