"""The tables of the report: of all comparisons, of one, and across data sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from uml_evaluate.comparing.comparison import Comparison, compare
from uml_evaluate.comparing.rows import AcrossDataSets, Difference, arm_name
from uml_evaluate.comparing.shown.headline import key_arms, main_pair
from uml_evaluate.comparing.shown.marks import MARKS, marked
from uml_evaluate.comparing.shown.meanings import meaning
from uml_evaluate.comparing.shown.tables import (
    LEGEND,
    caption,
    delta_text,
    grouped,
    interval_text,
    marked_points,
    shots_name,
    value_text,
)
from uml_evaluate.metrics.classes import ClassTables, mistake_rows, per_class_rows
from uml_evaluate.metrics.measures import METRICS
from uml_evaluate.metrics.values import available
from uml_evaluate.report.page import Cell, PageTable

if TYPE_CHECKING:
    from uml_train import Run, Shots

_SUMMARY = (
    ("deeper head", "unimodal-deep", "unimodal"),
    ("initialisation", "init-only", "unimodal-deep"),
    ("data", "uml", "unimodal-deep"),
    ("data after init.", "uml-init", "init-only"),
    ("data as a prior", "prior", "ridge"),
    ("permuted", "uml[permuted]", "unimodal-deep"),
    ("random", "uml[random]", "unimodal-deep"),
)


def summary_table(summary: Sequence[tuple[str, str, Comparison]]) -> PageTable:
    """The steps of the ladder, over the shots: a row for every comparison, with the name of its run, where it
    is to be said, and its section's anchor, where it has one."""
    rows = []
    for run, anchor, comparison in summary:
        found = {(d.a, d.b): d for d in comparison.averaged}
        alone = comparison.baseline
        pairs = [(a, alone if b == "unimodal-deep" else b) for _, a, b in _SUMMARY]
        cells = [_difference_cell(found.get(pair)) for pair in pairs]
        about = "; ".join(filter(None, [_over(comparison), run]))
        rows.append(("", [Cell(comparison.title, about, anchor=anchor), *cells]))
    return PageTable(
        ["points, mean over the shots", *(name for name, _, _ in _SUMMARY)], rows, caption=LEGEND
    )


def _over(comparison: Comparison) -> str:
    return f"k = {', '.join(map(str, comparison.shots))}; {comparison.seeds} seeds"


def key_table(comparison: Comparison) -> PageTable:
    """The few numbers that the headline rests on: with the data, without it, controls, chance."""
    rows = [
        (
            "control" if arm[1] else "",
            [Cell(what, arm_name(arm)), *(Cell(value_text(comparison, arm, k)) for k in comparison.shots)],
        )
        for what, arm in key_arms(comparison)
    ]
    pair = main_pair(comparison)
    if pair is not None:
        names = [arm_name(arm) for arm in pair]
        by_shots = {d.shots: d for d in comparison.differences if [d.a, d.b] == names}
        cells = [_difference_cell(by_shots.get(k)) for k in comparison.shots]
        rows.insert(2, ("", [Cell("the data adds", " − ".join(names)), *cells]))
    guess = f"{comparison.chance[0]:.1f}"
    rows.append(("control", [Cell("chance", "guessing a class"), *(Cell(guess) for _ in comparison.shots)]))
    names = [_labelled(k) for k in comparison.shots]
    return PageTable(["accuracy in %", *names], rows, caption=caption(comparison))


def _labelled(shots: Shots) -> str:
    return "all labels" if shots == "all" else f"{shots} per class"


def accuracy_table(comparison: Comparison) -> PageTable:
    """Test accuracy of every method and control, best and significant marked, and the labels they saw."""
    rows = []
    for arm in comparison.arms:
        texts = [marked(comparison, arm, k) for k in comparison.shots]
        cells = [Cell(text, kind="shown" if best else "") for text, best in texts]
        rows.append(("control" if arm[1] else "", [Cell(arm_name(arm), meaning(arm)), *cells]))
    names = [shots_name(k) for k in comparison.shots]
    budgets = [
        next((row.label_budget for row in comparison.rows if row.shots == k), 0) for k in comparison.shots
    ]
    rows.append(("control", [Cell("labelled samples, train + validation"), *(Cell(str(b)) for b in budgets)]))
    return PageTable(["method", *names], rows, caption=f"{caption(comparison)}. {MARKS}")


