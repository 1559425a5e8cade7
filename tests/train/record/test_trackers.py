"""What trackers are told of a run: every cell once, by step, and what was trained."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from uml_cache import InputError
from uml_train import TrainSettings, train
from uml_train.record.trackers import log_run, require_trackers


class _Wandb:
    """As much of wandb as is used; it remembers what it was told."""

    def __init__(self) -> None:
        self.runs: list[Any] = []

    def init(self, **options: Any) -> Any:
        points: list[tuple[int, dict[str, float]]] = []
        run = SimpleNamespace(
            options=options, points=points, summary={}, finish=lambda: None,
            log=lambda values, step: points.append((step, values)),
        )  # fmt: skip
        self.runs.append(run)
        return run


def test_every_cell_once(
    cache: Path, settings_for: Callable[..., TrainSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = _Wandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    run = train(settings_for(cache, auxiliaries=(("text",),), seeds=(1,)))
    assert log_run(run, "wandb") == len(run.cells)
    assert log_run(run, "wandb") == 0
    assert len(fake.runs) == len(run.cells)
    told = {one.options["name"]: one for one in fake.runs}
    for result in run.cells:
        one = told[result.name]
        assert one.options["config"]["method"] == result.cell.method
        assert one.summary == {"final/val_acc": result.val_acc, "final/test_acc": result.test_acc}
        history = result.history[result.selected]
        assert [step for step, _ in one.points] == [point["step"] for point in history]
        assert [values["val_acc"] for _, values in one.points] == [point["val_acc"] for point in history]


def test_a_tracker_that_is_not_installed_is_said_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uml_train.record.trackers.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'uml-cache\[mlflow\]'"):
        require_trackers(("mlflow",))
