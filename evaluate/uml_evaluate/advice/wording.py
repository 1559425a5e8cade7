"""Advice for the terminal: a table over k, and one sentence per auxiliary and k."""

from __future__ import annotations

from collections.abc import Sequence

from uml_evaluate.advice.advisor import Advice
from uml_evaluate.advice.combine import DEAD_ZONE, LEVEL
from uml_evaluate.comparing.shown.numbers import signed
from uml_evaluate.comparing.verdict import CANNOT_TELL, HELPS, HURTS, NO_DIFFERENCE, Word

_MARKS: dict[Word, str] = {HELPS: "+", HURTS: "−", NO_DIFFERENCE: "=", CANNOT_TELL: "?"}


def advice_text(advice: Advice) -> str:
    """What the terminal shows: table, legend, sentences."""
    by_name: dict[str, dict[int, str]] = {}
    for e in advice.estimates:
        p = e.prediction
        cell = f"{signed(p.estimate)} [{signed(p.low)}, {signed(p.high)}] {_MARKS[p.verdict]}"
        by_name.setdefault(f"{e.auxiliary} ({e.encoder})", {})[e.shots] = cell
    shots = sorted({e.shots for e in advice.estimates})
    lines = [["auxiliary", *(f"k = {k}" for k in shots)]]
    lines += [[name, *(cells[k] for k in shots)] for name, cells in by_name.items()]
    title = (
        f"{advice.dataset}: {advice.target} ({advice.encoder}), {advice.classes} classes; "
        f"{advice.rows_per_class} training rows of the smallest class looked at, {advice.seconds:.1f} s"
    )
    legend = (
        "Points of accuracy that `uml` would add over `unimodal-deep`, estimated before training, with "
        f"{100 * LEVEL:.0f} % interval;\n"
        + ", ".join(f"{mark} {word}" for word, mark in _MARKS.items())
        + f" (no difference: inside ±{DEAD_ZONE:g})."
    )
    return "\n".join([title, "", *_aligned(lines), legend, "", *(e.sentence() for e in advice.estimates)])


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Lines of cells as text: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