def difference_table(comparison: Comparison) -> PageTable:
    """Paired differences in points with their intervals; over all shots, where there are several, too."""
    several = len(comparison.shots) > 1
    differences = [*comparison.differences, *(comparison.averaged if several else [])]
    columns = [*comparison.shots, *([None] if several else [])]
    rows = [
        (
            "control" if "[" in a + b else "",
            [Cell(f"{a} − {b}", role), *(_difference_cell(by_shots.get(k)) for k in columns)],
        )
        for (role, a, b), by_shots in grouped(comparison, differences).items()
    ]
    names = ["mean" if k is None else shots_name(k) for k in columns]
    return PageTable(["difference", *names], rows, caption=LEGEND)


def metric_tables(run: Run, comparison: Comparison) -> list[PageTable]:
    """What the run's scores say beside accuracy: every metric, the classes, and the most frequent mistakes.

    Metrics that the run's files do not give are left out.
    """
    cells = [r for arm in comparison.arms for k in comparison.shots for r in comparison.results(arm, k)]
    names, _ = available(run, cells, [name for name in METRICS if name != comparison.metric.name])
    compared = {
        name: next(
            c
            for c in compare(run, comparison.shots, metric=METRICS[name])
            if (c.auxiliaries, c.shared_width) == (comparison.auxiliaries, comparison.shared_width)
        )
        for name in names
    }
    rows = [
        (
            "control" if arm[1] else "",
            [
                Cell(arm_name(arm), shots_name(k)),
                *(Cell(value_text(compared[name], arm, k)) for name in names),
            ],
        )
        for k in comparison.shots
        for arm in comparison.arms
        if comparison.results(arm, k)
    ]
    said = "; ".join(METRICS[name].title for name in names)
    found = ClassTables.of(run, comparison)
    last = [one for one in found.found if one.shots == comparison.shots[-1]]
    classes = [("", [Cell(text) for text in row]) for row in per_class_rows(last)]
    where = shots_name(comparison.shots[-1])
    tables = [
        PageTable(["method", *names], rows, caption=f"more than accuracy: {said}"),
        PageTable(
            ["class", "test rows", *(arm_name(one.arm) for one in last)],
            classes,
            caption=f"share of each class's test rows that is found in %, {where}, all seeds together",
        ),
    ]
    for one in found.main():
        if one.shots == comparison.shots[-1] and (mistakes := mistake_rows(one)):
            head = ["true", "taken for", "times", "% of its rows"]
            lines = [("", [Cell(text) for text in row]) for row in mistakes]
            title = f"the most frequent mistakes of {arm_name(one.arm)}, {where}, all seeds together"
            tables.append(PageTable(head, lines, caption=title))
    return tables


def _difference_cell(difference: Difference | None) -> Cell:
    if difference is None:
        return Cell("–")
    kind = "shown" if difference.interval.excludes_zero else ""
    return Cell(delta_text(difference), interval_text(difference), kind)


def across_table(found: Sequence[AcrossDataSets]) -> PageTable:
    """The differences over data sets."""
    rows = []
    for item in found:
        low, high = item.interval.low, item.interval.high
        bounds = "" if low is None or high is None else f"[{low:.1f}, {high:.1f}]".replace("-", "−")
        where = f"{item.target} ← {' + '.join(item.auxiliaries)}" if item.auxiliaries else item.target
        cells = [
            Cell(f"{item.a} − {item.b}", item.role),
            Cell(where, kind="text"),
            Cell(shots_name(item.shots)),
            Cell(marked_points(item.interval), bounds, "shown" if item.interval.excludes_zero else ""),
            Cell(str(len(item.datasets)), ", ".join(item.datasets), "text"),
        ]
        rows.append(("control" if "[" in item.a + item.b else "", cells))
    title = "mean of the data sets' differences; interval from a bootstrap over data sets (none below 3)"
    head = ["difference", "target", "labelled per class", "points", "data sets"]
    return PageTable(head, rows, caption=title)
