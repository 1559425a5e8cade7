"""Files of a run that are damaged or gone: named, never used, and made anew by the same command."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from uml_cache import InputError, Output
from uml_evaluate import compare
from uml_train import Run, TrainSettings, complete, load_run, train
from uml_train.record import keeping
from uml_train.record.cell import CellResult
from uml_train.record.checksums import DamagedFile
from uml_train.record.keeping import Finished, Keeper
from uml_train.record.scores import Answers

Settings = Callable[..., TrainSettings]


@pytest.fixture
def settings(cache: Path, settings_for: Settings) -> TrainSettings:
    return settings_for(cache, auxiliaries=(("text",),), methods=("unimodal", "uml", "auto"))


def _files(run: Run) -> dict[str, bytes]:
    """What training alone decides; the other files hold times."""
    inside = (path for folder in ("heads", "predictions") for path in (run.path / folder).iterdir())
    names = ("test_labels.npy", "splits.json", "settings.toml", "metrics.jsonl")
    others = [run.path / name for name in names]
    return {path.name: path.read_bytes() for path in [*inside, *others]}


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def _some(run: Run, folder: str) -> Path:
    return next(path for path in sorted((run.path / folder).iterdir()) if path.name.startswith("uml-"))


@pytest.mark.parametrize("folder", ["cells", "heads", "predictions"])
@pytest.mark.parametrize("harm", [_flip, Path.unlink])
def test_a_cell_is_made_anew(
    settings: TrainSettings, folder: str, harm: Callable[[Path], object], capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(settings)
    before, accuracies = _files(run), [r.test_acc for r in run.cells]
    victim = _some(run, folder)
    harm(victim)
    capsys.readouterr()
    again = train(settings, output=Output())
    said = capsys.readouterr().err
    assert "trained 1 cell in" in said
    # Where the record is gone there is no cell to speak of.
    assert (str(victim) in said) == (victim.suffix != ".json" or harm is _flip)
    assert _files(again) == before
    assert [r.test_acc for r in again.cells] == accuracies


@pytest.mark.parametrize(
    "name", ["config.json", "test_labels.npy", "splits.json", "settings.toml", "results.csv"]
)
@pytest.mark.parametrize("harm", [_flip, Path.unlink])
def test_the_run_is_made_whole_without_training(
    settings: TrainSettings, name: str, harm: Callable[[Path], object], capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(settings)
    before, table = _files(run), (run.path / "results.csv").read_bytes()
    harm(run.path / name)
    capsys.readouterr()
    again = train(settings, output=Output())
    said = capsys.readouterr().err
    assert "nothing was trained" in said
    if harm is _flip and name in ("config.json", "test_labels.npy", "splits.json"):
        assert f"{run.path / name}" in said
    assert _files(again) == before
    assert (run.path / "results.csv").read_bytes() == table


def test_readers_name_what_is_damaged(settings: TrainSettings) -> None:
    run = train(settings)
    for folder in ("predictions", "cells"):
        victim = _some(run, folder)
        data = victim.read_bytes()
        _flip(victim)
        with pytest.raises(
            DamagedFile, match=rf"{victim.name} is damaged .*same `uml train` command to train"
        ):
            _ = [c.rows for c in compare(load_run(run.path))]
        victim.write_bytes(data)
    _flip(run.path / "test_labels.npy")
    with pytest.raises(DamagedFile, match=r"test_labels.npy is damaged"):
        _ = [c.rows for c in compare(load_run(run.path))]
    _flip(_some(run, "cells"))
    with pytest.raises(DamagedFile, match=r"damaged"):  # `uml eval` trains nothing into a damaged run
        complete(run, shots=(2,))


def test_a_record_of_another_run_does_not_count(settings: TrainSettings, settings_for: Settings) -> None:
    run = train(settings)
    other = train(settings_for(settings.cache, auxiliaries=(("text",),), methods=("uml",), normalize="l2"))
    victim = _some(run, "cells")
    victim.write_bytes((other.path / "cells" / victim.name).read_bytes())
    with pytest.raises(DamagedFile, match="is the record of another run or cell"):
        _ = load_run(run.path).cells
    train(settings)
    assert len(load_run(run.path).cells) == 6


def test_cells_that_nobody_asked_for_are_taken_out_and_said(
    settings: TrainSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(settings)
    complete(run, shots=(4,))
    victim = next(path for path in (run.path / "predictions").iterdir() if "-k4-" in path.name)
    _flip(victim)
    capsys.readouterr()
    train(settings, output=Output())
    assert "its cell is taken out; `uml eval` adds it" in capsys.readouterr().err
    assert [cell.key for cell in complete(run, shots=(4,))] == [victim.stem]


def test_what_a_dead_process_left_is_cleared(settings: TrainSettings) -> None:
    run = train(settings)
    for path in (
        run.path / f".uml-{'0' * 32}.tmp",
        run.path / "cells" / f".uml-{'a' * 32}.tmp",
        run.path / "heads" / ".uml-data-text-w16-k2-s1.safetensors.4242.partial",
        run.path / "analyses" / f"margin-text.npz.{'b' * 32}.tmp",
    ):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    train(settings)
    assert [path for path in run.path.rglob("*") if path.suffix in (".tmp", ".partial")] == []


def test_tables_that_a_killed_command_did_not_write_are_written_by_the_next(settings: TrainSettings) -> None:
    run = train(settings)
    complete(run, shots=(4,))
    whole = (run.path / "results.csv").read_bytes()
    (run.path / "results.csv").write_bytes(whole[: len(whole) // 2])
    assert complete(run, shots=(4,)) == []
    assert (run.path / "results.csv").read_bytes() == whole


def test_a_read_only_run_is_evaluated(settings: TrainSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written where nothing has to be."""
    run = train(settings)

    def refused(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "replace", refused)
    assert complete(run, shots=(2,)) == []


