"""The race in `tests/benchmarks/mapped_loader.py` runs; its figures mean something at full size only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="mapping is for Linux")
def test_the_race_runs() -> None:
    script = Path(__file__).parents[3] / "benchmarks" / "mapped_loader.py"
    done = subprocess.run(
        [sys.executable, "-W", "error", script, "--rows", "3000", "--rounds", "1", "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(result["ratios"]) == {"index_select", "zarr-python", "DataLoader", "zarr-python, few rows"}
    assert all(rate > 0 for rate in result["rows_per_second"].values())
