"""Appends, collections and removals of stores that grow, killed again and again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_killed_appends_collections_and_removals() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "grow_kills.py"
    command = [sys.executable, "-W", "error", script, "--kills", "5"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("5 kills, 0 wrong") == 4
