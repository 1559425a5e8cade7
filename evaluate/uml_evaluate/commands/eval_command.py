"""`uml eval`: parse, call the part of `uml_evaluate` that is asked for, print."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from uml_cache import Output, declared, left_out_option, uml_command

if TYPE_CHECKING:
    from uml_train import Shots

_EXAMPLE = """
uml train --cache ./feats
uml eval --probe fewshot --k 4
uml eval --probe fewshot --k 4 --rivals all
uml eval --probe fewshot --k 4 --metric auroc,log-loss,per-class
uml eval --probe knn --target image:hog-color
uml eval --analysis margin,silhouette
uml eval --analysis neurons --runs runs/sarcasm-array.vision-1234abcd
uml eval --advise --cache ./feats --target image
uml eval --shift shapes-dark,shapes-sketch --k 4
uml eval --compare runs/shapes-image-1234abcd runs/shapes-image-5678ef01
"""
_DEFAULT_K = "4"
_HEADS = ("fewshot", "linear")
_TABLE = "table"
_INSTEAD = ("analysis", "advise", "shift", "compare")
"""What the command shows instead of the table, by the option that asks for it."""
_BELONGS = {
    "rivals": (_TABLE,),
    "no_train": (_TABLE,),
    "metric": (_TABLE,),
    "target": (_TABLE, "advise"),
    "dataset": (_TABLE, "advise"),
    "class_map": ("advise", "shift"),
    "aux": ("analysis",),
    "pair": ("analysis",),
    "manifest": ("analysis",),
    "designs": ("analysis",),
    "protocol": ("analysis",),
    "left_out": (_TABLE, "analysis", "advise", "shift"),
}


@uml_command("eval", example=_EXAMPLE, short_help="Show what the unpaired data added in the newest run.")
@click.option("--probe", type=click.Choice([*_HEADS, "knn", "zeroshot", "logreg", "logreg-sklearn"]),
              default="fewshot", show_default=True,
              help="What is evaluated. fewshot: the run's heads at k labelled samples per class; linear: at "
                   "all of them. knn, zeroshot and logreg (logreg-sklearn: scikit-learn's solver) need no "
                   "heads and take --k samples per class, or all.")  # fmt: skip
@click.option("--k", metavar="K[,K]", help=f"Labelled samples per class.  [default of fewshot: {_DEFAULT_K}]")
@click.option("--rivals", metavar="all|NAME[,NAME]",
              help="Other classifiers on the same draws: logreg, lda, ncm, ridge-text. Where encoders share "
                   "a space: cross-modal, tip-adapter, tip-adapter-f, lp++, too.")  # fmt: skip
@click.option("--metric", metavar="NAME[,NAME]",
              help="What the tables show: accuracy (the default), balanced-accuracy, macro-f1, top-5, "
                   "log-loss, calibration-error, auroc; per-class, confusion.")  # fmt: skip
@click.option("--no-train", is_flag=True, help="Train and fit nothing: show what the run has.")
@click.option("--cache", type=click.Path(path_type=Path),
              help="Folder with the run's feature stores, if they have moved.")  # fmt: skip
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True,
              help="Folder of runs (the newest is read), or one run.")  # fmt: skip
@click.option("--target", metavar="MODALITY[.SET][:ENCODER]",
              help="Probe this store of --cache (knn, zeroshot, logreg), in a run of its own below "
                   "RUNS/probes; with --advise the target.")  # fmt: skip
@click.option("--dataset", metavar="NAME", help="The data set of --target, where the cache holds several.")
@click.option("--analysis", metavar="NAME[,NAME]|all",
              help="Analyses of what the run learnt, instead of the table: margin, silhouette, prototypes, "
                   "boundary, alignment, exchange, fisher, theory; of runs without labels neurons. They look "
                   "at the shots of --k, or at all.")  # fmt: skip
@click.option("--aux", metavar="MODALITY[+MODALITY]",
              help="Configuration that --analysis looks at.  [default: the run's first]")  # fmt: skip
@click.option("--pair", nargs=2, metavar="CLASS CLASS",
              help="Classes of --analysis boundary.  [default: those confused most often]")  # fmt: skip
@click.option("--manifest", type=click.Path(path_type=Path),
              help="Manifest or CSV of the texts, whose words --analysis exchange counts.")  # fmt: skip
@click.option("--designs", type=click.Path(path_type=Path), metavar="FILE.npz",
              help="With --analysis theory: two designs (x_shared, y_shared, …), no run.")  # fmt: skip
@click.option("--protocol", type=click.Choice(["fair", "paper", "authors"]),
              help="Whose definitions come first in margin, boundary, prototypes and exchange.  "
                   "[default: the run's]")  # fmt: skip
@click.option("--advise", is_flag=True,
              help="Estimate, before any training, what each auxiliary in --cache would add.")  # fmt: skip
@click.option("--shift", metavar="NAME[,NAME]",
              help="Score the run's heads on other data sets of the same encoder.")  # fmt: skip
@click.option("--compare", nargs=2, type=click.Path(path_type=Path), metavar="RUN_A RUN_B",
              help="Paired differences between two runs, with intervals and corrected p-values.")  # fmt: skip
@click.option("--class-map", type=click.Path(path_type=Path), metavar="FILE",
              help="With --shift or --advise: CSV with columns auxiliary,target (theirs, the run's) where "
                   "class names differ.")  # fmt: skip
@left_out_option
def evaluate(output: Output, probe: str, k: str | None, cache: Path | None, runs: Path, **given: Any) -> None:
    """Show the accuracy of every method of the newest run, mean ± standard deviation over its seeds, and the
    paired differences with 95 % intervals: the deeper head, the initialisation, the unpaired data.

    Cells that the run lacks at these shots are trained with the run's own settings and added to it; so are
    probes and rivals.

    With --advise no run is read: for every auxiliary in the cache and each k, an estimate of what the data
    would add (`uml` − `unimodal-deep`), from the training rows alone.
    """
    asked = _asked(probe, given)
    if asked == "compare":
        _compare(output, k, given["compare"])
    elif asked == "analysis":
        from uml_evaluate.analyses.asked import run_asked

        options = {
            name: given[name] for name in ("analysis", "aux", "pair", "manifest", "designs", "protocol")
        }
        run_asked(output, runs=runs, k=k, cache=cache, left_out=given["left_out"], **options)
    elif asked == "advise":
        _advise(output, probe, k, cache, given)
    elif asked == "shift":
        _shift(output, probe, k, cache, runs, given)
    else:
        _table(output, probe, k, cache, runs, given)


def _asked(probe: str, given: dict[str, Any]) -> str:
    """Which of the things that the command shows is meant; options that do not belong to it are refused."""
    from uml_cache import InputError

    asked = [name for name in _INSTEAD if given[name]]
    if len(asked) > 1:
        raise InputError(f"{' and '.join(map(_option, asked))} do not go together; give one of them")
    what = asked[0] if asked else _TABLE
    for name, owners in _BELONGS.items():
        if given[name] not in (None, False) and what not in owners:
            others = " or ".join(_option(owner) for owner in owners if owner != _TABLE)
            if what == _TABLE:
                raise InputError(f"{_option(name)} belongs to {others}")
            raise InputError(f"{_option(name)} and {_option(what)} do not go together; leave one of them out")
    if what != _TABLE:
        return what
    if given["rivals"] is not None and given["target"] is not None:
        raise InputError("--rivals and --target do not go together; give one of them")
    if given["rivals"] is not None and probe not in _HEADS:
        raise InputError(f"--rivals stands beside the run's heads (--probe fewshot or linear), not {probe}")
    if given["target"] is not None and probe in _HEADS:
        raise InputError(
            f"--target is for probes without heads, and --probe {probe} trains some: `uml train --target "
            f"{given['target']}` does that; or give --probe knn, zeroshot or logreg, or --advise"
        )
    if given["dataset"] is not None and given["target"] is None:
        raise InputError("--dataset belongs to --target or --advise")
    return what


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _compare(output: Output, k: str | None, folders: tuple[Path, Path]) -> None:
    from uml_evaluate.comparing.contrast import contrast
    from uml_train import load_run, store_remarks

    runs = [load_run(folder) for folder in folders]
    for run in runs:
        for remark in store_remarks(run):
            output.say(remark)
    found = contrast(*runs, shots=None if k is None else _shots("fewshot", k))
    output.result(found.to_json(), found.text())


def _advise(output: Output, probe: str, k: str | None, cache: Path | None, given: dict[str, Any]) -> None:
    from uml_cache import InputError
    from uml_evaluate.advice import advice_text, advise

    if probe != "fewshot":
        raise InputError(f"--advise is about k labelled samples per class; leave --probe {probe} out")
    shots = None if k is None else tuple(s for s in _shots(probe, k) if s != "all")
    lost: list[tuple[str, str, str]] = []
    found = advise(
        cache or Path("feats"),
        target=given["target"],
        dataset=given["dataset"],
        k=shots,
        class_map=given["class_map"],
        left_out=lost,
        output=output,
    )
    _write(given["left_out"], lost)
    _result(output, found.to_json(), advice_text(found))


def _result(output: Output, value: dict[str, Any], text: str) -> None:
    """Print a result, and last how many rows of every store it rests on."""
    from uml_cache import used_lines

    output.result(value, text)
    for line in used_lines(value["rows"]):
        output.say(line)


def _shift(
    output: Output, probe: str, k: str | None, cache: Path | None, runs: Path, given: dict[str, Any]
) -> None:
    from uml_evaluate.comparing.shift import shifted
    from uml_train import newest_run

    shots = None if k is None and probe == "fewshot" else _shots(probe, k)
    run = newest_run(runs)
    output.say(f"newest run: {run.path}")
    names = given["shift"].split(",")
    lost: list[tuple[str, str, str]] = []
    found = shifted(
        run, names, shots=shots, cache=cache, class_map=given["class_map"], left_out=lost, output=output
    )
    _write(given["left_out"], lost)
    _result(output, found.to_json(), found.text())


def _table(
    output: Output, probe: str, k: str | None, cache: Path | None, runs: Path, given: dict[str, Any]
) -> None:
    from uml_evaluate.evaluation import evaluate as run_evaluation
    from uml_evaluate.metrics.measures import metrics_named
    from uml_evaluate.probes.wanted import probe_names
    from uml_train import newest_run

    shots = _shots(probe, k)
    metrics = None if given["metric"] is None else metrics_named(given["metric"])
    rivals = () if given["rivals"] is None else probe_names(given["rivals"])
    if given["target"] is not None:
        from uml_evaluate.probes.begin import begin_probes

        place = runs / "probes"
        run = begin_probes(cache or Path("feats"), given["dataset"], given["target"], probe, place, output)
    else:
        run = newest_run(runs)
        output.say(f"newest run: {run.path}")
    heads = probe in _HEADS
    found = run_evaluation(
        run,
        shots=shots,
        heads=heads,
        probes=rivals if heads else (probe,),
        **({} if metrics is None else {"metrics": metrics}),
        train=not given["no_train"],
        cache=cache,
        output=output,
    )
    if given["left_out"] is not None:
        from uml_train import left_out_of  # opens stores

        _write(given["left_out"], left_out_of(run, cache))
    _result(output, found.to_json(), found.text())


def _write(file: str | None, rows: Iterable[tuple[str, str, str]]) -> None:
    """Write the rows that are left out, where that was asked for."""
    from uml_cache import write_left_out

    if file is not None:
        write_left_out(Path(file), rows)


def _shots(probe: str, k: str | None) -> tuple[Shots, ...]:
    from uml_cache import InputError
    from uml_train import TrainSettings

    if probe == "linear" and k is not None:
        raise InputError(
            f"--k {k} belongs to --probe fewshot; --probe linear trains on every labelled sample"
        )
    if probe != "fewshot" and k is None:
        return ("all",)
    shots: tuple[Shots, ...] = declared(TrainSettings)["shots"].read(_DEFAULT_K if k is None else k, "--k")
    if "all" in shots:
        fix = "that is --probe linear" if probe == "fewshot" else f"leave it out with --probe {probe}"
        raise InputError(f"--k {k} means every labelled sample; {fix}")
    return shots
