"""Draws overview.svg: what uml does with labelled pictures and loose sentences.

python docs/pictures/overview.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle, RegularPolygon

BLUE, ORANGE, GREY, PAPER = "#2b6cb0", "#c05621", "#4a5568", "#ffffff"
WIDTH, HEIGHT = 12.0, 4.3


def box(ax: plt.Axes, x: float, y: float, width: float, height: float, words: str, colour: str) -> None:
    """A rounded box with centred words; x and y are its lower left corner, in figure units."""
    ax.add_patch(
        FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0.04,rounding_size=0.12",
                       facecolor=colour, edgecolor="none")
    )  # fmt: skip
    ax.text(x + width / 2, y + height / 2, words, color="white", ha="center", va="center", fontsize=11)


def arrow(ax: plt.Axes, begin: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    """An arrow from `begin` to `end`."""
    ax.add_patch(
        FancyArrowPatch(begin, end, arrowstyle="-|>", mutation_scale=14, color=colour, linewidth=1.8)
    )


def pictures(ax: plt.Axes) -> None:
    """Three small pictures with labels: the target's few samples."""
    for i, (shape, label) in enumerate((("circle", "disc"), ("square", "box"), ("triangle", "wedge"))):
        x = 0.25 + 0.85 * i
        ax.add_patch(Rectangle((x, 2.75), 0.7, 0.7, facecolor="#ebf4fb", edgecolor=BLUE))
        centre = (x + 0.35, 3.1)
        drawing = {
            "circle": Circle(centre, 0.2, color=BLUE),
            "square": Rectangle((x + 0.17, 2.92), 0.36, 0.36, color=BLUE),
            "triangle": RegularPolygon(centre, 3, radius=0.25, color=BLUE),
        }[shape]
        ax.add_patch(drawing)
        ax.text(x + 0.35, 2.6, label, ha="center", va="center", fontsize=9, color=GREY)
    ax.text(0.25, 3.72, "few labelled pictures", fontsize=12, color=BLUE, weight="bold")


def sentences(ax: plt.Axes) -> None:
    """Loose sentences about the same classes: the auxiliary."""
    for i, words in enumerate(("“A disc that shines.”", "“Two wedges, one red.”", "“This box is heavy.”")):
        ax.text(0.3, 1.35 - 0.36 * i, words, fontsize=10, color=GREY, style="italic", va="center")
    ax.text(0.25, 1.72, "many sentences, no pairs", fontsize=12, color=ORANGE, weight="bold")


def draw(path: Path) -> None:
    """Write the picture as SVG with a white ground, so that it reads on dark pages, too."""
    mpl.rcParams["svg.hashsalt"] = "overview"
    figure, ax = plt.subplots(figsize=(WIDTH, HEIGHT))
    figure.subplots_adjust(0, 0, 1, 1)
    ax.set(xlim=(0, WIDTH), ylim=(0, HEIGHT))
    ax.axis("off")
    pictures(ax)
    sentences(ax)
    for y, colour in ((3.1, BLUE), (1.0, ORANGE)):
        arrow(ax, (2.85, y), (3.45, y), colour)
        box(ax, 3.5, y - 0.32, 1.5, 0.64, "frozen\nencoder", colour)
        arrow(ax, (5.1, y), (5.55, y), colour)
        box(ax, 5.6, y - 0.32, 1.25, 0.64, "feature\nstore", colour)
        arrow(ax, (6.95, y), (7.6, 2.05 + 0.25 * (1 if y > 2 else -1)), colour)
    box(ax, 7.65, 1.5, 1.55, 1.1, "one network\nwith shared\nweights", GREY)
    arrow(ax, (9.3, 2.05), (9.85, 2.05), GREY)
    ax.text(9.95, 2.62, "what sentences add", fontsize=11, color=GREY, weight="bold")
    for i, (middle, half, name, colour) in enumerate(
        ((0.72, 0.2, "sentences", ORANGE), (0.05, 0.2, "shuffled control", GREY))
    ):
        y = 2.15 - 0.6 * i
        ax.plot([10.35 + middle - half, 10.35 + middle + half], [y, y], color=colour, linewidth=2.5)
        ax.plot(10.35 + middle, y, "o", color=colour, markersize=7)
        ax.text(10.75, y - 0.27, name, fontsize=9, color=colour)
    ax.plot([10.35, 10.35], [1.2, 2.4], color=GREY, linewidth=1, linestyle=":")
    ax.text(10.35, 1.06, "0", fontsize=9, color=GREY, ha="center")
    ax.text(3.5, 0.2, "uml extract", family="monospace", fontsize=11, color=GREY)
    ax.text(7.65, 0.2, "uml train", family="monospace", fontsize=11, color=GREY)
    ax.text(10.0, 0.2, "uml eval", family="monospace", fontsize=11, color=GREY)
    figure.savefig(path, metadata={"Date": None}, facecolor=PAPER)


if __name__ == "__main__":
    draw(Path(__file__).with_name("overview.svg"))
