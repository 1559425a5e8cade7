"""Draws demo.png: what the demo measured on pictures, with sentences as the unpaired data.

python docs/pictures/demo.py [FOLDER]

It runs `uml demo --out FOLDER` (uml-demo), which takes one to two minutes on two cores, and draws the
accuracies of its run on pictures. Where the demo is there already, it trains nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

from uml_cache import Output
from uml_evaluate import accuracy_figure, compare, run_demo
from uml_train import find_runs


def draw(folder: Path, path: Path) -> None:
    """Test accuracy against labelled pictures per class, of every method and the controls of `uml`."""
    run_demo(folder, output=Output())
    (comparison,) = [
        found
        for run in find_runs(folder / "runs")
        for found in compare(run)
        if (found.target, found.auxiliaries) == ("image", ("text",))
    ]
    accuracy_figure(comparison).savefig(path, dpi=200, bbox_inches="tight")


if __name__ == "__main__":
    draw(Path(sys.argv[1] if len(sys.argv) > 1 else "uml-demo"), Path(__file__).with_suffix(".png"))