def test_a_record_has_its_name_after_all_it_speaks_of_is_on_the_disk(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a power cut: names that are not flushed are gone, and no flushed record speaks of such."""
    waiting: dict[str, set[str]] = {}
    early: list[str] = []
    replace, fsync, mkdir = os.replace, os.fsync, os.mkdir

    def seen_replace(a: str | Path, b: str | Path) -> None:
        replace(a, b)
        path = Path(os.path.abspath(b))
        if path.parent.name == "cells":
            early.extend(f for f, names in waiting.items() if names and f != str(path.parent))
        waiting.setdefault(str(path.parent), set()).add(path.name)

    def seen_fsync(handle: int) -> None:
        fsync(handle)
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            waiting.pop(os.readlink(f"/proc/self/fd/{handle}"), None)

    def seen_mkdir(path: str | Path, *more: object) -> None:
        mkdir(path, *more)  # type: ignore[arg-type]
        waiting.setdefault(str(Path(path).absolute().parent), set()).add(Path(path).name)

    for name, function in (("replace", seen_replace), ("fsync", seen_fsync), ("mkdir", seen_mkdir)):
        monkeypatch.setattr(os, name, function)
    train(settings)
    assert early == []
    assert {folder for folder, names in waiting.items() if names and "pytest" in folder} == set()


def test_cells_wait_for_each_other_but_not_long(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(settings)
    result = next(r for r in run.cells if r.cell.method == "uml")
    clock = [0.0]
    monkeypatch.setattr(keeping.time, "monotonic", lambda: clock[0])
    written: list[int] = []
    monkeypatch.setattr(keeping, "write_together", lambda *stages: written.append(len(stages[1])))
    one = Finished(result, Answers.of(result.test_predictions, None), b"head")
    with Keeper(run) as keeper:
        keeper.keep(one)
        assert written == [1]  # the first at once
        keeper._due = 1.0
        keeper.keep(one)
        keeper.keep(one)
        assert written == [1]
        clock[0] = 1.5
        keeper.keep(one)
        assert written == [1, 1]  # three of one name
        keeper._due = 9.0
        keeper.keep(Finished(result, Answers.of(result.test_predictions, None), None, at_once=True))
        assert len(written) == 3
        keeper.keep(one)
    assert len(written) == 4  # what waits at the end is written


def test_a_group_is_dropped_where_the_stores_have_changed(settings: TrainSettings) -> None:
    run = train(settings)
    result: CellResult = run.cells[0]
    before = result.record_path.read_bytes()

    def changed() -> None:
        raise InputError("changed")

    keeper = Keeper(run, changed)
    with pytest.raises(InputError, match="changed"):
        keeper.keep(Finished(result, Answers.of(np.zeros(3, np.int32), None), None))
    keeper.flush()
    assert result.record_path.read_bytes() == before
