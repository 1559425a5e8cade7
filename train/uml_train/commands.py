"""`uml train`: parse, call `uml_train.train`, print."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from uml_cache.command import Output, uml_command
from uml_train.finetune.options import finetune_options, take_finetune

_EXAMPLE = """
uml extract --encoder dinov2_vits14
uml train --cache ./feats
uml train --cache ./feats --target audio --aux text --aux text+image --shots 1,4 --control permuted,random
uml train --cache ./feats --finetune dinov2_vits14 --data ./pictures --name birds --aux text --shots 16
"""


@uml_command(
    "train", example=_EXAMPLE, short_help="Train heads on cached features, with and without unpaired data."
)
@click.option("--cache", type=click.Path(path_type=Path), default=Path("feats"), show_default=True,
              help="Folder with feature stores.")  # fmt: skip
@click.option("--dataset", "datasets", metavar="NAME[,NAME]", help="Data sets to train on, one run each.")
@click.option("--target", metavar="MODALITY[:ENCODER]",
              help="What is classified, such as image or image:dinov2_vits14. "
                   "Default: image, else audio, else text.")  # fmt: skip
@click.option("--aux", "auxiliaries", multiple=True, metavar="MODALITY[+MODALITY]",
              help="One configuration of unpaired data, such as text or text+audio; may be repeated. "
                   "Default: every other modality, each alone and all together.")  # fmt: skip
@click.option("--method", "methods", metavar="METHOD[,METHOD]",
              help="unimodal, unimodal-deep, init-only, uml, uml-init, auto (whichever of the others "
                   "validates best). Default: all but auto.")  # fmt: skip
@click.option("--control", "controls", metavar="CONTROL[,CONTROL]", default="",
              help="permuted (its classes swapped), random (class vectors at random), unrelated:NAME "
                   "(another data set's).")  # fmt: skip
@click.option(
    "--shots", metavar="K[,K]|all", help="Labelled samples per class. Default: those of 1,2,4,8,16 at hand."
)
@click.option("--seeds", metavar="S[,S]|S-S", default="1-5", show_default=True,
              help="Each fixes a draw, an initialisation and a batch order.")  # fmt: skip
@click.option("--grid", metavar="NAME|FILE.toml", default="auto", show_default=True,
              help="Hyperparameters searched for every method. auto: fair (heads are solved at once), or quick where that cannot be; quick, paper or demo: trained by AdamW; for the objectives "
                   "ssl and joint quick, multibench or vision-text.")  # fmt: skip
@click.option("--alpha", metavar="A[,A]",
              help="Weights of each auxiliary's loss to search. Default: the grid's, 1.")  # fmt: skip
@click.option("--ratio", metavar="R[,R]",
              help="Auxiliary batches per target batch to search: 0.25, 0.5, 1, 2, 4. "
                   "Default: the grid's, 1.")  # fmt: skip
@click.option("--normalize", metavar="KIND", default="auto", show_default=True,
              help="none, center, l2, center-l2, standard or shrunk; fitted on the rows a model trains on. "
                   "auto: shrunk with the grid fair, else none.")  # fmt: skip
@click.option("--refit", is_flag=True,
              help="Solve the selected head once more on training and validation rows together.")  # fmt: skip
@click.option("--normalize-on", type=click.Choice(["draw", "pool"]), default="draw", show_default=True,
              help="pool: fitted on all training rows of the target, unlabelled.")  # fmt: skip
@click.option("--sampling", type=click.Choice(["shuffled", "balanced"]), default="shuffled",
              show_default=True, help="balanced: batches with the classes in equal parts.")  # fmt: skip
@click.option("--aligned", type=click.Choice(["normalized", "raw", "off"]), default="normalized",
              show_default=True, help="Encoders with a joint space need no projection: logits of unit "
              "vectors, or of vectors as they are, times 100; off: projected like any.")  # fmt: skip
@click.option("--trunk", type=click.Choice(["linear", "mlp", "transformer"]), default="linear",
              show_default=True, help="What the modalities share: mlp, a hidden layer; transformer, blocks "
              "over the tokens that `uml extract --tokens` writes.")  # fmt: skip
@click.option("--loader", type=click.Choice(["auto", "device", "host", "stream"]), default="auto",
              show_default=True, help="Where features wait: copied into memory (or onto the GPU), mapped "
              "from the stores, or read ahead of use; changes no result.")  # fmt: skip
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True,
              help="Where heads train.")  # fmt: skip
@click.option("--precision", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32",
              show_default=True, help="Of the products on CUDA; weights stay float32.")  # fmt: skip
@click.option("--objective", type=click.Choice(["supervised", "ssl", "joint"]), default="supervised",
              show_default=True, help="ssl: a transformer learns to predict the next token, without labels; "
              "joint: that and the classes of a few samples. Both need stores with tokens.")  # fmt: skip
@click.option("--checkpoint-minutes", type=float, default=10.0, show_default=True,
              help="How often a transformer is saved while it trains.")  # fmt: skip
@click.option(
    "--texts", metavar="all|N|mean", default="all", show_default=True, help="Auxiliary samples per class."
)
@click.option("--class-map", type=click.Path(path_type=Path), metavar="FILE",
              help="CSV with columns auxiliary,target where class names differ.")  # fmt: skip
@click.option("--splits", type=click.Path(path_type=Path), metavar="FILE",
              help="CSV with columns id,split, or a few-shot index (JSON), in place of the target's "
                   "own splits.")  # fmt: skip
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Folder of runs."
)
@finetune_options
@click.option("--dry-run", is_flag=True, help="Say how much there is to train and how long it would take.")
def train(output: Output, dry_run: bool, **options: Any) -> None:
    """Train heads on the features in a cache: UML, which shares its weights with unpaired data of other
    modalities, and every baseline that shows what this data is worth.

    All methods get the same search; validation selects, and only the selected model sees the test rows. The
    same command goes on where it was stopped. `uml eval` and `uml report` read the run.
    """
    from uml_train.runs.ranks import speaks
    from uml_train.training import train as run_training

    tuning = take_finetune(options)
    datasets = options.pop("datasets")
    if tuning is not None:
        answer = _finetune(tuning, datasets, dry_run, output, options)
        if speaks():
            output.result(answer, _text(answer))
        return
    names = [None] if datasets is None else _names(datasets)
    settings = [_settings(dataset=name, **options) for name in names]
    if dry_run:
        if not speaks():
            return
        from uml_train.runs.estimate import estimate

        estimates = [estimate(s, output=output) for s in settings]
        text = "\n".join(e.text() for e in estimates)
        output.result(
            [e.to_json() for e in estimates] if len(estimates) > 1 else estimates[0].to_json(), text
        )
        return
    answers = [_answer(run_training(s, output=output)) for s in settings]
    value = answers[0] if len(answers) == 1 else answers
    if speaks():
        output.result(value, "\n".join(_text(answer) for answer in answers))


def _finetune(
    tuning: Any, datasets: str | None, dry_run: bool, output: Output, options: dict[str, Any]
) -> dict[str, Any]:
    from uml_cache.errors import InputError
    from uml_train.finetune.finetuning import finetune

    if dry_run or datasets is not None or options["target"] is not None:
        given = "--dry-run" if dry_run else "--dataset" if datasets is not None else "--target"
        raise InputError(f"{given} is for cached features; with --finetune --data says what is trained on")
    return _answer(finetune(_settings(dataset=None, **options), tuning, output=output))


def _settings(
    *,
    auxiliaries: tuple[str, ...],
    methods: str | None,
    controls: str,
    shots: str | None,
    seeds: str,
    alpha: str | None,
    ratio: str | None,
    texts: str,
    **rest: Any,
) -> Any:
    from uml_train.settings import (
        METHODS,
        TrainSettings,
        parse_numbers,
        parse_shots,
        parse_texts,
        parse_values,
    )

    return TrainSettings(
        auxiliaries=tuple(tuple(_names(a, "+")) for a in auxiliaries) or None,
        methods=METHODS if methods is None else tuple(_names(methods)),
        controls=tuple(_names(controls)),
        shots=None if shots is None else parse_shots(shots, "--shots"),
        seeds=parse_numbers(seeds, "--seeds"),
        alpha=None if alpha is None else parse_values(alpha, "--alpha"),
        ratio=None if ratio is None else parse_values(ratio, "--ratio"),
        texts=parse_texts(texts),
        **rest,
    )


def _names(text: str, separator: str = ",") -> list[str]:
    return list(dict.fromkeys(part.strip() for part in text.split(separator) if part.strip()))


def _answer(run: Any) -> dict[str, Any]:
    from uml_train.settings import OBJECTIVES

    known = {method for methods in OBJECTIVES.values() for method in methods}
    found = [result for result in run.cells if result.cell.method in known]
    # Under ssl the cells of several shots are probes of the same networks.
    shared = run.config["objective"] == "ssl"
    cells = {replace(r.cell, shots="all") if shared else r.cell: r for r in found}.values()
    candidates = [c for result in cells for c in result.candidates]
    return {
        "run": str(run.path),
        "models": len(candidates),
        "model_steps": sum(c["steps"] for c in candidates),
        "seconds": round(sum(result.seconds for result in cells), 2),
        "results": str(run.path / "results.csv"),
    }


def _text(answer: dict[str, Any]) -> str:
    from uml_train.run import load_run

    numbers = [k for k in load_run(answer["run"]).settings.shots or () if k != "all"]
    probe = f"--probe fewshot --k {4 if 4 in numbers else numbers[-1]}" if numbers else "--probe linear"
    return (
        f"{answer['models']} models, {answer['model_steps']:,} steps, {answer['seconds']:.0f} s of training\n"
        f"run      {answer['run']}\n"
        f"results  {answer['results']}\n"
        f"next     uml eval {probe} --runs {Path(answer['run']).parent}"
    )
