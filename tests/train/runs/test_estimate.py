"""`--dry-run` knows of early stopping, and of large cells by smaller ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from uml_train import TrainSettings, estimate
from uml_train.problem import Problem
from uml_train.record.keeping import WRITING
from uml_train.run import Cell
from uml_train.runs import solved_calibration
from uml_train.runs.calibration import Cost, _even
from uml_train.runs.costs import likely_text
from uml_train.runs.estimate import _together
from uml_train.runs.workers import work_of

Settings = Callable[..., TrainSettings]


def test_models_that_stop_early_are_expected_to(
    cache: Path, settings_for: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uml_train.runs.estimate._imports", lambda: 0.0)
    grid = tmp_path / "long.toml"
    # A rate that changes no guess: the second look is no better than the first, and ends the training.
    grid.write_text("lr = [1e-12]\nsteps = 100000\neval_every = 10\npatience = 1\nbatch_size = [8]\n")
    found = estimate(
        settings_for(cache, grid=str(grid), methods=("unimodal", "uml"), auxiliaries=(("text",),))
    )
    assert found.models == 4
    assert found.model_steps == 400_000
    assert found.seconds_at_most > 5 * found.seconds
    assert "without early stopping" in found.text()


def test_cells_that_are_too_large_to_be_tried_are_as_long_as_their_work(
    cache: Path, settings_for: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Cell] = []

    def trained(problem: Problem, settings: TrainSettings, grid: object, kind: Cell) -> Cost:
        tried.append(kind)
        return Cost(work_of(problem, kind), 0.0, 1, 1)

    monkeypatch.setattr(solved_calibration, "_trained", trained)
    settings = settings_for(
        cache, grid="fair", shots=(1, 2, 4), methods=("unimodal", "uml"), auxiliaries=(("text",),),
        controls=("permuted",),
    )  # fmt: skip
    found = estimate(settings)
    # A second of each multiplication: nothing but the smallest cell of each method is tried.
    assert {(cell.method, cell.shots, cell.control) for cell in tried} == {
        ("unimodal", 1, None),
        ("uml", 1, None),
    }
    rows, pairs = 5, 5 * 5  # classes; classes of both sides of a head
    own = [2 * k * rows * min(k * rows, 12) * rows for k in (1, 2, 4)]  # two seeds, 12 features
    text = [2 * 50 * 2 * pairs] * 3
    whole = sum(own) + 2 * sum(map(sum, zip(own, text, strict=True)))
    assert found.seconds == pytest.approx((1 + WRITING) * whole, rel=1e-3)


def test_cells_go_to_the_process_that_is_free_first() -> None:
    assert _together([5.0, 1.0, 1.0, 1.0, 4.0], 2) == pytest.approx(7.0 * (1 + WRITING))
    assert _together([5.0, 1.0], 1) == pytest.approx(6.0 * (1 + WRITING))
    assert _together([], 2) == 0.0


def test_draws_are_even_however_many_there_are() -> None:
    drawn = [_even(i) for i in range(64)]
    for size in (2, 4, 8, 16):
        for at in range(0, 64, size):
            assert sorted(int(size * value) for value in drawn[at : at + size]) == list(range(size))


def test_one_time_is_said_once() -> None:
    assert likely_text(12.0, 40.0) == "about 12 s, at most 40 s without early stopping"
    assert likely_text(12.0, 12.0) == "about 12 s"
