"""Killed at random moments and resumed each time, a store has the bytes of one that was never interrupted."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from uml_cache import verify
from uml_manifests import NO_SPLIT, Manifest, write_manifest

KILLS = 10
_RUN = """
import sys
from uml_extract import extract
from uml_manifests import load_manifest
extract(load_manifest(sys.argv[1]), "pixels", out=sys.argv[2], tokens=True, dtype="float32", max_errors=5)
"""


def _start(manifest: Path, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", _RUN, str(manifest), str(out)])


def _records(store: Path) -> int:
    return sum(path.stem.isdecimal() for path in store.glob("journal/*.json"))


def _files(store: Path) -> dict[str, bytes]:
    files = (path for path in store.rglob("*") if path.is_file() and path.parent.name != "journal")
    return {str(path.relative_to(store)): path.read_bytes() for path in files}


def test_killed_ten_times_and_resumed(tmp_path: Path, pictures: Manifest) -> None:
    count = 896  # 14 tasks
    sources = [pictures.sources[i % len(pictures)] for i in range(count)]
    sources[500] = "absent.png"
    manifest = replace(
        pictures,
        ids=[f"s{i}" for i in range(count)],
        sources=sources,
        labels=np.zeros(count, np.int32),
        splits=np.full(count, NO_SPLIT, np.uint8),
    )
    data = write_manifest(manifest, tmp_path / "data")
    assert _start(data, tmp_path / "straight").wait() == 0
    inside = Path("toy") / "image" / "pixels@float32-tokens.zarr"
    expected = _files(tmp_path / "straight" / inside)
    assert len(expected) > 14 * 3

    chance, kills, attempt = random.Random(5), 0, 0
    while kills < KILLS:
        attempt += 1
        out = tmp_path / f"attempt{attempt}"
        while True:  # the same store again and again, until a run comes to its end
            before = _records(out / inside)
            process = _start(data, out)
            while process.poll() is None and _records(out / inside) == before:
                time.sleep(0.002)
            if kills < KILLS:
                time.sleep(chance.uniform(0, 0.15))
                process.kill()
            code = process.wait()
            if code == 0:
                break
            assert code == -signal.SIGKILL
            kills += 1
        assert _files(out / inside) == expected
        assert verify(out / inside).ok
        record = json.loads((out / inside / "journal" / "7.json").read_text())
        assert [failure["row"] for failure in record["failed"]] == [500]
    assert kills == KILLS
