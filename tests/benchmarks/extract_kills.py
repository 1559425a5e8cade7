"""A hundred kills: `uml extract` is killed (SIGKILL) at random moments and started again until it is through.

    python tests/benchmarks/extract_kills.py --kills 100
    python tests/benchmarks/extract_kills.py --kills 100 --together

Then the store must have the bytes of one that was never interrupted and pass `uml cache verify`. Exits 1
where it does not. With `--together` one pass fills the stores of two encoders, and both must. The suite does
the same with ten kills (tests/extract/test_kill.py).
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from uml_cache import verify
from uml_manifests import NO_SPLIT, Manifest, write_manifest

_RUN = """
import sys
from uml_extract import extract
from uml_manifests import load_manifest
extract(load_manifest(sys.argv[1]), "hashed-ngrams", out=sys.argv[2], tokens=True)
"""
_TOGETHER = """
import sys
from uml_extract import extract_together
from uml_manifests import load_manifest
extract_together(load_manifest(sys.argv[1]), ["hashed-ngrams", "word-ids"], out=sys.argv[2], tokens=True)
"""


def stored(store: Path) -> dict[str, bytes]:
    files = (path for path in store.rglob("*") if path.is_file() and path.parent.name != "journal")
    return {str(path.relative_to(store)): path.read_bytes() for path in files}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--together", action="store_true", help="two encoders in one pass")
    options = parser.parse_args()
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        manifest = Manifest(
            name="kills",
            modality="text",
            classes=("all",),
            root=scratch,
            ids=[str(row) for row in range(options.rows)],
            sources=[f"sentence {row} of {row * 7 % 1000} words" for row in range(options.rows)],
            labels=np.zeros(options.rows, np.int32),
            splits=np.full(options.rows, NO_SPLIT, np.uint8),
        )
        data = write_manifest(manifest, scratch / "data")
        inside = Path("kills") / "text"
        code_to_run = _TOGETHER if options.together else _RUN

        def start(out: Path) -> subprocess.Popen[bytes]:
            return subprocess.Popen([sys.executable, "-c", code_to_run, str(data), str(out)])

        began = time.monotonic()
        assert start(scratch / "straight").wait() == 0
        longest = time.monotonic() - began
        expected = stored(scratch / "straight" / inside)
        kills = stores = wrong = 0
        while kills < options.kills:
            stores += 1
            out = scratch / f"store{stores}"
            while True:
                process = start(out)
                if kills < options.kills:
                    time.sleep(chance.uniform(0, 1.2 * longest))
                    process.kill()
                code = process.wait()
                if code == 0:
                    break
                assert code == -signal.SIGKILL, code
                kills += 1
            wrong += stored(out / inside) != expected or not all(
                verify(store).ok for store in (out / inside).glob("*.zarr")
            )
    print(
        f"{kills} kills over {stores} stores of {options.rows} rows: {wrong} stores differ or do not verify"
    )
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
