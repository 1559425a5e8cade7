"""The course of the gradients' cosine while training, as the run's history has it (`Fitted.history`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from uml_evaluate.analyses.finding import Table
from uml_evaluate.analyses.part import arm_of
from uml_evaluate.analyses.reading import Reading, mean_std_text
from uml_evaluate.comparing.rows import arm_name
from uml_evaluate.comparing.shown.figures import GREY, arm_style
from uml_evaluate.comparing.shown.tables import shots_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NOTES = {
    True: "Its course while training is over at most 128 training rows of each, at every look at validation.",
    False: "This run has no record of its course while training.",
}


def is_drawn(name: str) -> bool:
    """Of the controls `uml[permuted]` alone."""
    return "[" not in name or name.startswith("uml[permuted")


def draw_course(ax: Axes, courses: list[dict[str, Any]], shots: Any) -> None:
    """Mean over the seeds that still trained, against the step."""
    for name in filter(is_drawn, dict.fromkeys(c["method"] for c in courses)):
        method, _, control = name.partition("[")
        colour, marker, line = arm_style((method, control.rstrip("]") or None))
        found: dict[int, list[float]] = {}
        for course in courses:
            if (course["method"], course["shots"]) == (name, shots):
                for step, cosine in course["points"]:
                    found.setdefault(step, []).append(cosine)
        steps = sorted(found)
        means = [np.mean(found[step]) for step in steps]
        ax.plot(steps, means, color=colour, linestyle=line, marker=marker, markersize=3, linewidth=1.3)
    ax.axhline(0.0, color=GREY, linestyle="--", linewidth=1.0)
    ax.set_xlabel(f"training step ({shots_name(shots)})")
    ax.set_ylabel("gradient cosine while training")
    ax.spines[["top", "right"]].set_visible(False)


def courses_of(reading: Reading, label: str) -> list[dict[str, Any]]:
    """What training recorded of each selected model: (step, cosine) of every evaluation that has one."""
    found = []
    for result in reading.cells:
        history = result.history[result.selected]
        points = [[int(p["step"]), p[f"cos.{label}"]] for p in history if f"cos.{label}" in p]
        if points:
            cell = result.cell
            found.append(
                {"method": arm_name(arm_of(result)), "shots": cell.shots, "seed": cell.seed,
                 "best_step": result.best_step, "points": points}
            )  # fmt: skip
    return found


def course_table(reading: Reading, courses: list[dict[str, Any]]) -> list[Table]:
    """The cosine at the first, the selected and the last look; no table where nothing was recorded."""
    rows = []
    for name in dict.fromkeys(c["method"] for c in courses):
        for k in reading.shots:
            mine = [c for c in courses if (c["method"], c["shots"]) == (name, k)]
            if mine:
                first = [c["points"][0][1] for c in mine]
                kept = [dict(c["points"]).get(c["best_step"]) for c in mine]
                last = [c["points"][-1][1] for c in mine]
                every = [[v for v in part if v is not None] for part in (first, kept, last)]
                rows.append([name, str(k), *(mean_std_text(part, 2) for part in every)])
    if not rows:
        return []
    caption = "Gradient cosine while training, mean ± standard deviation over seeds"
    head = ["method", "k", "first look", "selected step", "last look"]
    return [Table(caption=caption, head=head, rows=rows)]
