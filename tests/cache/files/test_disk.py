"""Files are whole or as they were, in the order asked for, and leave nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from uml_cache.files import disk


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_a_file_that_fails_is_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "x"
    disk.write_atomic(path, b"old")
    with pytest.raises(TypeError), disk.whole_file(path) as stream:
        stream.write("no bytes")  # type: ignore[arg-type]
    assert (path.read_bytes(), names(path.parent)) == (b"old", ["x"])


def test_an_error_names_the_file_that_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as error:
        disk.write_atomic(tmp_path / "x", b"")
    assert error.value.filename == str(tmp_path / "x")
    assert names(tmp_path) == []


def test_a_record_gets_its_name_after_all_it_speaks_of_is_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[tuple[str, str]] = []
    replace, fsync = os.replace, os.fsync

    def replaced(source: Path, target: Path) -> None:
        replace(source, target)
        events.append(("named", str(target.relative_to(tmp_path))))

    def flushed(handle: int) -> None:
        fsync(handle)
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        events.append(("flushed", str(path.relative_to(tmp_path))))

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    monkeypatch.setattr(os, "replace", replaced)
    monkeypatch.setattr(os, "fsync", flushed)
    parts = {tmp_path / "heads" / f"{i}": b"h" for i in range(40)}
    disk.write_together(parts, {tmp_path / "cells" / "a": b"c"})
    record = events.index(("named", "cells/a"))
    last = max(i for i, event in enumerate(events) if event[0] == "named" and event[1].startswith("heads"))
    assert ("flushed", "heads") in events[last:record]
    assert ("flushed", "cells") in events[record:]
    assert len(names(tmp_path / "heads")) == 40


def test_what_a_library_writes_by_name(tmp_path: Path) -> None:
    with disk.whole_path(tmp_path / "x.npz") as new:
        assert new.name == "x.npz"
        new.write_bytes(b"1")
    for content in "12":
        with disk.whole_path(tmp_path / "folder") as new:
            new.mkdir()
            (new / content).write_text(content)
    assert names(tmp_path) == ["folder", "x.npz"]
    assert names(tmp_path / "folder") == ["2"]


@pytest.mark.parametrize("how", ["whole_file", "whole_path"])
def test_who_writes_next_clears_what_a_killed_process_left(tmp_path: Path, how: str) -> None:
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom uml_cache.files import disk\n"
        f"with disk.{how}(Path(sys.argv[1]) / 'x') as new:\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)])
    assert len(names(tmp_path)) == 1
    with disk.whole_file(tmp_path / "y"):
        assert len(names(tmp_path)) == 1
    assert names(tmp_path) == ["y"]


def test_what_another_process_is_writing_stays(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom uml_cache.files import disk\n"
        "with disk.whole_file(Path(sys.argv[1]) / 'x') as new:\n    print('open', flush=True)\n    input()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        disk.write_atomic(tmp_path / "y", b"")
        other.communicate("\n")
    assert names(tmp_path) == ["x", "y"]


def test_files_of_others_are_never_cleared(tmp_path: Path) -> None:
    (tmp_path / f".x.{'a' * 32}.tmp").write_text("someone's")
    (tmp_path / ".y.1.partial").write_text("someone's")
    disk.write_atomic(tmp_path / "z", b"")
    assert len(names(tmp_path)) == 3
    disk.remove_leftovers(tmp_path)  # a folder of the project's own: these are version 0.1's
    assert names(tmp_path) == ["z"]
