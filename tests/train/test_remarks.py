"""What training says of data that it can use only in part, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toy_stores import clusters, write_store
from uml_cache import Output
from uml_train import train

Settings = Callable[..., Any]


def _said(capsys: pytest.CaptureFixture[str], settings: Any) -> str:
    train(settings, output=Output())
    captured = capsys.readouterr()
    return captured.out + captured.err


def test_classes_with_fewer_texts_than_asked_for(
    tmp_path: Path, settings_for: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    feats = tmp_path / "feats"
    labels = np.tile(np.arange(5), 20)
    write_store(feats, "image", clusters(1, labels, 12, 1.5), labels, np.repeat([0, 1, 2], [40, 20, 40]))
    words = np.array([0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4])
    write_store(feats, "text", clusters(2, words, 16, 0.5), words, np.full(12, 255))
    few = _said(capsys, settings_for(feats, methods=("uml",), texts=3))
    assert "text: 2 of 5 classes have fewer than the 3 samples of --texts, the smallest 1" in few
    assert "samples of --texts" not in _said(capsys, settings_for(feats, methods=("uml",), texts=1))


def test_features_that_are_all_the_same(
    tmp_path: Path, settings_for: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = np.tile(np.arange(5), 20)
    splits = np.repeat([0, 1, 2], [40, 20, 40])
    write_store(tmp_path / "same", "image", np.ones((100, 12), np.float32), labels, splits)
    said = _said(capsys, settings_for(tmp_path / "same", methods=("unimodal",)))
    assert "warning: image: the features of 100 samples from all over it are the same" in said
    write_store(tmp_path / "other", "image", clusters(1, labels, 12, 1.5), labels, splits)
    assert "are the same" not in _said(capsys, settings_for(tmp_path / "other", methods=("unimodal",)))
