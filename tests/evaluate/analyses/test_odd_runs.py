"""Analyses of runs with too little to look at: a finding, or one line that says why there is none."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from toy_stores import clusters, write_store
from uml_cache import InputError
from uml_evaluate.analyses.running import analyse
from uml_train import TrainSettings, train


def test_test_rows_of_one_class_alone_have_no_clusters(tmp_path: Path) -> None:
    labels = np.r_[np.tile([0, 1, 2], 20), [0] * 10]
    splits = np.r_[np.repeat([0, 1], 30), [2] * 10]
    values = clusters(1, labels, 6, 1.0)
    write_store(tmp_path / "f", "image", values, labels.tolist(), splits.tolist())
    (tmp_path / "small.toml").write_text("lr = [0.01]\nsteps = 20\nwarmup = 5\neval_every = 10\n")
    run = train(
        TrainSettings(
            cache=tmp_path / "f", methods=("unimodal",), shots=(2,), seeds=(1,), out=tmp_path / "r",
            grid=str(tmp_path / "small.toml"),
        )
    )  # fmt: skip
    with pytest.raises(InputError, match="10 test rows are of one class alone, 'red circle'"):
        analyse(run, ["silhouette"])
    for name in ("margin", "prototypes", "boundary", "alignment", "exchange"):
        with contextlib.suppress(InputError):
            analyse(run, [name])
