"""Draws study-*.png: the answers of the study, from the result files that are shipped.

python docs/pictures/study.py
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
GREY = "#4a5568"
COLOURS = {"prior": "#2b6cb0", "uml": "#c05621", "uml-init": "#2f855a", "self-training": "#6b46c1",
           "prior[permuted]": "#a0aec0", "uml[permuted]": "#a0aec0"}  # fmt: skip
MARKERS = {
    "self-training": "D",
    "prior": "o",
    "uml": "s",
    "uml-init": "^",
    "prior[permuted]": "x",
    "uml[permuted]": "+",
}
SHOTS = (1, 2, 4, 8, 16)


def verdicts(recipe: str) -> list[dict[str, Any]]:
    """The verdicts of a shipped result file."""
    path = files("uml_evaluate.reproduce") / "results" / f"{recipe}-ours.json"
    return json.loads(path.read_text(encoding="utf-8"))["verdicts"]


def points(ax: plt.Axes, found: Sequence[dict[str, Any]], method: str, places: Sequence[Any], key: str,
           shift: float) -> None:  # fmt: skip
    """Differences of one method with their intervals, a point for each place."""
    by_place = {one[key]: one for one in found if one["method"] == method}
    for x, place in enumerate(places):
        if place not in by_place:
            continue
        one = by_place[place]
        low, high = one["delta"] - one["ci_low"], one["ci_high"] - one["delta"]
        label = method if place == next(p for p in places if p in by_place) else None
        ax.errorbar(x + shift, one["delta"], [[low], [high]], color=COLOURS[method], marker=MARKERS[method],
                    markersize=5, capsize=2, linewidth=1.3, label=label)  # fmt: skip


def frame(ax: plt.Axes, names: Sequence[Any], title: str, what: str) -> None:
    """Zero, ticks, and words."""
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.set_xticks(range(len(names)), [str(name) for name in names])
    ax.set_title(title, fontsize=10)
    ax.set_xlabel(what)
    ax.grid(axis="y", alpha=0.25, linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)


def rows(
    recipe: str, panels: Sequence[tuple[str, str | None]], methods: Sequence[str], name: str,
    what: str = "pictures",
) -> None:  # fmt: skip
    """A panel for each (data set, variant): differences against the labelled samples per class."""
    found = verdicts(recipe)
    figure, axes = plt.subplots(1, len(panels), figsize=(3.4 * len(panels), 3.2), sharey=True, squeeze=False)
    for ax, (dataset, variant) in zip(axes[0], panels, strict=True):
        some = [one for one in found if (one["dataset"], one["variant"]) == (dataset, variant)]
        shots = [k for k in SHOTS if any(one["shots"] == k for one in some)]
        for i, method in enumerate(methods):
            points(ax, some, method, shots, "shots", 0.14 * (i - (len(methods) - 1) / 2))
        title = f"{dataset}, {variant}" if variant else dataset
        frame(ax, shots, title.replace(", with", ",\nwith"), f"labelled {what} per class")
    save(figure, axes[0], name)


def sizes(name: str) -> None:
    """How many classes, and how alike, at one picture per class."""
    found = [one for one in verdicts("study-classes") if one["shots"] == 1]
    every = [one for one in verdicts("study-grocery") if one["shots"] == 1 and one["variant"] == "MiniLM"]
    figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.2), sharey=True)
    found += [{**one, "dataset": "grocery81"} for one in every]
    methods = ("prior", "prior[permuted]", "uml", "uml[permuted]")
    for ax, places, labels, title, what in (
        (axes[0], [f"grocery{n}" for n in (5, 10, 20, 40, 81)], (5, 10, 20, 40, 81), "any of the products",
         "classes"),
        (axes[1], ["milk", "apples", "far_apart"], ("milk packages", "apples, pears", "far apart"),
         "ten classes", "how alike they are"),
    ):  # fmt: skip
        for i, method in enumerate(methods):
            points(ax, found, method, places, "dataset", 0.14 * (i - 1.5))
        frame(ax, labels, title, what)
    save(figure, axes, name)


def worth(name: str) -> None:
    """What doubling the pictures and doubling the sentences add, as the analysis `exchange` says it."""
    path = files("uml_evaluate.reproduce") / "results" / "study-analyses-ours.json"
    findings = json.loads(path.read_text(encoding="utf-8"))["findings"]
    said = {one["dataset"]: " ".join(one["said"]) for one in findings if one["analysis"] == "exchange"}
    figure, axes = plt.subplots(1, 1, figsize=(5.2, 3.0))
    number = r"([−\d.]+) ± ([\d.]+)"
    for i, (what, colour) in enumerate((("image", COLOURS["self-training"]), ("text", COLOURS["prior"]))):
        for x, text in enumerate(said.values()):
            found = re.search(rf"oubling the (?:labelled )?{what}:\S+ samples (?:adds )?{number}", text)
            mean, spread = (float(value.replace("−", "-")) for value in found.groups())
            axes.errorbar(x + 0.16 * i - 0.08, mean, spread, color=colour, marker="os"[i], capsize=2,
                          label=("pictures", "sentences")[i] if x == 0 else None)  # fmt: skip
    frame(axes, list(said), "what twice as many add to uml", "")
    save(figure, [axes], name, "points (mean ± standard deviation, 6 draws)")


def advised(name: str) -> None:
    """The advice's estimate and its 90 % interval against what was measured, of the 30 real pairs."""
    path = HERE.parents[1] / "tests" / "benchmarks" / "advice_real.csv"
    with path.open(encoding="utf-8") as file:
        pairs = list(csv.DictReader(file))
    figure, axes = plt.subplots(1, 1, figsize=(5.2, 3.2))
    for dataset, method in zip(("grocery", "food10", "dtd10"), ("prior", "uml", "uml-init"), strict=True):
        some = [{k: float(one[k]) for k in ("estimate", "low", "high", "measured")}
                for one in pairs if one["dataset"] == dataset]  # fmt: skip
        axes.errorbar([one["measured"] for one in some], [one["estimate"] for one in some],
                      [[one["estimate"] - one["low"] for one in some],
                       [one["high"] - one["estimate"] for one in some]],
                      fmt=MARKERS[method], color=COLOURS[method], markersize=5, linewidth=0.5,
                      label=dataset)  # fmt: skip
    axes.plot([-1.5, 1.5], [-1.5, 1.5], color=GREY, linewidth=0.8)
    axes.set_xlabel("measured: uml − unimodal-deep, points")
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, [axes], name, "advice, points, with 90 % interval")


