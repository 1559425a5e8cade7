"""Memory and time of planning and extracting texts: bytes per manifest row, and the rest constant.

    python tests/benchmarks/extract_memory.py --rows 10000,200000 --plan 1300000

Each size runs in a process of its own (`hashed-ngrams`, pooled). Reported are the peak resident set, how much
of it the manifest takes, and the growth per row between the smallest and the largest size. `--plan` measures
the time from a manifest in memory to a planned store on the disk.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def measure(rows: int, only_plan: bool) -> dict[str, float]:
    """Peak MB before and after extracting `rows` texts; seconds of planning, or of all."""
    from uml_extract import extract, load_encoder, passes
    from uml_manifests import NO_SPLIT, Manifest

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    encoder = load_encoder("hashed-ngrams")
    bare = peak()
    manifest = Manifest(
        name="memory",
        modality="text",
        classes=("all",),
        root=Path("."),
        ids=[f"sample-{row:08d}" for row in range(rows)],
        sources=[f"text number {row} says {row * 7919 % 100_003}" for row in range(rows)],
        labels=np.zeros(rows, np.int32),
        splits=np.full(rows, NO_SPLIT, np.uint8),
    )
    loaded = peak()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        if only_plan:
            passes.Extraction.run = lambda *_: None  # type: ignore[method-assign]
        extract(manifest, encoder, out=scratch)
    seconds = time.perf_counter() - began
    return {"rows": rows, "bare": bare, "manifest": loaded - bare, "peak": peak(), "seconds": seconds}


def in_a_process(rows: int, only_plan: bool) -> dict[str, float]:
    words = [sys.executable, __file__, "--measure", str(rows), *(["--only-plan"] if only_plan else [])]
    return json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", default="10000,200000")
    parser.add_argument("--plan", type=int, default=1_300_000)
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--only-plan", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.only_plan)))
        return
    sizes = [in_a_process(int(rows), False) for rows in options.rows.split(",")]
    for size in sizes:
        print(
            f"{size['rows']:>9,.0f} rows: peak {size['peak']:.0f} MB, {size['bare']:.0f} before anything "
            f"and {size['manifest']:.0f} for the manifest; {size['seconds']:.1f} s"
        )
    first, last = sizes[0], sizes[-1]
    if last["rows"] > first["rows"]:
        growth = (last["peak"] - first["peak"]) * 2**20 / (last["rows"] - first["rows"])
        rest = last["peak"] - growth * last["rows"] / 2**20
        print(f"{growth:.0f} bytes per row, {rest:.0f} MB constant")
    if options.plan:
        plan = in_a_process(options.plan, True)
        print(f"{options.plan:,} rows planned in {plan['seconds']:.1f} s, peak {plan['peak']:.0f} MB")


if __name__ == "__main__":
    main()
