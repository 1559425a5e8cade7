"""`uml train`, `uml finetune` and `uml pretrain`: parse, call `uml_train`, print."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from uml_cache import InputError, Output, declared, settings_options, uml_command
from uml_train.finetune.finetune_settings import FinetuneSettings
from uml_train.settings import OBJECTIVES, TrainSettings

_TRAIN = """
uml extract --encoder dinov2_vits14
uml train --cache ./feats
uml train --cache ./feats --target audio --aux text --aux text+image --shots 1,4 --control permuted,random
uml train --config ./runs/shapes-image-1234abcd/settings.toml --seeds 1-10
"""
_FINETUNE = """
uml extract --encoder hashed-ngrams --data ./descriptions.csv --name birds
uml finetune --encoder dinov2_vits14 --data ./pictures --name birds --aux text --shots 16
"""
_PRETRAIN = """
uml extract --encoder pixels --tokens
uml pretrain --cache ./feats --target image --aux text
uml embed ./runs --modality image
"""
_METHODS = {
    "help": "Methods to compare: unimodal, uml, and with --objective joint self-supervised. Default: all.",
    "default": None,
}
_OBJECTIVE = {"choices": ("ssl", "joint"), "default": "ssl"}
_GRID = {"help": "Hyperparameters that every method searches: quick, multibench, vision-text or a file."}
_dry_run = click.option(
    "--dry-run", is_flag=True, help="Say how much there is to train and how long it would take."
)
_log = click.option(
    "--log", "trackers", type=click.Choice(["tensorboard", "wandb", "mlflow"]), multiple=True,
    help="Also log every cell to this tracker: losses and accuracies by step. May be repeated.",
)  # fmt: skip
_left_out = click.option(
    "--left-out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the rows that are not used, with the reason, as CSV.",
)


@uml_command(
    "train", example=_TRAIN, short_help="Train heads on cached features, with and without unpaired data."
)
@settings_options("train", TrainSettings, FinetuneSettings, encoder={"option": "--finetune"})
@_left_out
@_log
@_dry_run
def train(
    output: Output,
    values: dict[str, Any],
    left_out: Path | None,
    trackers: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Train heads on the features in a cache: UML, which shares its weights with unpaired data of other
    modalities, and every baseline that shows what this data is worth.

    All methods get the same search. Validation selects a model, and only that model sees the test rows. The
    same command continues a stopped run. `uml eval` and `uml report` read the run.

    `uml finetune` trains whole networks, and `uml pretrain` learns without labels. Their options work here,
    too (--finetune ENCODER, --objective ssl).
    """
    tuned = [declared(FinetuneSettings)[name] for name in values if name in declared(FinetuneSettings)]
    if tuned and "encoder" not in values:
        raise InputError(f"{tuned[0].option} belongs to --finetune ENCODER; heads train on cached features")
    _run(output, values, left_out, dry_run, trackers)


