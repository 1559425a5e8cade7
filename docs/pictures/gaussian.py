"""Draws gaussian.png: the Gaussian experiment at our own scale, 40 networks of 10,000 steps.

python docs/pictures/gaussian.py [FOLDER]

It runs `uml reproduce gaussian --protocol fair --out FOLDER` (reproduce/gaussian) and takes the figure
that this writes. It takes a quarter of an hour or more on two busy cores, and continues where it was stopped.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from uml_cache.cli import main


def draw(folder: Path, path: Path) -> None:
    """Errors of every arm and seed, and the paired differences."""
    try:
        main(["reproduce", "gaussian", "--protocol", "fair", "--out", str(folder)])
    except SystemExit as ended:
        if ended.code:
            raise
    shutil.copyfile(folder / "fair" / "gaussian.png", path)


if __name__ == "__main__":
    default = "reproduce/gaussian"
    draw(Path(sys.argv[1] if len(sys.argv) > 1 else default), Path(__file__).with_suffix(".png"))
