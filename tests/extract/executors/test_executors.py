"""Executors: however many processes share the work, and whatever happens to them, the store is the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uml_cache import InputError, WorkError, create_or_resume, open_features, verify
from uml_extract import extract, load_encoder
from uml_extract.executors import get_executor, local
from uml_manifests import NO_SPLIT, Manifest, write_manifest


def stored(store: Path) -> dict[str, bytes]:
    """Every file but the journal, which holds times."""
    files = (path for path in store.rglob("*") if path.is_file() and path.parent.name != "journal")
    return {str(path.relative_to(store)): path.read_bytes() for path in files}


@pytest.fixture
def many(pictures: Manifest) -> Manifest:
    """600 rows in ten tasks, one of them unreadable."""
    count = 600
    sources = [pictures.sources[i % len(pictures)] for i in range(count)]
    sources[500] = "absent.png"
    return replace(
        pictures,
        ids=[f"s{i}" for i in range(count)],
        sources=sources,
        labels=np.zeros(count, np.int32),
        splits=np.full(count, NO_SPLIT, np.uint8),
    )


@pytest.fixture
def expected(many: Manifest, tmp_path: Path) -> dict[str, bytes]:
    return stored(extract(many, "pixels", out=tmp_path / "straight", tokens=True).store)


def _workers() -> list[int]:
    """Ids of the worker processes that this process has started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            line = status.read_text()
            command = status.with_name("cmdline").read_bytes()
        except OSError:
            continue
        if int(line.rpartition(")")[2].split()[1]) == os.getpid() and b"executors.worker" in command:
            found.append(int(status.parent.name))
    return found


def test_several_processes_make_the_same_store(
    many: Manifest, expected: dict[str, bytes], tmp_path: Path
) -> None:
    done = extract(many, "pixels", out=tmp_path / "a", tokens=True, workers=2)
    assert (done.rows, done.failed, done.tasks) == (600, 1, 10)
    assert stored(done.store) == expected
    assert verify(done.store).ok
    assert not _workers()


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_dies_or_hangs_is_replaced(
    many: Manifest,
    expected: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    by: signal.Signals,
) -> None:
    real, struck = local._Process.hand, []

    def strike(self: Any, task: int) -> None:
        real(self, task)
        if task == 3 and not struck:
            struck.append(self)
            os.kill(self._process.pid, by)

    monkeypatch.setattr(local._Process, "hand", strike)
    # However busy the machine, only the one that was stopped is taken to hang.
    monkeypatch.setattr(local._Process, "silent", property(lambda self: 1e9 if self in struck else 0.0))
    done = extract(many, "pixels", out=tmp_path / "a", tokens=True, workers=2)
    assert len(struck) == 1
    assert stored(done.store) == expected
    assert verify(done.store).ok
    assert not _workers()


def test_what_a_worker_cannot_do_is_said_in_one_line(many: Manifest, tmp_path: Path) -> None:
    with pytest.raises(WorkError, match="1 unreadable samples so far, --max-errors allows 0"):
        extract(many, "pixels", out=tmp_path, workers=2, max_errors=0)
    assert not _workers()
    encoder = load_encoder("pixels")  # an object stays in this process
    assert extract(many, encoder, out=tmp_path, workers=2).failed == 1