def save(
    figure: plt.Figure, axes: Any, name: str, ylabel: str = "points, to the strongest without texts"
) -> None:
    """With one legend, as PNG."""
    axes[0].set_ylabel(ylabel, fontsize=8)
    axes[-1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    figure.savefig(HERE / f"study-{name}.png", dpi=130, metadata={"Software": None})
    plt.close(figure)


def main() -> None:
    """Draw all of them."""
    mpl.rcParams["font.size"] = 9
    three = ("prior", "uml", "uml-init", "uml[permuted]")
    rows("study-grocery", [("grocery", "MiniLM"), ("grocery", "mpnet")], three, "headline")
    rows("study-sets", [("food10", "MiniLM"), ("dtd10", "MiniLM"), ("food10", "mpnet"), ("dtd10", "mpnet")],
         three, "sets")  # fmt: skip
    rows("study-texts", [("grocery", f"{n} sentence{'s' * (n != 1)}") for n in (1, 2, 4)],
         ("prior", "uml", "uml[permuted]"), "texts")  # fmt: skip
    rows(
        "study-pool",
        [("grocery", None), ("food10", None), ("dtd10", None)],
        ("self-training", "prior"),
        "pool",
    )
    rows(
        "study-encoder", [("grocery", "MiniLM"), ("food10", "MiniLM"), ("dtd10", "MiniLM")], three, "encoder"
    )
    rows(
        "study-targets",
        [("spoken_digits", "sounds, with sentences"), ("spoken_digits", "sounds, with pictures"),
         ("cifar10", "photographs, with sentences"), ("food10", "sentences, with photographs"),
         ("dtd10", "sentences, with photographs")],
        ("prior", "uml"), "targets", "samples",
    )  # fmt: skip
    sizes("classes")
    worth("exchange")
    advised("advice")


if __name__ == "__main__":
    main()
