"""Progress: a bar that fits 80 columns on a terminal, a line a minute in a log, nothing where it is quiet."""

from __future__ import annotations

import io
import os
import sys

import pytest

from uml_cache import command
from uml_cache.command import Output


class _Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    found = _Clock()
    monkeypatch.setattr(command, "time", found)
    return found


def test_without_a_terminal_a_line_goes_out_every_minute(
    clock: _Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Output().progress(10_000, " samples", "dinov2_vits14", 1_000) as bar:
        for _ in range(90):  # 20 s each: half an hour
            clock.now += 20.0
            bar.update(50)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 30
    assert lines[0] == "dinov2_vits14: 1,150 of 10,000 samples, 2.50/s, about 59 min left"
    assert lines[-1] == "dinov2_vits14: 5,500 of 10,000 samples, 2.50/s, about 30 min left"


def test_short_work_without_a_terminal_says_nothing(
    clock: _Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Output().progress(10, " cells", "toy") as bar:
        clock.now += 59.0
        bar.update(10)
    with Output(quiet=True).progress(10, " cells", "toy") as bar:
        clock.now += 600.0
        bar.update(10)
    assert capsys.readouterr().err == ""


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError("no file")


@pytest.mark.parametrize("columns", [80, 100, 200])
def test_the_bar_stays_a_bar(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A remark of any length leaves room for ten signs of the bar; no line is longer than the terminal."""
    stream = _Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(command.shutil, "get_terminal_size", lambda *_: os.terminal_size((columns, 24)))
    remark = "image+text-uml-permuted-k16-s5: val 61.2, image 0.31 (95 %), text 0.05 (99 %), audio 0.2 (90 %)"
    with Output().progress(1_250, " cells", "food10: image") as bar:
        bar.ncols, bar.dynamic_ncols = columns, None  # type: ignore[attr-defined]
        for _ in range(625):
            bar.update()
        bar.set_postfix_str(remark)
        bar.refresh()  # type: ignore[attr-defined]
    lines = [line for line in stream.getvalue().replace("\n", "\r").split("\r") if "625/1250" in line]
    assert lines
    for line in lines:
        assert len(line.rstrip()) <= columns
        assert line.split("|")[1].count("#") >= 4  # half of ten signs or more
    assert ("val 61.2" in lines[-1]) == (columns == 200)
