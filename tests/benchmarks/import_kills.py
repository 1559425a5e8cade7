"""`uml cache import` is killed (SIGKILL) and started again until it is through; the store must be the same.

    python tests/benchmarks/import_kills.py --kills 100

Half of the kills come at random moments, the others at targeted ones: right before or right after the n-th
time that the process renames, flushes, makes a folder or deletes, for n = 1, 2, … Then the store must have
the bytes of one that was never interrupted, pass `uml cache verify`, and nothing else may lie in the cache
folder. Exits 1 where it does not. The suite does the same with twelve kills.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from uml_cache import verify

_RUN = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from dying import die_at
die_at(int(sys.argv[1]), sys.argv[2] == "after")
from uml_cache.cli import main
main(sys.argv[3:])
"""


def _stored(feats: Path) -> dict[str, bytes]:
    """Every file of a cache folder but the lock; of records, which tell seconds, the name alone."""
    files = (path for path in feats.rglob("*") if path.is_file() and path.name != "lock")
    return {
        str(path.relative_to(feats)): b"" if path.parent.name == "journal" else path.read_bytes()
        for path in files
    }


def _moments(chance: random.Random, longest: float) -> Iterator[tuple[int, str, float | None]]:
    """Which call to die at, before it or after it, or the seconds after which to be killed."""
    call = 0
    while True:
        call += 1
        yield call, "before", None
        yield call, "after", None
        yield 0, "before", chance.uniform(0, 1.2 * longest)
        yield 0, "before", chance.uniform(0, 1.2 * longest)


def kill_imports(folder: Path, *, kills: int, rows: int) -> tuple[int, int]:
    """How many stores were made with `kills` kills in all, and how many of them are not as they should be."""
    generator = np.random.default_rng(0)
    source = folder / "train.npz"
    np.savez(
        source,
        features=generator.standard_normal((rows, 32)).astype(np.float16),
        labels=generator.integers(0, 5, rows),
    )
    inside = Path("birds") / "image" / "net.zarr"

    def start(out: Path, moment: int = 0, when: str = "before") -> subprocess.Popen[bytes]:
        named = [
            "--dataset",
            "birds",
            "--modality",
            "image",
            "--encoder",
            "net",
            "--quiet",
        ]
        words = ["cache", "import", str(source), "--out", str(out), *named]
        command = [sys.executable, "-c", _RUN, str(moment), when, *words]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL)

    began = time.monotonic()
    assert start(folder / "straight").wait() == 0
    moments = _moments(random.Random(0), time.monotonic() - began)
    expected = _stored(folder / "straight")
    done = stores = wrong = 0
    while done < kills:
        stores += 1
        out = folder / f"feats{stores}"
        while True:
            moment, when, seconds = next(moments) if done < kills else (0, "before", None)
            process = start(out, moment, when)
            if seconds is not None:
                time.sleep(seconds)
                process.kill()
            code = process.wait()
            if code == 0:
                break
            assert code == -signal.SIGKILL, code
            done += 1
        wrong += _stored(out) != expected or not verify(out / inside).ok
    return stores, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--rows", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        stores, wrong = kill_imports(Path(name), kills=options.kills, rows=options.rows)
    print(f"{options.kills} kills over {stores} stores of {options.rows} rows: {wrong} are not sound")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
