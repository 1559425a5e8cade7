"""The three stories of the tutorials: how many steps each takes a person, and how many seconds a machine.

    python tests/benchmarks/stories.py

Each page runs in a process of its own, in a folder with the page's data, block by block as a reader would.
A step is a command, or a block of Python. Seconds hold what the commands load (torch and the like), too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "a new photograph": "photo-to-prediction.md",
    "in a notebook": "in-a-notebook.md",
    "sounds, and pictures by an ONNX file": "onnx-and-sounds.md",
}


def told(page: Path) -> dict[str, float]:
    """Steps and seconds of a page, run here, in the current folder."""
    began = time.perf_counter()
    sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "tests")]
    from pages import Larder, blocks, commands, needs, run_page

    text = page.read_text(encoding="utf-8")
    Larder(Path.cwd().with_name("larder")).put(needs(text), Path.cwd())
    steps = sum(
        len(commands(block)) if block.language == "bash" else block.language == "python"
        for block in blocks(text)
    )
    ready = time.perf_counter()
    run_page(text, page.name)
    return {"steps": steps, "seconds": time.perf_counter() - ready, "data": ready - began}


def main() -> None:
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for name, page in PAGES.items():
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "work"
            folder.mkdir()
            words = [sys.executable, __file__, str(ROOT / "docs" / "tutorials" / page)]
            environment = {**os.environ, "HF_HUB_OFFLINE": "1", "UML_CACHE": str(Path(place) / "cache")}
            done = subprocess.run(
                words, cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise SystemExit(f"{page}: {done.stderr}")
            found = json.loads(done.stdout.splitlines()[-1])
            print(f"{name}: {found['steps']:.0f} steps, {found['seconds']:.1f} s")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(told(Path(sys.argv[1]))))
    else:
        main()
