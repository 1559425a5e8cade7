"""A small cache of three modalities, and settings that train on it in a moment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toy_stores import clusters, write_store


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Pictures (with splits: 8 train, 4 val, 20 test per class), texts and sounds of one data set."""
    feats = tmp_path / "feats"
    labels = np.tile(np.arange(5), 32)
    splits = np.repeat([0, 1, 2], [40, 20, 100])
    write_store(feats, "image", clusters(1, labels, 12, 1.5), labels, splits)
    words = np.tile(np.arange(5), 10)
    write_store(feats, "text", clusters(2, words, 16, 0.5), words, np.full(50, 255))
    sounds = np.tile(np.arange(5), 12)
    write_store(feats, "audio", clusters(3, sounds, 10, 0.5), sounds, np.repeat([0, 2], 30))
    return feats


@pytest.fixture
def small_grid(tmp_path: Path) -> str:
    """Two candidates, sixty steps."""
    file = tmp_path / "small.toml"
    file.write_text("lr = [0.01, 0.001]\nsteps = 60\nwarmup = 5\neval_every = 10\nbatch_size = [8]\n")
    return str(file)


@pytest.fixture
def settings_for(tmp_path: Path, small_grid: str) -> Callable[..., Any]:
    """`TrainSettings` with the small grid, two seeds and one draw size."""
    from uml_train import TrainSettings

    def make(cache: Path, **values: Any) -> TrainSettings:
        common = {"grid": small_grid, "seeds": (1, 2), "shots": (2,), "out": tmp_path / "runs"}
        return TrainSettings(cache=cache, **{**common, **values})

    return make
