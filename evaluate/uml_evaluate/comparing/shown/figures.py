"""Figures of a comparison: accuracy versus shots, and the differences with their intervals.

Colours are Okabe and Ito's, told apart without colour by marker and line style too; controls are grey, rivals
have thin dotted lines and markers of their own. Text and axes are drawn in one ink, which an inline SVG takes
from the page around it (dark or light).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uml_cache import escapes, write_together
from uml_evaluate.comparing.comparison import Comparison
from uml_evaluate.comparing.rows import ALONE, PROBES, Arm, arm_name
from uml_evaluate.comparing.shown.tables import grouped, shots_name, shown_differences

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from uml_train import Shots

INK = "#0b0c0e"  # occurs nowhere else, so that it can be found again in the SVG
GREY = "#808080"
_STYLES: dict[str, tuple[str, str, str]] = {
    "unimodal": (INK, "s", "-"),
    "ridge": (GREY, "P", "-"),
    "self-training": ("#009E73", "*", "-"),
    "prior": ("#CC79A7", "X", "-"),
    "unimodal-deep": ("#E69F00", "^", "-"),
    "init-only": ("#56B4E9", "v", "-."),
    "uml": ("#D55E00", "o", "-"),
    "uml-init": ("#0072B2", "D", "-"),
    "auto": ("#009E73", "p", ":"),
}
_RIVAL_COLOURS = ("#CC79A7", "#009E73", "#56B4E9")
_RIVAL_MARKERS = ("P", "X", "<", ">", "h", "*", "d", "8", "H", "1", "2", "3")
_CONTROL_STYLES = {"permuted": ("x", "--"), "random": ("+", ":")}
_SHOTS_STYLES = (
    ("#0072B2", "o"),
    ("#D55E00", "s"),
    ("#009E73", "^"),
    ("#CC79A7", "D"),
    ("#E69F00", "v"),
    (GREY, "P"),
)


def accuracy_figure(comparison: Comparison) -> Figure:
    """Test accuracy in percent (mean, bars: standard deviation over seeds) versus labelled samples a class.

    The horizontal axis is logarithmic with the shots as ticks; "all" stands one doubling after the largest.
    Of the controls those of `uml` are drawn (else those of `uml-init`, else those of `prior`).
    """
    with style():
        figure, axes = canvas(6.4, 4.2)
        places = _places(comparison.shots)
        arms = _drawn_arms(comparison)
        for i, arm in enumerate(arms):
            width = 1.2 if arm[1] or arm[0] in PROBES else 1.8
            _draw_line(axes, comparison, arm, arm_name(arm), places, i - (len(arms) - 1) / 2, width)
        _set_shots(axes, places, comparison.target)
        axes.set_title(f"{comparison.title} (mean ± std, n = {comparison.seeds} seeds)", fontsize=10)
        axes.legend(frameon=False, fontsize=8.5, loc="center left", bbox_to_anchor=(1.0, 0.5))
        return figure


def _draw_line(
    axes: Axes,
    comparison: Comparison,
    arm: Arm,
    label: str,
    places: Mapping[Shots, float],
    step: float,
    width: float,
) -> None:
    """Means and deviations of one method, `step` lines aside, so that bars do not hide each other."""
    rows = [row for k in comparison.shots if (row := comparison.row(arm, k)) is not None]
    colour, marker, line = arm_style(arm)
    axes.errorbar(
        [places[row.shots] * 2.0 ** (0.035 * step) for row in rows],
        [row.mean for row in rows],
        yerr=[row.std or 0.0 for row in rows],
        label=label, color=colour, marker=marker, linestyle=line, linewidth=width, markersize=5.5,
        elinewidth=1.0, capsize=2.5,
    )  # fmt: skip


def key_figure(comparison: Comparison, lines: Sequence[tuple[str, Arm]]) -> Figure:
    """A few methods under plain names, small enough for a telephone: accuracy versus labelled samples."""
    with style():
        figure, axes = canvas(4.6, 3.4)
        places = _places(comparison.shots)
        for i, (name, arm) in enumerate(lines):
            _draw_line(axes, comparison, arm, name, places, i - (len(lines) - 1) / 2, 1.6)
        axes.axhline(comparison.chance[0], color=GREY, linewidth=1.0, linestyle=(0, (1, 3)), label="chance")
        _set_shots(axes, places, comparison.target)
        axes.legend(frameon=False, fontsize=8.5, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)
        return figure


def _set_shots(axes: Axes, places: dict[Shots, float], target: str) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(places.values()), ["all" if k == "all" else str(k) for k in places])
    axes.minorticks_off()
    axes.set_xlim(min(places.values()) / 1.4, max(places.values()) * 1.4)
    axes.set_xlabel(f"labelled {target} samples per class")
    axes.set_ylabel("test accuracy (%)")
    axes.grid(axis="y", color=GREY, alpha=0.25, linewidth=0.6)


def differences_figure(comparison: Comparison) -> Figure:
    """Every difference of the ladder and of the drawn controls in points, with its 95 % interval."""
    with style():
        rows = list(grouped(comparison, shown_differences(comparison, comparison.differences)).items())
        step = 0.75 / max(1, len(comparison.shots))
        figure, axes = canvas(6.4, 0.9 + max(0.34, 0.13 * len(comparison.shots)) * (len(rows) + 1))
        for i, shots in enumerate(comparison.shots):
            colour, marker = _SHOTS_STYLES[i % len(_SHOTS_STYLES)]
            points = [
                (y, by_shots[shots].interval) for y, (_, by_shots) in enumerate(rows) if shots in by_shots
            ]
            offset = (i - (len(comparison.shots) - 1) / 2) * step
            lows = [p.delta - (p.delta if p.low is None else p.low) for _, p in points]
            highs = [(p.delta if p.high is None else p.high) - p.delta for _, p in points]
            axes.errorbar(
                [p.delta for _, p in points],
                [y + offset for y, _ in points],
                xerr=[lows, highs],
                label=shots_name(shots),
                color=colour,
                marker=marker,
                linestyle="none",
                markersize=4.5,
                elinewidth=1.3,
            )
        axes.axvline(0.0, color=INK, linewidth=0.9)
        for y in range(1, len(rows)):
            axes.axhline(y - 0.5, color=GREY, alpha=0.2, linewidth=0.6)
        axes.set_yticks(range(len(rows)), [f"{a} − {b}" for (_, a, b), _ in rows], fontsize=8.5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("difference in test accuracy (percentage points), 95 % interval")
        axes.set_title(f"{comparison.title} (n = {comparison.seeds} seeds)", fontsize=10)
        if len(comparison.shots) > 1:
            axes.legend(frameon=False, fontsize=8.5, loc="center left", bbox_to_anchor=(1.0, 0.5))
        return figure


@dataclass(frozen=True)
class Drawn:
    """A figure on disk, and the same as an `<svg>` element for a page."""

    files: list[Path]
    svg_html: str


def save(figure: Figure, folder: Path, name: str, description: str = "") -> Drawn:
    """Write NAME.png (200 dots per inch) and NAME.svg, both on white.

    The element for a page is transparent, takes its ink from the page around it and carries no address of a
    namespace; screen readers say its description.
    """
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    text, dots = BytesIO(), BytesIO()
    with style():
        figure.savefig(
            dots,
            format="png",
            dpi=200,
            facecolor="white",
            bbox_inches="tight",
            metadata={"Software": None},
        )
        figure.savefig(
            text,
            format="svg",
            transparent=True,
            bbox_inches="tight",
            metadata={"Date": None, "Creator": None},
        )
    markup = escapes.xml(text.getvalue().decode())
    on_white = markup.replace("<svg ", '<svg style="background: white" ', 1)
    write_together({png: dots.getvalue(), svg: on_white.encode()})
    return Drawn([png, svg], _element(markup, description))


def _element(markup: str, description: str) -> str:
    text = markup[markup.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    # Without a size of its own the element takes the width that the page gives it.
    text = re.sub(r'(<svg [^>]*?)\bwidth="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg [^>]*?)\bheight="[^"]*"', r"\1", text, count=1)
    label = f'<svg role="img" aria-label="{escapes.html(description)}" '
    return text.replace(INK, "currentColor").replace("<svg ", label, 1).strip()


def file_name(comparison: Comparison) -> str:
    """A name for the figures of a comparison, such as `shapes-image-text+audio`."""
    parts = [comparison.dataset, comparison.target, "+".join(comparison.auxiliaries) or "alone"]
    return re.sub(r"[^A-Za-z0-9.+_-]", "_", "-".join(parts))


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that no window system knows of."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of so many inches with one pair of axes."""
    figure = new_figure(width, height)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


