"""Runs that are killed, and runs that processes share: the results are those of one that nobody touched."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from token_stores import write_sequences
from uml_cache.cli import root
from uml_cache.command import Output
from uml_train import Run, TrainSettings, find_runs, load_run, train
from uml_train.folder import run_lock
from uml_train.pretrain.network.network_file import load_network
from uml_train.runs.ranks import Ranks

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and gloo")


def _command(cache: Path, grid: str, out: Path) -> list[str]:
    words = ["train", "--cache", cache, "--aux", "text", "--method", "unimodal,unimodal-deep,uml,auto"]
    words += ["--control", "permuted", "--shots", "1,2", "--seeds", "1-3", "--grid", grid, "--out", out]
    return [str(word) for word in words]


def _uml(words: list[str], **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", "from uml_cache.cli import main; main()", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **options,
    )


@pytest.fixture
def longer_grid(tmp_path: Path) -> str:
    """Long enough that a kill finds the run at work, and that it is worth several processes."""
    file = tmp_path / "longer.toml"
    file.write_text(
        "lr = [0.01, 0.001]\nsteps = 400\nwarmup = 5\neval_every = 20\npatience = 100\nbatch_size = [8]\n"
    )
    return str(file)


def _same_results(ours: Run, theirs: Run) -> None:
    assert {r.cell for r in ours.cells} == {r.cell for r in theirs.cells}
    for a, b in zip(ours.cells, theirs.cells, strict=True):
        assert a.head_path.read_bytes() == b.head_path.read_bytes()
        assert a.predictions_path.read_bytes() == b.predictions_path.read_bytes()
        assert (a.history, a.chosen, a.test_acc) == (b.history, b.chosen, b.test_acc)
    assert (ours.path / "metrics.jsonl").read_bytes() == (theirs.path / "metrics.jsonl").read_bytes()
    splits = [json.loads((run.path / "splits.json").read_text()) for run in (ours, theirs)]
    assert splits[0] == splits[1]


def _wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_killed_run_resumes_to_the_results_of_an_uninterrupted_one(
    cache: Path, longer_grid: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    monkeypatch.setattr("uml_train.runs.workers.available_cores", lambda: 1)
    total = len(_trained_here(_command(cache, longer_grid, whole)).cells)

    def finished() -> int:
        return len(list(part.glob("*/cells/*.json")))

    for wanted in (1, 12):  # once at its beginning, once more in the middle of what the first kill left
        process = _uml(_command(cache, longer_grid, part), start_new_session=True)
        _wait_for(lambda wanted=wanted: finished() >= wanted, process)
        process.send_signal(signal.SIGKILL)  # the process alone: its workers must find out themselves
        process.wait()
        deadline = time.monotonic() + 60
        while _alive(process.pid):
            assert time.monotonic() < deadline, "workers outlived the killed run"
            time.sleep(0.05)
    assert 12 <= finished() < total
    assert not list(part.glob("*/results.csv"))
    assert _uml(_command(cache, longer_grid, part)).wait() == 0
    _same_results(find_runs(part)[0], find_runs(whole)[0])


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_processes_ends_the_run_in_one_line(
    cache: Path, longer_grid: str, tmp_path: Path, by: signal.Signals
) -> None:
    """Ctrl-C and batch systems reach the workers, too; nothing of other libraries is to be read."""
    grid = Path(longer_grid)
    grid.write_text(grid.read_text().replace("steps = 400", "steps = 40000"))
    hearing = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    words = [sys.executable, "-c", f"{hearing}; from uml_cache.cli import main; main()"]
    process = subprocess.Popen(
        [*words, *_command(cache, longer_grid, tmp_path / "out"), "--quiet"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    _wait_for(lambda: len(_children(process.pid)) >= 2, process)
    os.killpg(process.pid, by)
    out, err = process.communicate(timeout=60)
    code, why = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "ended by SIGTERM")}[by]
    assert (process.returncode, out) == (code, "")
    assert err.strip() == f"error: {why}; run the same command again to continue"
    deadline = time.monotonic() + 30
    while _alive(process.pid):  # what multiprocessing tidies up with ends a moment later
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _children(parent: int) -> list[int]:
    """The training processes: of the children those that are not multiprocessing's own."""
    found = []
    for file in Path(f"/proc/{parent}/task").glob("*/children"):
        for child in file.read_text().split():
            with contextlib.suppress(OSError):
                if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.append(int(child))
    return found


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@pytest.fixture
def sequence_command(tmp_path: Path) -> list[str]:
    """A training without labels on small stores; without dropout, whose masks differ between processes."""
    feats, grid = tmp_path / "tokens", tmp_path / "sequences.toml"
    write_sequences(feats, "image", 6, 60, splits=np.repeat([0, 1, 2], 20))
    write_sequences(feats, "text", 4, 30, labelled=False)
    grid.write_text(
        "steps = 6\nwidth = [8]\nlayers = 1\nheads = 2\nfeedforward = 8\nbatch_size = 8\ndropout = 0\n"
        "clip = 0.5\n"
    )
    words = ["train", "--cache", feats, "--target", "image", "--aux", "text", "--objective", "ssl"]
    return [str(word) for word in [*words, "--grid", grid, "--seeds", "1", "--out"]]


