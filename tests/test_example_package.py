"""The example package is installed as a user would, and adds an encoder, a data set and an analysis."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pages import put_birds

PACKAGE = Path(__file__).parents[1] / "examples" / "uml_birdhouse"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed package; nothing is fetched."""
    folder = tmp_path_factory.mktemp("installed")
    line = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index",
            "--no-compile", "--target", str(folder), str(PACKAGE)]  # fmt: skip
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def _uml(line: str, folder: Path, installed: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    words = [sys.executable, "-m", "uml_cache", *line.split()]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_the_package_adds_works(installed: Path, tmp_path: Path) -> None:
    assert "mean-color" in _uml("extract --list", tmp_path, installed)

    put_birds(tmp_path)
    garden = tmp_path / "garden"
    garden.mkdir()
    for path in sorted((tmp_path / "pictures").rglob("*.png")):
        path.rename(garden / f"{path.parent.name}_{path.name}")
    (garden / "notes.txt").write_text("robin: it is red\ncanary: it is yellow\nbluebird: it is blue\n")
    assert json.loads(_uml("nest ./garden --json", tmp_path, installed)) == {"pictures": 72, "notes": 3}

    made = _uml("extract --encoder mean-color --data ./data/nest/image --tokens --json", tmp_path, installed)
    assert json.loads(made)["rows"] == 72
    _uml("extract --encoder hashed-ngrams --data ./data/nest/text --quiet", tmp_path, installed)
    _uml("train --dataset nest --method unimodal-deep,uml --shots 2 --seeds 1-3 --quiet", tmp_path, installed)
    gained = json.loads(_uml("gains ./runs --k 2 --json", tmp_path, installed))
    assert sorted(gained) == ["bluebird", "canary", "robin"]
    assert all(-100 <= points <= 100 for points in gained.values())