@uml_command("finetune", example=_FINETUNE, short_help="Train a whole network on samples, not on features.")
@settings_options("finetune", FinetuneSettings, TrainSettings)
@_left_out
@_log
@_dry_run
def finetune(
    output: Output,
    values: dict[str, Any],
    left_out: Path | None,
    trackers: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Train the encoder itself on the samples of --data, with the methods, draws and selection of
    `uml train`.

    The unpaired data are features in the cache, or with --tune-aux samples, too. The same command goes on
    where it was stopped. `uml eval` and `uml report` read the run.
    """
    if "encoder" not in values:
        raise InputError("which network? give --encoder ENCODER; `uml extract --list` shows them")
    _run(output, values, left_out, dry_run, trackers)


@uml_command(
    "pretrain", example=_PRETRAIN, short_help="Train a transformer on token features, without labels."
)
@settings_options(
    "pretrain",
    TrainSettings,
    methods=_METHODS,
    grid=_GRID,
    objective={"choices": ("ssl", "joint"), "default": "ssl"},
)
@_left_out
@_log
@_dry_run
def pretrain(
    output: Output,
    values: dict[str, Any],
    left_out: Path | None,
    trackers: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Train a transformer that predicts the next token of every modality, without labels or beside a few.

    The stores need tokens (`uml extract --tokens`). Probes say what was learnt, and `uml embed` writes it
    back into the cache as features. The same command continues a stopped run.
    """
    _run(output, {"objective": "ssl", **values}, left_out, dry_run, trackers)


def _run(
    output: Output,
    values: dict[str, Any],
    left_out: Path | None,
    dry_run: bool,
    trackers: tuple[str, ...] = (),
) -> None:
    values = _under_protocol(values)
    from uml_cache import used_lines, write_left_out
    from uml_train.runs.ranks import speaks

    if trackers:
        from uml_train.record.trackers import require_trackers

        require_trackers(trackers)
    rows: list[tuple[str, str, str]] = []
    answers = _estimated(output, values) if dry_run else _trained(output, values, rows)
    if not speaks():
        return
    if left_out is not None and not dry_run:
        write_left_out(left_out, rows)
    found = [value for value, _ in answers]
    if trackers and not dry_run:
        for value in found:
            _log_run(value["run"], trackers, output)
    output.result(found[0] if len(found) == 1 else found, "\n".join(text for _, text in answers))
    if not dry_run:
        for value in found:
            for line in used_lines(value["rows"]):
                output.say(line)


def _log_run(path: str, trackers: tuple[str, ...], output: Output) -> None:
    """Tell the trackers of a run."""
    for tracker in trackers:
        from uml_train.record.trackers import log_run
        from uml_train.run import load_run

        cells = log_run(load_run(path), tracker)
        output.say(f"{tracker} was told of {cells} cell{'s' * (cells != 1)} of {path}")


def _under_protocol(values: dict[str, Any]) -> dict[str, Any]:
    """What is not given, as the protocol has it."""
    from uml_train.protocols.protocols import SCOPE_OF_WAY, protocol_defaults

    protocol = values.get("protocol", "fair")
    way = "finetune" if "encoder" in values else "train"
    if values.get("objective", "supervised") != "supervised":
        way = "pretrain"
    usual = protocol_defaults(protocol, SCOPE_OF_WAY[way])
    if way == "finetune":
        usual |= protocol_defaults(protocol, SCOPE_OF_WAY[way], FinetuneSettings)
    return {**usual, **values}


def _settings(values: dict[str, Any]) -> list[TrainSettings]:
    """The settings of each data set that is named, or of the only one."""
    named = [part.strip() for part in (values.get("dataset") or "").split(",")]
    own = {name: value for name, value in values.items() if name in declared(TrainSettings)}
    return [TrainSettings(**{**own, "dataset": name or None}) for name in dict.fromkeys(named)]


def _trained(
    output: Output, values: dict[str, Any], left_out: list[tuple[str, str, str]]
) -> list[tuple[dict[str, Any], str]]:
    from uml_train.training import train as run_training

    if "encoder" not in values:
        return [
            _answer(run_training(settings, left_out=left_out, output=output))
            for settings in _settings(values)
        ]
    from uml_train.finetune.finetuning import fine_tune as run_finetuning

    tuning = _tuning(values)
    return [
        _answer(run_finetuning(settings, tuning, left_out=left_out, output=output))
        for settings in _settings(values)
    ]


def _estimated(output: Output, values: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    began = time.perf_counter()
    if "encoder" in values:
        from uml_train.finetune.tuning_forecast import estimate_finetuning

        tuning = _tuning(values)
        imports = time.perf_counter() - began
        estimates = [estimate_finetuning(settings, tuning, output=output) for settings in _settings(values)]
    else:
        from uml_train.runs.estimate import estimate

        imports = time.perf_counter() - began
        estimates = [estimate(settings, output=output) for settings in _settings(values)]
    # The command that trains has the same to import first.
    estimates[0] = estimates[0].later(imports)
    return [(found.to_json(), found.text()) for found in estimates]


def _tuning(values: dict[str, Any]) -> FinetuneSettings:
    if "data" not in values:
        raise InputError("fine-tuning needs the samples themselves: --data MANIFEST, folder or CSV")
    return FinetuneSettings(**{k: v for k, v in values.items() if k in declared(FinetuneSettings)})


def _answer(run: Any) -> tuple[dict[str, Any], str]:
    known = {method for methods in OBJECTIVES.values() for method in methods}
    found = [result for result in run.cells if result.cell.method in known]
    # Under ssl the cells of several shots are probes of the same networks.
    shared = run.config["objective"] == "ssl"
    cells = {replace(r.cell, shots="all") if shared else r.cell: r for r in found}.values()
    candidates = [c for result in cells for c in result.candidates]
    numbers = [k for k in run.settings.shots or () if k != "all"]
    probe = f"--probe fewshot --k {4 if 4 in numbers else numbers[-1]}" if numbers else "--probe linear"
    answer = {
        "run": str(run.path),
        "models": len(candidates),
        "model_steps": sum(c["steps"] for c in candidates),
        "seconds": round(sum(result.seconds for result in cells), 2),
        "results": str(run.path / "results.csv"),
        "rows": run.config.get("used", {}),
    }
    return answer, (
        f"Trained {answer['models']:,} models in {answer['model_steps']:,} steps, "
        f"{answer['seconds']:.0f} s.\n"
        f"- run: {answer['run']}\n"
        f"- results: {answer['results']}\n"
        f"- next: uml eval {probe} --runs {run.path.parent}"
    )
