"""Draws advice.png: what was advised, and what training then measured, from the table of the study.

python docs/pictures/advice.py
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))  # the study's own code

from advice_judge import JUDGED, PRODUCT, load, predictions  # noqa: E402

if TYPE_CHECKING:
    from advice_judge import Pairs

KINDS = {
    "shares all": ("full",),
    "shares a part": ("part",),
    "shares nothing": ("none", "unrelated"),
    "classes permuted": ("permuted",),
}
COLOURS, MARKS = ("#1b6ca8", "#6fb1d6", "#9a9a9a", "#c0392b"), "osv^"


def draw(pairs: Pairs, path: Path) -> None:
    """Measured against predicted, for left-out targets, one panel per k."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    here = pairs.where((pairs["case"] == "rich") & np.isin(pairs["shots"], JUDGED))
    predicted, spread = predictions(here, PRODUCT["rich"], "target")
    canvas, panels = plt.subplots(1, 3, figsize=(9, 3.8), sharex=True, sharey=True, layout="constrained")
    for panel, k in zip(panels, JUDGED, strict=True):
        at = here["shots"] == k
        half = 1.645 * float(spread[at].mean())
        line = np.array([-8.0, 8.0])
        panel.fill_between(line, line - half, line + half, color="#eeeeee", label="90 % interval")
        panel.axhline(0, color="#cccccc", lw=0.8)
        panel.axvline(0, color="#cccccc", lw=0.8)
        for (label, members), colour, mark in zip(KINDS.items(), COLOURS, MARKS, strict=True):
            rows = at & np.isin(here["kind"], members)
            panel.errorbar(
                predicted[rows], here["measured"][rows], yerr=here["error"][rows], fmt=mark, color=colour,
                ms=4, lw=0.5, alpha=0.85, label=label,
            )  # fmt: skip
        panel.plot(line, line, color="#bbbbbb", lw=0.8, ls="--")
        panel.set(title=f"k = {k}", xlabel="advice, points", xlim=(-3.5, 3.5), ylim=(-7.5, 8.5))
    panels[0].set_ylabel("measured by training, points")
    handles, labels = panels[0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    canvas.savefig(path, dpi=150)


if __name__ == "__main__":
    draw(load(), Path(__file__).with_suffix(".png"))
