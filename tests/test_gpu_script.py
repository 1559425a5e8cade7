"""`tests/benchmarks/gpu_all.py` runs on a CPU, small, so that it starts where a GPU is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "tests" / "benchmarks" / "gpu_all.py"


def test_every_path_runs_small_on_a_cpu() -> None:
    words = [sys.executable, str(SCRIPT), "--device", "cpu"]
    found = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert found.returncode == 0, found.stderr[-2000:]
    ran = set(re.findall(r"^\| ([^|]+?) \|", found.stdout, re.M))
    assert {"stacked bank", "loader: host", "batch size", "extraction", "fine-tuning", "pretraining"} <= ran
    skipped = found.stdout.rpartition("Not run: ")[2]
    for name in ("compiled update: CUDA only", "compiled network: CUDA only", "NCCL: two GPUs"):
        assert name in skipped


def test_its_head_names_every_module_that_says_cuda() -> None:
    head = SCRIPT.read_text(encoding="utf-8").split('"""')[1]
    packages = ("uml_cache", "data_manifests", "extract", "train", "evaluate")
    files = [file for package in packages for file in (ROOT / package).rglob("*.py")]
    named = {file.name for file in files if re.search(r"\bcuda\b", file.read_text(encoding="utf-8"))}
    assert len(named) > 15
    assert sorted(name for name in named if name not in head) == []
