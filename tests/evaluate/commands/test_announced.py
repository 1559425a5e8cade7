"""`uml eval` says what it is going to train and for how long; `--no-train` trains nothing; a finished run
needs no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from toy_stores import clusters, write_store
from uml_cache.cli import main
from uml_evaluate import evaluation
from uml_train import load_run, missing_cells, newest_run
from uml_train.completing import wanted_cells

WriteRun = Callable[..., Path]
GRID = "lr = [0.01]\nsteps = 5\nwarmup = 1\neval_every = 5\nbatch_size = [8]\n"


def _uml(*words: object) -> None:
    with pytest.raises(SystemExit) as leaving:
        main([str(word) for word in words])
    assert leaving.value.code == 0


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A run at one shot whose table at two shots is not trained yet."""
    labels = np.tile(np.arange(3), 20)
    write_store(tmp_path / "feats", "image", clusters(0, labels, 6, 0.3), labels, np.repeat([0, 1, 2], 20))
    words = np.tile(np.arange(3), 6)
    write_store(tmp_path / "feats", "text", clusters(9, words, 4, 0.3), words, np.full(18, 255))
    (tmp_path / "grid.toml").write_text(GRID)
    _uml("train", "--cache", tmp_path / "feats", "--method", "unimodal-deep,uml", "--shots", 1, "--seeds",
         "1,2", "--grid", tmp_path / "grid.toml", "--out", tmp_path / "runs")  # fmt: skip
    return tmp_path / "runs"


def test_no_train_shows_what_is_there(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = newest_run(runs)
    before = {path: path.stat().st_mtime_ns for path in (run.path / "cells").iterdir()}
    capsys.readouterr()
    _uml("eval", "--runs", runs, "--k", "1,2", "--no-train", "--json")
    out, err = capsys.readouterr()
    assert "lacks 4 cells at 1, 2 shots; the table is without them (--no-train)" in err
    found = json.loads(out)
    assert {row["shots"] for row in found["table"]} == {1}
    assert {path: path.stat().st_mtime_ns for path in (run.path / "cells").iterdir()} == before


def test_it_says_what_it_trains_before_it_does(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    real = evaluation.complete

    def watched(*given: object, **options: object) -> object:
        said.append(capsys.readouterr().err)
        return real(*given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(evaluation, "complete", watched)
    _uml("eval", "--runs", runs, "--k", "2")
    assert "lacks 4 cells at 2 shots: they are trained now, in about" in said[0]
    assert "--no-train shows what is there" in said[0]
    assert "4 cells at 2 shots; they were trained and added to it" in capsys.readouterr().err


def test_the_estimate_is_what_the_runs_own_cells_took(write_run: WriteRun) -> None:
    """0.1 s a cell in this run; seeds 2 and 3 of the 7 methods lack: 14 cells of each number of shots."""
    run = load_run(write_run(skip=lambda cell: cell.seed > 1))
    lacks = missing_cells(wanted_cells(run, [4]), run)
    text = evaluation._announced(run, [4], lacks, train=True)
    assert "in about 1 s of one core" in text  # 14 × 0.1 s
    for file in (run.path / "cells").glob("*.json"):
        record = json.loads(file.read_text())
        record["seconds"] = 600.0 if record["method"] == "uml" else 60.0
        file.write_text(json.dumps(record))
    run = load_run(run.path)
    wanted = sum(600.0 if cell.method == "uml" else 60.0 for cell in lacks)
    assert 60.0 * len(lacks) < wanted
    said = evaluation._announced(run, [4], lacks, train=True)
    assert f"in about {evaluation.time_text(wanted)} of one core" in said
    other = [replace(cell, method="prior") for cell in lacks]  # a method of which no cell is there: the mean
    mean = np.mean([result.seconds for result in run.cells])
    assert evaluation.time_text(mean * len(other)) in evaluation._announced(run, [4], other, train=True)


def test_a_finished_run_needs_no_torch(runs: Path) -> None:
    _uml("eval", "--runs", runs, "--k", "1")
    code = (
        "import sys; from uml_cache.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print('torch' in sys.modules, file=sys.stderr)"
    )
    words = [sys.executable, "-c", code, "eval", "--runs", str(runs), "--k", "1"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "False"
    assert "uml − unimodal-deep" in done.stdout


def test_captions_name_modality_and_encoder_once(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    _uml("eval", "--runs", runs, "--k", "1", "--rivals", "ncm,logreg")
    out = capsys.readouterr().out
    (caption,) = [line for line in out.splitlines() if line.startswith("test accuracy in %")]
    for name in ("image", "text"):
        assert caption.count(f"{name}: ") == 1
        assert f"{name}: {name}" not in caption
    assert "uml − ncm" in out
    assert "uml − logreg" in out