@contextmanager
def style() -> Iterator[None]:
    """Everything that is drawn and saved inside has one ink, which a page can replace."""
    import matplotlib

    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "axes.titlecolor")
    settings: dict[Any, Any] = dict.fromkeys((*inked, "xtick.color", "ytick.color"), INK)
    # Glyphs as paths: the page looks the same whatever fonts a reader has. The salt makes ids repeat.
    settings |= {
        "svg.fonttype": "path",
        "svg.hashsalt": "uml",
        "font.family": "DejaVu Sans",
        "font.size": 9.5,
        "text.parse_math": False,  # a name may hold dollar signs
    }
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # A name may hold signs that the font lacks; they are drawn as boxes.
        warnings.filterwarnings("ignore", "Glyph ", UserWarning)
        yield


def _places(shots: list[Shots]) -> dict[Shots, float]:
    numbers = [k for k in shots if k != "all"]
    last = float(max(numbers, default=1))
    return {k: 2.0 * last if k == "all" else float(k) for k in shots}


def _drawn_arms(comparison: Comparison) -> list[Arm]:
    controlled = {method for method, control in comparison.arms if control is not None}
    method = next((m for m in ("uml", "uml-init", "prior") if m in controlled), None)
    drawn = [arm for arm in comparison.arms if arm[1] is None or arm[0] == method]
    return sorted(drawn, key=lambda arm: (arm[1] is not None, arm[0] not in ALONE))


def arm_style(arm: Arm) -> tuple[str, str, str]:
    """Colour, marker and line of a method in every figure."""
    method, control = arm
    if method in PROBES:
        at = PROBES.index(method)
        return _RIVAL_COLOURS[at % len(_RIVAL_COLOURS)], _RIVAL_MARKERS[at], ":"
    if control is not None:
        return (GREY, *_CONTROL_STYLES.get(control, ("*", "--")))
    return _STYLES.get(method, (GREY, ".", "-"))
