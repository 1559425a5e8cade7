"""What the operating system refuses ends in one line that says what can be done."""

from __future__ import annotations

import errno

import click
import pytest

from uml_cache import cli


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(errno.EROFS, "Read-only file system", "runs/a"),
            "runs/a; name a place",
        ),
        (OSError(errno.EMFILE, "Too many open files", "a"), "allow more open files"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "raise the limit"),
        (OSError(errno.EACCES, "Permission denied", "a.csv"), "error: Permission denied: a.csv"),
        (RuntimeError("can't start new thread"), "not enough memory (can't start new thread)"),
        (ImportError("libtorch.so: failed to map segment from shared object"), "not enough memory (libtorch"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator:\n can't allocate memory"), "not enough memory"),
        (MemoryError(), "not enough memory (MemoryError)"),
    ],
)
def test_one_line_that_helps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, words: str
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(click.Group, "main", fail)
    with pytest.raises(SystemExit) as left:
        cli.main(["cache", "ls"])
    said = capsys.readouterr().err
    assert left.value.code == 1
    assert words in said
    assert said.count("\n") == 1
    assert "unexpected" not in said
