"""Commands that are killed and files that are changed, a few of each: the benchmarks do hundreds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="fork and SIGKILL")


def _run(name: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, str(_BENCHMARKS / name), *words], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_a_killed_command_goes_on_to_the_same_tables() -> None:
    said = _run("run_kills.py", "train", "rivals", "analysis", "--kills", "2", "--seed", "7")
    assert said.count(" 0 wrong") == 3


def test_a_changed_byte_is_noticed_or_without_effect() -> None:
    said = _run("flips.py", "--flips", "0", "--seed", "7")  # one of every kind of file
    *kinds, whole = [line.split() for line in said.splitlines()[1:]]
    assert len(kinds) > 15
    assert all(sum(map(int, line[-4:])) == 1 for line in kinds)
    noticed, harmless, unnoticed, wrong = map(int, whole[1:])
    assert (noticed + harmless, unnoticed, wrong) == (len(kinds), 0, 0)