def _trained_here(words: list[str]) -> Run:
    CliRunner().invoke(root, words, catch_exceptions=False)
    return find_runs(words[-1])[0]


_TWICE = """
from uml_cache.cli import main  # what the installed command `uml` holds
for words in {commands!r}:
    try:
        main([*words, "--json"])
    except SystemExit as leaving:
        assert not leaving.code
"""


def test_two_gloo_processes_give_the_results_of_one(
    cache: Path, small_grid: str, sequence_command: list[str], tmp_path: Path
) -> None:
    """Heads, each trained by one of the two; and networks, whose batches both share."""
    heads, networks = tmp_path / "heads", tmp_path / "networks"
    _trained_here(_command(cache, small_grid, heads / "one"))
    trained = _trained_here([*sequence_command, str(networks / "one")])
    commands = [_command(cache, small_grid, heads / "two"), [*sequence_command, str(networks / "two")]]
    script = tmp_path / "uml.py"
    script.write_text(_TWICE.format(commands=commands))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*launch, str(script)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = [find_runs(folder / "two")[0] for folder in (heads, networks)]
    said = [json.loads(line)["run"] for line in done.stdout.splitlines()]
    assert said == [str(run.path) for run in found]  # the first process alone prints it
    _same_results(found[0], find_runs(heads / "one")[0])
    _like_networks(found[1], trained)


def _like_networks(ours: Run, theirs: Run) -> None:
    for a, b in zip(ours.cells, theirs.cells, strict=True):
        assert a.cell == b.cell
        x, y = (load_network(result.head_path).model.state_dict() for result in (a, b))
        for name, value in x.items():
            theirs = y[name]
            if name.endswith("qkv.bias"):  # a key's bias changes no attention: Adam steps by its rounding
                value, theirs = (torch.cat([v[:8], v[16:]]) for v in (value, theirs))
            torch.testing.assert_close(value, theirs, rtol=1e-3, atol=1e-4)
        assert a.history[0][-1] == pytest.approx(b.history[0][-1], rel=1e-4)
        assert (a.test_predictions == b.test_predictions).mean() > 0.9


def test_a_second_training_of_networks_waits_for_the_first(
    sequence_command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _trained_here([*sequence_command, str(tmp_path / "runs")])
    before = {path: path.stat().st_mtime_ns for path in (run.path / "models").iterdir()}
    _second_waits(run, run.settings, capsys)
    assert {path: path.stat().st_mtime_ns for path in (run.path / "models").iterdir()} == before


def test_parts_of_all_ranks_are_the_whole() -> None:
    items = list(range(11))
    parts = [Ranks(rank, 3).part(items) for rank in range(3)]
    assert sorted(item for part in parts for item in part) == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert Ranks().part(items) == items


def _second_waits(run: Run, settings: TrainSettings, capsys: pytest.CaptureFixture[str]) -> None:
    """While somebody holds the run, the same training waits; then it ends."""
    with ThreadPoolExecutor(1) as pool:
        with run_lock(run.path, Output()):
            second = pool.submit(train, settings, output=Output())
            with pytest.raises(TimeoutError):
                second.result(timeout=1)
        assert second.result(timeout=60).path == run.path
    assert "is being trained by another process: waiting for it to end" in capsys.readouterr().err


def test_a_second_training_of_a_run_waits_for_the_first(
    cache: Path, settings_for: Callable[..., TrainSettings], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_for(cache, methods=("unimodal",), seeds=(1,))
    run = train(settings)
    before = [path.stat().st_mtime_ns for path in (run.path / "cells").iterdir()]
    _second_waits(run, replace(settings, loader="host"), capsys)
    assert [path.stat().st_mtime_ns for path in (run.path / "cells").iterdir()] == before
    assert load_run(run.path).settings.loader == "host"  # where features wait follows the command
