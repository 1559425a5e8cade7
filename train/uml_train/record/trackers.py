"""A run's evaluations for experiment trackers: what `metrics.jsonl` holds, for TensorBoard, W&B or MLflow.

Every cell becomes a run of the tracker: its selected model's losses and accuracies by step, and at the end
its validation and test accuracy. What was told is noted in the run's folder and not told again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from uml_cache import InputError, parse_json, write_atomic
from uml_train.record.cell import CellResult
from uml_train.run import Run

TRACKERS = ("tensorboard", "wandb", "mlflow")


def require_trackers(names: tuple[str, ...]) -> None:
    """Raise `InputError` where a tracker is not installed: before training, not after it."""
    for name in names:
        if find_spec(name) is None:
            raise InputError(f"--log {name} needs the package: pip install 'uml-cache[{name}]'")


def log_run(run: Run, tracker: str) -> int:
    """Tell a tracker of the run's cells that it does not know yet; how many these were."""
    note = run.path / f"logged-{tracker}.json"
    known = _known(note)
    new = [result for result in run.cells if result.name not in known]
    for result in new:
        _TELL[tracker](run, result)
        known.append(result.name)
        write_atomic(note, json.dumps(known).encode())
    return len(new)


def _known(note: Path) -> list[str]:
    try:
        return [str(name) for name in parse_json(note.read_bytes())]
    except (FileNotFoundError, ValueError):
        return []


def _points(result: CellResult) -> Iterator[tuple[int, dict[str, float]]]:
    """The evaluations of the selected model: step, and what was measured."""
    if result.selected < len(result.history):
        for point in result.history[result.selected]:
            yield int(point["step"]), {k: float(v) for k, v in point.items() if k != "step"}


def _parameters(result: CellResult) -> dict[str, Any]:
    """What was trained, as flat values."""
    cell, chosen = result.cell, result.candidates[result.selected] if result.candidates else {}
    tuned = {**chosen, **chosen.get("hyperparameters", {})}
    named = {k: v for k, v in tuned.items() if isinstance(v, str | int | float | bool)}
    return {
        **named,
        "dataset": result.dataset,
        "target": result.target,
        "auxiliaries": "+".join(cell.auxiliaries),
        "method": cell.method,
        "control": cell.control or "none",
        "shots": cell.shots,
        "seed": cell.seed,
    }


def _final(result: CellResult) -> dict[str, float]:
    return {"final/val_acc": result.val_acc, "final/test_acc": result.test_acc}


def _tensorboard(run: Run, result: CellResult) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(run.path / "tensorboard" / result.name)) as writer:
        for step, values in _points(result):
            for name, value in values.items():
                writer.add_scalar(name, value, step)
        writer.add_hparams(_parameters(result), _final(result), run_name=".")


def _wandb(run: Run, result: CellResult) -> None:
    import wandb

    told = wandb.init(
        project="uml", group=run.path.name, name=result.name, config=_parameters(result), dir=str(run.path),
        reinit=True,
    )  # fmt: skip
    for step, values in _points(result):
        told.log(values, step=step)
    told.summary.update(_final(result))
    told.finish()


def _mlflow(run: Run, result: CellResult) -> None:
    import mlflow

    mlflow.set_experiment(f"uml {run.path.name}")
    with mlflow.start_run(run_name=result.name):
        mlflow.log_params(_parameters(result))
        for step, values in _points(result):
            mlflow.log_metrics(values, step=step)
        mlflow.log_metrics({name.replace("/", "_"): value for name, value in _final(result).items()})


_TELL: Mapping[str, Callable[[Run, CellResult], None]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
}
