"""The three lines as a user types them, each a process of its own, in an empty folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hub_cache import put_timm_model
from uml_manifests import render_shapes

LINES = (
    "uml extract --encoder dinov2_vits14",
    "uml train --cache ./feats",
    "uml eval --probe fewshot --k 4",
)


def _type(line: str, folder: Path, home: Path, limit: int = 400) -> subprocess.CompletedProcess[str]:
    """Run a line with the environment's own `uml`, offline, with the hub cache in `home`.

    The limit is for a process that hangs, as the hub's client does when it retries without a network.
    """
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": paths, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        line.split(), cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=limit
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder but for a smaller rendering of the shapes, so that DINOv2 has 432 pictures to see."""
    folder = tmp_path / "empty"
    folder.mkdir()
    render_shapes(folder / "data" / "shapes", train=4, val=4, test=1, texts=6)
    return folder


def test_one_after_the_other(folder: Path, tmp_path: Path) -> None:
    put_timm_model(
        tmp_path / "hub", "timm/vit_small_patch14_dinov2.lvd142m", "vit_small_patch14_dinov2", img_size=518
    )
    answers = []
    for line in LINES:
        done = _type(f"{line} --json", folder, tmp_path / "hub")
        assert done.returncode == 0, done.stderr
        answers.append(json.loads(done.stdout))
    extracted, trained, evaluated = answers
    assert extracted["rows"] == 432
    assert {Path(also["store"]).parts[-2] for also in extracted["also"]} == {"text", "audio"}
    run = json.loads((Path(trained["run"]) / "config.json").read_text())
    assert run["stores"]["image"]["encoder"] == "dinov2_vits14"
    assert run["configurations"] == [["text"], ["audio"], ["text", "audio"]]
    methods = {row["method"] for row in evaluated["table"] if row["auxiliaries"] in ([], ["text"])}
    heads = {"unimodal", "unimodal-deep", "init-only", "uml", "uml-init", "ridge", "prior"}
    assert methods == {*heads, "textbook"}
    assert all(row["shots"] == 4 and row["seeds"] == 5 for row in evaluated["table"])
    data = next(d for d in evaluated["differences"] if (d["a"], d["b"]) == ("uml", "unimodal-deep"))
    assert data["ci_low"] <= data["delta"] <= data["ci_high"]


def test_offline_without_a_checkpoint_one_line_at_once(tmp_path: Path) -> None:
    done = _type(LINES[0], tmp_path, tmp_path / "hub", limit=30)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: encoder dinov2_vits14")
    assert "--weights" in line
    assert "hog-color" in line
    assert not (tmp_path / "feats").exists()
