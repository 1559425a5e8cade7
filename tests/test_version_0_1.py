"""Stores and runs that version 0.1 wrote are read by every later version (`fixtures/README.md`)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from uml_cache import open_features
from uml_cache.cli import main
from uml_train import load_head, newest_run

WRITTEN = Path(__file__).parent / "fixtures" / "version_0_1"


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to work in, whose run finds the copied stores."""
    folder = tmp_path / "version_0_1"
    shutil.copytree(WRITTEN, folder)
    for config in folder.glob("runs/*/config.json"):
        text = config.read_text().replace("/elsewhere", str(folder))
        config.write_text(text)
    monkeypatch.chdir(folder)
    return folder


def _said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as left:
        main([*words])
    said = capsys.readouterr()
    assert not left.value.code, said.err
    return said.out


def test_its_store_is_whole_and_opens(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = "feats/toy/image/made-up.zarr"
    report = json.loads(_said(capsys, "cache", "verify", store, "--json"))
    assert report["ok"]
    assert report["sealed"]
    info = json.loads(_said(capsys, "cache", "info", store, "--json"))
    assert (info["rows"], info["failed"], info["dim"]) == (60, 1, 6)
    assert len(json.loads(_said(capsys, "cache", "ls", "feats", "--json"))) == 2

    features = open_features(written / store)
    assert features.pooled.shape == (60, 6)
    assert np.flatnonzero(features.status).tolist() == [7]
    assert np.bincount(features.label).tolist() == [12] * 5
    assert features.tokens.lengths[:6].tolist() == [1, 2, 3, 1, 2, 3]
    assert features.tokens.dim == 3


def test_its_run_is_read_and_nothing_is_trained(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = {file: file.read_bytes() for file in written.glob("runs/*/cells/*.json")}
    told = json.loads(_said(capsys, "eval", "--runs", "runs", "--k", "2", "--json"))
    before = json.loads((written / "eval.json").read_text())
    for part in ("table", "differences"):
        assert len(told[part]) == len(before[part])
        for row, then in zip(told[part], before[part], strict=True):
            for key, value in then.items():
                same = value if not isinstance(value, float) else pytest.approx(value, abs=1e-9)
                assert row[key] == same, key
    assert {file: file.read_bytes() for file in written.glob("runs/*/cells/*.json")} == cells


def test_its_heads_and_its_report(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = load_head(next(written.glob("runs/*/heads/uml-data-text-w8-k2-s1.safetensors")))
    assert len(head.classes) == 5
    assert newest_run(written / "runs").config["target"] == "image"
    _said(capsys, "report", "runs")
    page = (written / "runs" / "report.html").read_text()
    assert "47.8" in page
    assert "62.2" in page
