"""Tables for the terminal and in Markdown: accuracies by method and shots, and the differences below them."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from textwrap import fill
from typing import TYPE_CHECKING

from uml_cache import escapes
from uml_evaluate.comparing.comparison import Comparison
from uml_evaluate.comparing.rows import ALONE, Arm, Difference, Row, arm_name
from uml_evaluate.comparing.shown.numbers import signed
from uml_evaluate.comparing.statistics import POINTS, Interval, Unit
from uml_evaluate.comparing.verdict import HELPS, MARKS, NO_DIFFERENCE

if TYPE_CHECKING:
    from rich.table import Table

    from uml_train import Shots

WIDTH = 100
_UNEVEN = 0.5  # points; below it the classes are as good as equal
_GAP = 2  # between two columns


def _legend(what: str, unit: Unit) -> str:
    better, worse = ("−", "+") if unit.lower_is_better else ("+", "−")
    return (
        f"{what}, 95 % interval from a bootstrap over seeds × test samples. {MARKS[HELPS]} helps ({better}) "
        f"or hurts ({worse}): it excludes 0; {MARKS[NO_DIFFERENCE]} no difference: inside ±{unit.small:g}; "
        "no mark: can't tell."
    )


LEGEND = _legend("Points of accuracy", POINTS)


def legend(differences: Sequence[Difference]) -> str:
    """What the numbers below a table are; without intervals (below three seeds) none are spoken of."""
    first = differences[0]
    what = f"{first.interval.unit.name.capitalize()} of {first.metric}"
    if any(interval_text(d) for d in differences):
        return _legend(what, first.interval.unit)
    return f"{what}; an interval takes three seeds or more."


def shots_name(shots: Shots) -> str:
    """`k = 4`, or `all`."""
    return "all" if shots == "all" else f"k = {shots}"


def accuracy_text(row: Row | None, seeds: int, digits: int = 1) -> str:
    """`56.2 ± 1.3`, with the number of seeds where it is not the table's."""
    if row is None:
        return "–"
    spread = "" if row.std is None else f" ± {row.std:.{digits}f}"
    return f"{row.mean:.{digits}f}{spread}" + (f" (n={row.seeds})" if row.seeds != seeds else "")


def value_text(comparison: Comparison, arm: Arm, shots: Shots) -> str:
    """A cell of a comparison's table."""
    return accuracy_text(comparison.row(arm, shots), comparison.seeds, comparison.metric.unit.digits)


def interval_text(difference: Difference) -> str:
    """`[3.1, 7.4]`, empty below three seeds."""
    low, high = difference.interval.low, difference.interval.high
    if low is None or high is None:
        return ""
    digits = difference.interval.unit.digits
    return f"[{signed(low, digits)}, {signed(high, digits)}]".replace("+", "")


def delta_text(difference: Difference) -> str:
    """`+5.2 *`, marked with the verdict."""
    return marked_points(difference.interval)


def marked_points(interval: Interval) -> str:
    """`+5.2 *`: a difference in points with the mark of its verdict."""
    return f"{signed(interval.delta, interval.unit.digits)} {MARKS[interval.verdict]}".rstrip()


def caption(comparison: Comparison) -> str:
    """What the accuracies are: percent of how many, over how many seeds, with which encoders."""
    row = next((row for row in reversed(comparison.rows) if row.auxiliaries), comparison.rows[-1])
    # A label such as `image:hog-color` names its encoder already.
    encoders = ", ".join(
        label if label.endswith(f":{name}") else f"{label}: {name}" for label, name in row.encoders.items()
    )
    spread = (
        f"mean ± standard deviation over {comparison.seeds} seeds" if comparison.seeds > 1 else "one seed"
    )
    protocol = f"; protocol {comparison.protocol}" if comparison.protocol else ""
    return f"{comparison.metric.title}, {spread} ({encoders}){_chance(comparison)}{protocol}"


def _chance(comparison: Comparison) -> str:
    """What guessing gives, where the metric is a share of rows."""
    if comparison.metric.name != "accuracy":
        return ""
    guess, largest = comparison.chance
    most = f", always the largest class {largest:.1f}" if largest - guess >= _UNEVEN else ""
    return f"; chance {guess:.1f}{most}"


def grouped(
    comparison: Comparison, differences: Sequence[Difference] | None = None
) -> dict[tuple[str, str, str], dict[Shots | None, Difference]]:
    """Differences by (role, a, b), then by shots (None: the mean over them), in the order of the ladder."""
    found: dict[tuple[str, str, str], dict[Shots | None, Difference]] = {}
    for d in comparison.differences if differences is None else differences:
        found.setdefault((d.role, d.a, d.b), {})[d.shots] = d
    return found


def terminal(comparison: Comparison) -> str:
    """The accuracies and the differences of one configuration, at most 100 columns wide.

    Of the controls those of one method are compared (`uml`, else `uml-init`); a report has all.
    """
    return "\n\n".join(part for part in (accuracies(comparison), _differences(comparison)) if part)


