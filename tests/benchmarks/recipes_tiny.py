"""Every recipe with `--scale tiny`, each in a process of its own: does it run, and in how many seconds?

    python tests/benchmarks/recipes_tiny.py [NAME …] [--out FOLDER]

What is asked is under a minute each. Seconds count from the start of Python on. Exit 1 where a recipe fails,
leaves something out, or takes longer.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from uml_evaluate.reproduce.recipe.items import list_recipes

LIMIT = 60.0
_UML = "import sys; from uml_cache.cli import main; main(sys.argv[1:])"


def run(name: str, out: Path) -> tuple[float, int, list[str]]:
    """Seconds, how many numbers came of it, and what went wrong."""
    words = ["reproduce", name, "--scale", "tiny", "--out", str(out / name), "--json", "--quiet"]
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", _UML, *words], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        return seconds, 0, [done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no message"]
    value = json.loads(done.stdout)
    wrong = [f"{entry['what']}: {entry['why']}" for entry in value.get("not_run", [])]
    if not value["numbers"]:
        wrong.append("no number came of it")
    return seconds, len(value["numbers"]), wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--out", type=Path, help="keep what the recipes write here")
    given = parser.parse_args()
    failed = False
    with TemporaryDirectory() as scratch:
        print("| recipe | kind | seconds | numbers | |\n|---|---|---|---|---|")
        for name, recipe in list_recipes().items():
            if given.names and name not in given.names:
                continue
            seconds, numbers, wrong = run(name, given.out or Path(scratch))
            slow = [f"over {LIMIT:.0f} s"] if seconds > LIMIT else []
            failed |= bool(wrong or slow)
            print(
                f"| `{name}` | {recipe.kind} | {seconds:.1f} | {numbers} | {'; '.join(wrong + slow)} |",
                flush=True,
            )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