def test_a_task_that_takes_its_workers_with_it_stops_the_work(
    many: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = local._Process.hand

    def fatal(self: Any, task: int) -> None:
        real(self, task)
        if task == 3:
            self._process.kill()

    monkeypatch.setattr(local._Process, "hand", fatal)
    with pytest.raises(WorkError, match=r"2 workers exited in task 3 \(samples 192 to 255\)"):
        extract(many, "pixels", out=tmp_path, workers=2)


def _torchrun(many: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    command = ["torch.distributed.run", "--nproc-per-node", "2", "--standalone", "--no-python"]
    extraction = ["--encoder", "pixels", "--tokens", "--data", str(many), "--out", str(out)]
    words = [*command, sys.executable, "-m", "uml_cache", "extract", *extraction, "--executor", "torchrun"]
    return subprocess.Popen(
        [sys.executable, "-m", *words, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_torchrun_loses_and_repeats_no_row(
    many: Manifest, expected: dict[str, bytes], tmp_path: Path
) -> None:
    data = write_manifest(many, tmp_path / "data")
    with _torchrun(data, tmp_path / "a") as run:
        out, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    assert out.count("600 rows") == 2  # each rank says what it did
    store = tmp_path / "a" / "toy" / "image" / "pixels@tokens.zarr"
    assert stored(store) == expected
    assert verify(store).ok
    features = open_features(store)
    assert list(features.id) == many.ids
    assert np.flatnonzero(~features.valid).tolist() == [500]
    (store / "journal" / "3.json").unlink()
    (store / "journal" / "4.json").unlink()
    kept = {path: path.stat().st_mtime_ns for path in store.glob("pooled/c/*/0")}
    with _torchrun(data, tmp_path / "a") as run:
        run.communicate(timeout=120)
    assert run.returncode == 0
    rewritten = {int(path.parent.name) for path, when in kept.items() if path.stat().st_mtime_ns != when}
    assert rewritten == {3, 4}
    assert stored(store) == expected


def test_ranks_share_tasks_without_gap_or_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "3")
        shares.append(get_executor("torchrun").share(range(11)))
    assert shares == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8]]
    assert get_executor("torchrun").share([3, 5, 8]) == [5, 8]


def test_executors_that_cannot_work_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(InputError, match="torchrun --nproc-per-node"):
        get_executor("torchrun")
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="expected 0 ≤ RANK < WORLD_SIZE"):
        get_executor("torchrun")
    with pytest.raises(InputError, match="torchrun is told --nproc-per-node"):
        get_executor("torchrun", workers=2)
    with pytest.raises(InputError, match="--workers is 0"):
        get_executor("local", workers=0)


_HOLD = """
import sys, time
from pathlib import Path
from uml_cache.store.locks import writer_lock
with writer_lock(Path(sys.argv[1]), sys.argv[2] or None):
    print('held', flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("holder", "comer", "lets_in"), [("a", "a", True), ("a", "b", False), ("a", "", False), ("", "a", False)]
)
def test_a_lock_lets_in_its_own_group_only(
    many: Manifest, tmp_path: Path, holder: str, comer: str, lets_in: bool
) -> None:
    store = extract(many, "pixels", out=tmp_path).store
    plan: Any = create_or_resume(store, _plan(store, many))
    command = [sys.executable, "-c", _HOLD, str(store), holder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        leftover = store / "pooled" / f"0.{'a' * 32}.tmp"
        leftover.write_bytes(b"half a shard that the other may still be writing")
        try:
            if lets_in:
                with plan.lock(comer):
                    assert leftover.exists()
            else:
                with (
                    pytest.raises(InputError, match=rf"another run \(process {other.pid}\)"),
                    plan.lock(comer or None),
                ):
                    pass
        finally:
            other.kill()
    with plan.lock("c"):
        assert not leftover.exists()


def _plan(store: Path, manifest: Manifest) -> Any:
    from uml_cache import StorePlan

    encoder = load_encoder("pixels")
    return StorePlan(
        dataset=manifest.name,
        modality="image",
        encoder=encoder.spec.to_json(),
        manifest_digest=manifest.digest,
        classes=manifest.classes,
        ids=manifest.ids,
        labels=manifest.labels,
        splits=manifest.splits,
        pooled_dim=encoder.spec.width,
        batch_size=encoder.batch_size,
        versions={},
        device="cpu",
    )


def test_two_runs_that_know_nothing_of_each_other(
    many: Manifest, expected: dict[str, bytes], tmp_path: Path
) -> None:
    data = write_manifest(many, tmp_path / "data")
    words = ["--encoder", "pixels", "--tokens", "--data", str(data), "--out", str(tmp_path / "a")]
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "uml_cache", "extract", *words], stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    ends = [(run.communicate(timeout=120)[1], run.returncode) for run in runs]
    assert (("", 0) in ends) or ends[0][1] == 0 or ends[1][1] == 0
    for err, code in ends:
        assert code in (0, 2)
        errors = [line for line in err.splitlines() if line.startswith("error: ")]
        assert code == 0 or (len(errors) == 1 and "is being written by another run" in errors[0])
    store = tmp_path / "a" / "toy" / "image" / "pixels@tokens.zarr"
    assert stored(store) == expected
    assert verify(store).ok