def accuracies(comparison: Comparison) -> str:
    """The accuracies of one configuration, a method a row, shots across."""
    alone = [arm for arm in comparison.arms if arm[0] in ALONE]
    rows = [
        [arm_name(arm), *(value_text(comparison, arm, k) for k in comparison.shots)]
        for arm in comparison.arms
    ]
    tables = _tables("method", comparison.shots, rows, section_after=len(alone) - 1)
    return f"{comparison.title}\n{fill(caption(comparison), WIDTH)}\n\n{tables}"


def averages(comparison: Comparison) -> str:
    """The differences as means over all shots, one line each."""
    shown = shown_differences(comparison, comparison.averaged)
    if not shown:
        return ""
    table = _table("difference", "points", "95 % interval", "")
    for d in shown:
        table.add_row(f"{d.a} − {d.b}", delta_text(d), interval_text(d), d.role)
    table.columns[-1].justify = "left"
    table.columns[-1].no_wrap = False  # what does not fit beside the numbers goes below
    names = ", ".join(str(k) for k in comparison.shots)
    title = f"averaged over k = {names}" if len(comparison.shots) > 1 else shots_name(comparison.shots[0])
    return f"{comparison.title}, {title}\n\n{_printed(table)}\n{fill(legend(shown), WIDTH)}"


def shown_differences(comparison: Comparison, differences: Sequence[Difference]) -> list[Difference]:
    """The differences without those of `uml-init`'s controls where `uml` has some."""
    methods = {method for method, control in comparison.arms if control is not None}
    return [d for d in differences if "uml" not in methods or "uml-init[" not in d.a + d.b]


def markdown(comparison: Comparison) -> str:
    """Both tables in Markdown, controls of every method included."""
    lines = [f"**{escapes.markdown(comparison.title)}** — {escapes.markdown(caption(comparison))}", ""]
    names = [shots_name(k) for k in comparison.shots]
    lines += _markdown_head(["method", *names])
    for arm in comparison.arms:
        cells = [value_text(comparison, arm, k) for k in comparison.shots]
        lines.append(_markdown_row([f"`{arm_name(arm)}`", *cells]))
    if comparison.differences:
        lines += ["", *_markdown_head(["difference", "", *names])]
        for (role, a, b), by_shots in grouped(comparison).items():
            cells = [_one_line(by_shots.get(k)) for k in comparison.shots]
            lines.append(_markdown_row([role, f"`{a}` − `{b}`", *cells]))
        lines += ["", legend(comparison.differences).replace("*", r"\*")]
    return "\n".join(lines) + "\n"


def _markdown_head(cells: Sequence[str]) -> list[str]:
    return [_markdown_row(cells), _markdown_row(["---"] * len(cells))]


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(escapes.markdown(cell) for cell in cells) + " |"


def _one_line(difference: Difference | None) -> str:
    if difference is None:
        return "–"
    return f"{delta_text(difference).replace('*', chr(92) + '*')} {interval_text(difference)}".strip()


def _differences(comparison: Comparison) -> str:
    differences = shown_differences(comparison, comparison.differences)
    if not differences:
        return ""
    wide = len(comparison.shots) > 2  # then the interval goes below its difference
    rows = [
        [
            f"{role}\n{a} − {b}" if wide else f"{a} − {b}",
            *(_cell(by_shots.get(k), wide) for k in comparison.shots),
        ]
        for (role, a, b), by_shots in grouped(comparison, differences).items()
    ]
    ladder = sum("[" not in row[0] for row in rows)
    left_out = max(d.left_out for d in differences)
    lost = f"\nSeeds that only one side has are left out (up to {left_out})." if left_out else ""
    shown = _tables("difference", comparison.shots, rows, section_after=ladder - 1)
    return f"{shown}\n{fill(legend(differences), WIDTH)}{lost}"


def _cell(difference: Difference | None, wide: bool) -> str:
    if difference is None:
        return "–"
    interval = interval_text(difference)
    if wide:
        return f"{delta_text(difference)}\n{interval.replace(', ', ',')}".rstrip()
    return f"{delta_text(difference)}  {interval}".rstrip()


def plain_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of text for the terminal; the first column is flush left."""
    table = _table(head[0], *head[1:])
    for row in rows:
        table.add_row(*row)
    return _printed(table)


def _tables(first: str, shots: Sequence[Shots], rows: Sequence[Sequence[str]], *, section_after: int) -> str:
    return wide_table(first, [shots_name(k) for k in shots], rows, section_after=section_after)


def wide_table(
    first: str, names: Sequence[str], rows: Sequence[Sequence[str]], *, section_after: int = -1
) -> str:
    """The rows as a table, or as several where the columns do not fit beside each other."""
    lines = [[first, *names], *rows]
    widths = [
        max(len(text) for line in lines for text in (line[i].splitlines() or [""]))
        for i in range(len(names) + 1)
    ]
    at_once = max(1, (WIDTH - widths[0]) // (_GAP + max(widths[1:])))
    parts = []
    for start in range(0, len(names), at_once):
        columns = slice(start, start + at_once)
        table = _table(first, *names[columns])
        for i, row in enumerate(rows):
            table.add_row(row[0], *row[1:][columns], end_section=i == section_after)
        parts.append(_printed(table))
    return "\n\n".join(parts)


def _table(first: str, *others: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _printed(table: Table) -> str:
    from rich.console import Console

    text = StringIO()
    Console(file=text, width=WIDTH, color_system=None, markup=False, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())
