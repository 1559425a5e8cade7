"""--retry-failed: only the tasks that hold unreadable samples are done again, and then the rows are right."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from uml_cache import FailedRow, InputError, open_features, store_info, verify
from uml_cache.cli import main
from uml_extract import extract
from uml_manifests import Manifest, write_manifest


@pytest.fixture
def broken(pictures: Manifest, tmp_path: Path) -> Manifest:
    """150 pictures in three tasks; 70 and 80, both of the second one, cannot be read."""
    root = tmp_path / "pictures"
    root.mkdir()
    for name in pictures.sources:
        (root / name).write_bytes(pictures.path(0).with_name(name).read_bytes())
    (root / "70.png").write_bytes(b"no picture")
    (root / "80.png").unlink()
    return replace(pictures, root=root)


def _mend(broken: Manifest, pictures: Manifest, row: int) -> None:
    broken.path(row).write_bytes(pictures.path(row).read_bytes())


def _times(store: Path) -> list[int]:
    return [(store / "pooled" / "c" / str(task) / "0").stat().st_mtime_ns for task in range(3)]


def test_only_the_tasks_with_failed_rows_are_done_again(
    broken: Manifest, pictures: Manifest, tmp_path: Path
) -> None:
    done = extract(broken, "pixels", out=tmp_path / "a", tokens=True, max_errors=2)
    failed = store_info(done.store).failed()
    assert [(sample.row, sample.id, sample.task) for sample in failed] == [(70, "s0070", 1), (80, "s0080", 1)]
    assert isinstance(failed[0], FailedRow)
    assert "no such file" in failed[1].reason
    before = _times(done.store)

    again = extract(broken, "pixels", out=tmp_path / "a", tokens=True, max_errors=2)
    assert (again.failed, again.resumed_tasks) == (2, 3)  # without the option nothing is tried again

    _mend(broken, pictures, 70)
    half = extract(broken, "pixels", out=tmp_path / "a", tokens=True, max_errors=1, retry_failed=True)
    assert (half.failed, half.resumed_tasks, half.tasks) == (1, 2, 3)
    _mend(broken, pictures, 80)
    whole = extract(broken, "pixels", out=tmp_path / "a", tokens=True, max_errors=0, retry_failed=True)
    assert (whole.failed, whole.resumed_tasks) == (0, 2)
    after = _times(whole.store)
    assert (after[0], after[2]) == (before[0], before[2])
    assert after[1] != before[1]

    straight = extract(pictures, "pixels", out=tmp_path / "b", tokens=True)
    found, expected = open_features(whole.store), open_features(straight.store)
    assert found.valid.all()
    np.testing.assert_array_equal(found.pooled, expected.pooled)
    assert verify(whole.store).ok
    last = extract(broken, "pixels", out=tmp_path / "a", tokens=True, retry_failed=True)
    assert last.resumed_tasks == 3


def test_the_store_is_unsealed_first_and_stays_so_when_the_work_stops(
    broken: Manifest, pictures: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = extract(broken, "pixels", out=tmp_path, max_errors=2)
    _mend(broken, pictures, 70)
    from uml_extract.encoding import filling

    def interrupted(*_: object, **__: object) -> None:
        assert not store_info(done.store).sealed
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(filling, "encode_batch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            extract(broken, "pixels", out=tmp_path, max_errors=2, retry_failed=True)
    assert not store_info(done.store).sealed
    finished = extract(broken, "pixels", out=tmp_path, max_errors=2)
    assert (finished.failed, finished.resumed_tasks) == (1, 2)


def test_nothing_is_taken_away_that_cannot_be_made_again(
    broken: Manifest, pictures: Manifest, tmp_path: Path
) -> None:
    done = extract(broken, "pixels", out=tmp_path, max_errors=2)
    idle = extract(broken, "pixels", out=tmp_path, max_errors=2, retry_failed=True)
    assert (idle.failed, idle.resumed_tasks) == (2, 3)  # neither can be read now: no task is done again
    _mend(broken, pictures, 70)
    kept = broken.path(100).read_bytes()
    broken.path(100).unlink()
    for option in ({"retry_failed": True}, {"check_sources": True}):
        with pytest.raises(InputError, match=r"100\.png of sample s0100 is gone .* nothing was changed"):
            extract(broken, "pixels", out=tmp_path, max_errors=1.0, **option)
        assert verify(done.store).ok
    broken.path(100).write_bytes(kept)
    assert extract(broken, "pixels", out=tmp_path, max_errors=2, retry_failed=True).failed == 1


def test_damaged_shards_are_made_again(pictures: Manifest, tmp_path: Path) -> None:
    done = extract(pictures, "pixels", out=tmp_path)
    expected = open_features(done.store).pooled.clone()
    shard = done.store / "pooled" / "c" / "1" / "0"
    data = bytearray(shard.read_bytes())
    data[100] ^= 4
    shard.write_bytes(data)
    again = extract(pictures, "pixels", out=tmp_path)
    assert again.resumed_tasks == 2
    assert verify(done.store).ok
    assert torch.equal(open_features(done.store).pooled, expected)


def test_the_command_and_what_info_says(
    broken: Manifest, pictures: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_manifest(broken, tmp_path / "data")
    out = tmp_path / "feats"
    store = out / "toy" / "image" / "pixels.zarr"

    def uml(*words: str) -> str:
        with pytest.raises(SystemExit) as leaving:
            main(list(words))
        assert leaving.value.code == 0
        return capsys.readouterr().out

    command = ("extract", "--encoder", "pixels", "--data", str(data), "--out", str(out), "--max-errors", "2")
    uml(*command)
    told = uml("cache", "info", str(store))
    assert "failed       2 (`uml extract --retry-failed` tries them again), the first: s0070: " in told
    assert json.loads(uml("cache", "info", str(store), "--json"))["failed"] == 2
    _mend(broken, pictures, 70)
    _mend(broken, pictures, 80)
    assert json.loads(uml(*command, "--retry-failed", "--json"))["failed"] == 0
    assert "failed       0\n" in uml("cache", "info", str(store))


@pytest.mark.parametrize("workers", [None, 2])
def test_files_that_changed_under_their_names_are_done_again(
    pictures: Manifest, tmp_path: Path, workers: int | None
) -> None:
    root = tmp_path / "pictures"
    shutil.copytree(pictures.root, root)
    manifest = replace(pictures, root=root)

    def run(**options: Any) -> tuple[int, torch.Tensor]:
        done = extract(manifest, "pixels", out=tmp_path / "feats", **options)
        return done.tasks - done.resumed_tasks, open_features(done.store).pooled.clone()

    tasks, before = run()
    assert tasks == 3
    assert run(check_sources=True)[0] == 0
    (root / pictures.sources[70]).write_bytes((root / pictures.sources[3]).read_bytes())
    tasks, after = run(check_sources=True, workers=workers)
    assert tasks == 1
    assert torch.equal(after[70], before[3])
    assert torch.equal(after[:70], before[:70])
    assert run(check_sources=True)[0] == 0
    (root / pictures.sources[140]).unlink()
    with pytest.raises(InputError, match=r"140\.png of sample s0140 is gone"):  # nothing is redone
        run(check_sources=True)
    assert run()[0] == 0  # what is there of a file that is gone stays
