"""`uml cache import`, killed again and again, makes the store that an undisturbed one makes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_killed_imports() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "import_kills.py"
    command = [sys.executable, "-W", "error", script, "--kills", "12", "--rows", "600"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("12 kills over")
