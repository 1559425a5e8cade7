"""Reading in processes: order, reasons, memory, and children that die, hang, or lose their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from uml_cache import InputError, verify
from uml_extract import SampleError, extract
from uml_extract.readers.prefetch import Reading, reader_count
from uml_extract.readers.processes import Prepared, ReaderProcesses
from uml_manifests import Manifest, write_manifest


def sample(row: int) -> np.ndarray:
    """A different shape and type for every row; no sample where row % 10 is 3."""
    if row % 10 == 3:
        raise SampleError(f"bad {row}")
    return np.full((row % 7, row % 3 + 1), row % 200, [np.float32, np.uint8, np.int64][row % 3])


def check(row: int, found: Prepared) -> None:
    if row % 10 == 3:
        assert isinstance(found, SampleError)
        assert str(found) == f"bad {row}"
        return
    expected = sample(row)
    assert isinstance(found, np.ndarray)
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)
    found[...] = 0  # as with an array of one's own


@pytest.fixture
def processes() -> Iterator[Callable[..., ReaderProcesses]]:
    made = []

    def make(*args, **kwargs) -> ReaderProcesses:
        made.append(ReaderProcesses(*args, **kwargs))
        return made[-1]

    yield make
    for each in made:
        each.close()
    assert not _children()


def _children() -> set[int]:
    """Processes that this one has forked (they run the same command)."""
    own, found = Path("/proc/self/cmdline").read_bytes(), set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid() and fields[0] != "Z":
                found |= {int(entry.parent.name)} if entry.with_name("cmdline").read_bytes() == own else set()
        except OSError:
            continue
    return found


@pytest.mark.parametrize(("count", "ahead"), [(1, 1), (2, 40), (3, 300)])
def test_samples_come_in_order_however_many_read(processes, count: int, ahead: int) -> None:
    readers = processes(sample, count, ahead)
    for rows in (range(250), range(1000, 1007), range(0)):  # one after the other, with the same children
        taken = []
        for row, found in readers.read(iter(rows)):
            check(row, found)
            taken.append(row)
        assert taken == list(rows)
    assert len(_children()) <= count


def test_samples_stay_as_they_are_while_the_caller_holds_them(processes) -> None:
    """Slots are used again only when nothing refers to them; who holds too many gets the rest by the pipe."""
    readers = processes(lambda row: np.full(5000, row), 2, 16)
    views = [found[10:20].reshape(2, 5) for _, found in readers.read(iter(range(300)))]
    for row, view in enumerate(views):
        assert (view == row).all()


def test_a_sample_larger_than_its_slot(processes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uml_extract.readers.processes._SHARED_BYTES", 1 << 16)
    readers = processes(lambda row: np.full((row % 2) * 20_000 + 1, row), 1, 8)
    assert [found.sum() for _, found in readers.read(iter(range(20)))] == [
        row * ((row % 2) * 20_000 + 1) for row in range(20)
    ]


def test_what_is_no_unreadable_sample_is_raised(processes) -> None:
    readers = processes(lambda row: np.array([1 // (row - 5)]), 2, 8)
    with pytest.raises(ZeroDivisionError) as caught:
        list(readers.read(iter(range(10))))
    assert "test_reader_processes" in caught.value.__notes__[0]
    assert not _children()  # nobody reads on for nothing
    assert len(list(readers.read(iter(range(6, 10))))) == 4


def test_a_sample_that_ends_its_process_is_unreadable_and_no_other(processes) -> None:
    def deadly(row: int) -> np.ndarray:
        if row == 17:
            os.kill(os.getpid(), signal.SIGKILL)
        return sample(row)

    for row, found in processes(deadly, 2, 32).read(iter(range(60))):
        if row == 17:
            assert isinstance(found, SampleError)
            assert str(found) == "the process that reads it was killed by signal 9, 2 times"
        else:
            check(row, found)


def test_a_child_that_is_killed_or_hangs_is_replaced(processes, tmp_path: Path) -> None:
    def once(row: int) -> np.ndarray:
        """The first time, row 20 is killed and row 30 stopped."""
        for at, by in ((20, signal.SIGKILL), (30, signal.SIGSTOP)):
            if row == at and not (tmp_path / str(at)).exists():
                (tmp_path / str(at)).touch()
                os.kill(os.getpid(), by)
        return sample(row)

    rows = []
    for row, found in processes(once, 2, 32, patience=0.5).read(iter(range(60))):
        check(row, found)
        rows.append(row)
    assert rows == list(range(60))


def test_an_abandoned_reading_ends_its_processes(processes) -> None:
    reading = processes(sample, 2, 32).read(iter(range(500)))
    next(reading)
    assert _children()
    reading.close()
    assert not _children()


def test_how_many_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert reader_count("auto", "image", 1) == 8
    assert reader_count("auto", "audio", 4) == 2
    assert reader_count("auto", "image", 100) == 1
    assert reader_count(3, "image", 4) == 3
    assert reader_count(0, "image", 1) == 0
    assert reader_count("auto", "text", 1) == reader_count(5, "array", 1) == 0
    with pytest.raises(InputError, match="--decode-workers is -1"):
        reader_count(-1, "image", 1)
    assert len(Reading(sample, 8, 8, rows=20)._processes._children) == 2  # a few samples start few


def test_the_store_is_the_same_however_samples_are_read(pictures: Manifest, tmp_path: Path) -> None:
    stores = [
        extract(pictures, "hog-color", out=tmp_path / str(n), decode_workers=n).store for n in (0, 1, 3)
    ]
    first = [path for path in stores[0].rglob("*") if path.is_file() and path.parent.name != "journal"]
    assert len(first) > 8
    for store in stores[1:]:
        assert verify(store).ok
        for path in first:
            assert (store / path.relative_to(stores[0])).read_bytes() == path.read_bytes()
    assert not _children()


_SLOW = """
import sys, time
from uml_cache import cli
from uml_extract.readers import samples as readers
real = readers.read_image
readers.read_image = lambda *a: (time.sleep(0.03), real(*a))[1]
cli.main(sys.argv[1:])
"""


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_the_run_and_the_store_is_free_at_once(
    pictures: Manifest, tmp_path: Path, by: signal.Signals
) -> None:
    data = write_manifest(pictures, tmp_path / "data")
    words = [
        "--encoder",
        "pixels",
        "--data",
        str(data),
        "--out",
        str(tmp_path / "a"),
        "--decode-workers",
        "2",
    ]
    store = tmp_path / "a" / "toy" / "image" / "pixels.zarr"
    with subprocess.Popen([sys.executable, "-c", _SLOW, "extract", *words], stderr=subprocess.PIPE) as run:
        session = [run.pid]
        end = time.monotonic() + 60
        while not (store / "journal" / "0.json").exists():
            assert time.monotonic() < end
            time.sleep(0.005)
        session += _forked_by(run.pid)
        assert len(session) == 3
        run.send_signal(by)
        run.wait(30)
        # Its children may still be about; they do not hold the lock.
        done = extract(pictures, "pixels", out=tmp_path / "a")
        assert done.resumed_tasks >= 1
        end = time.monotonic() + 30
        while any(Path(f"/proc/{process}").exists() for process in session):
            assert time.monotonic() < end
            time.sleep(0.02)
        assert b"Traceback" not in run.stderr.read()


def _forked_by(parent: int) -> list[int]:
    tasks = Path(f"/proc/{parent}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]
