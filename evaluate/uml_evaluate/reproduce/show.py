"""A recipe's answer as text: the paper's table, the measured one, the difference, and the decomposition."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from textwrap import fill
from typing import TYPE_CHECKING, Any

from uml_evaluate.comparing.comparison import across
from uml_evaluate.comparing.rows import arm_name, arm_order, shots_order
from uml_evaluate.comparing.shown.numbers import signed
from uml_evaluate.comparing.shown.tables import LEGEND, WIDTH, averages, marked_points, plain_table
from uml_evaluate.comparing.statistics import student_difference
from uml_evaluate.comparing.verdict import SMALL
from uml_evaluate.reproduce.recipe.published import ACCURACY, Key, Number, Published, lookup
from uml_evaluate.reproduce.result import Result, seeds_of
from uml_evaluate.reproduce.verdicts import text as verdicts_text

if TYPE_CHECKING:
    from uml_evaluate.comparing.statistics import Interval
    from uml_evaluate.reproduce.recipe_run import Outcome

TINY = "Generated data, reduced in every size: this shows that the recipe runs. Its numbers mean nothing."
SMALL_SCALE = (
    "Real data and encoders that are at hand, few seeds and steps: numbers of another experiment than the "
    "paper's, which is why its own are not beside them."
)
NO_NUMBERS = "the paper's number is not recorded here; add it under [[published]]"
_PREFIXES = ("oxford_", "stanford_", "fgvc_", "imagenet_")


def answer(outcome: Outcome, scale: str, results: Sequence[Result]) -> str:
    """Everything that a person wants to know of it."""
    recipe = outcome.recipe
    head = f"{recipe.name}: {recipe.title}" + (f" (paper {recipe.paper})" if recipe.paper else "")
    parts = [head, f"Protocol {recipe.protocol}{_deviations(outcome)}."]
    if scale == "tiny":
        parts.append(TINY)
    if scale == "small":
        parts.append(SMALL_SCALE)
    tables = recipe.published
    for table in tables:
        parts += _beside(table, outcome.numbers, results)
    if not tables and scale == "full" and not recipe.verdicts:
        parts.append(f"No table to compare with: {NO_NUMBERS}.")
    parts += alone(outcome.numbers, results, {table.measure for table in tables})
    if outcome.verdicts:
        parts.append(verdicts_text(outcome.verdicts))
    parts += [part for part in (_decomposition(outcome), _findings(outcome)) if part]
    if recipe.note:
        parts.append(fill(recipe.note, WIDTH))
    if outcome.lacking:
        lines = [f"  {lacking.what}: {lacking.why}" for lacking in outcome.lacking]
        parts.append("\n".join(["Not run:", *lines]))
    return "\n\n".join(parts)


def _deviations(outcome: Outcome) -> str:
    """Which settings of the runs are not the protocol's."""
    records = [run.config["protocol"] for run in outcome.runs]
    names = dict.fromkeys(name for record in records for name in record["deviations"])
    return f"; not as it has them: {', '.join(names)}" if names else ""


def alone(measured: Sequence[Number], results: Sequence[Result], shown: Iterable[str] = ()) -> list[str]:
    """The numbers that nothing is printed for, each measure with the contributed ones; not those `shown`."""
    parts = []
    for measure in dict.fromkeys(number.key.measure for number in measured):
        if measure in shown:
            continue
        parts.append(_measured("Measured here", measure, measured))
        for result in results:
            if any(number.key.measure == measure for number in result.numbers):
                parts.append(_measured(f"Contributed, {result.name}", measure, result.numbers))
    return parts


def published_text(table: Published) -> str:
    """A table as the paper prints it."""
    numbers = list(table.numbers())
    return f"The paper, {table.source}\n{_matrix(table.across, table.columns, numbers, _plain)}"


def _beside(table: Published, measured: Sequence[Number], results: Sequence[Result]) -> list[str]:
    mine = [number for number in measured if number.key.measure == table.measure]
    parts = [published_text(table)]
    for result in results:
        theirs = [number for number in result.numbers if number.key.measure == table.measure]
        parts.append(f"Contributed, {result.name}\n{_matrix(table.across, table.columns, theirs, _plain)}")
    if not mine:
        return parts
    seeds = seeds_of(mine)
    title = f"Measured here, up to {seeds} seed{'s' * (seeds != 1)}"
    parts.append(f"{title}\n{_matrix(table.across, table.columns, mine, _spread)}")
    differences = [
        replace(number, value=found.value - number.value)
        for number in table.numbers()
        if (found := lookup(list(mine), number.key)) is not None
    ]
    if differences:
        shown = _matrix(table.across, table.columns, differences, lambda n: signed(n.value))
        parts.append(f"Measured − paper\n{shown}")
    return parts


def _measured(whose: str, measure: str, all_numbers: Sequence[Number]) -> str:
    """Numbers of one measure; the first axis that has several values goes across."""
    numbers = [number for number in all_numbers if number.key.measure == measure]
    axes = {name: _distinct(numbers, name) for name in ("dataset", "shots", "variant")}
    name = next((n for n in ("dataset", "shots", "variant") if len(axes[n]) > 1), "dataset")
    seeds = seeds_of(numbers)
    what = "test accuracy in %" if measure == ACCURACY else measure
    title = f"{whose}: {what}, mean ± standard deviation, up to {seeds} seed{'s' * (seeds != 1)}"
    return f"{title}\n{_matrix(name, axes[name], numbers, _spread)}"


def _matrix(
    across_: str, columns: Sequence[Any], numbers: Sequence[Number], text: Callable[[Number], str]
) -> str:
    """One row per what is left of the keys, a column per data set, number of shots or variant."""
    rows: dict[Key, dict[Any, Number]] = {}
    for number in numbers:
        column = getattr(number.key, across_)
        if column in columns:
            rows.setdefault(number.key.at(across_, None), {})[column] = number
    order = {name: _distinct(numbers, name) for name in ("dataset", "variant")}
    ranked = sorted(rows, key=lambda key: _rank(key, order))
    varying = [
        n for n in ("dataset", "variant", "shots") if n != across_ and len({getattr(k, n) for k in rows}) > 1
    ]
    lines = []
    for key in ranked:
        place = [_name(n, getattr(key, n)) for n in varying if getattr(key, n) is not None]
        method = arm_name((key.method, key.control)) if key.method else "all"
        found = rows[key]
        lines.append([", ".join([*place, method]), *(_cell(found.get(c), text) for c in columns)])
    heads = [_name(across_, column) for column in columns]
    return _blocks(["", *heads], lines)


def _blocks(head: list[str], rows: list[list[str]]) -> str:
    """The table, or several below each other where it is too wide."""
    widths = [max(map(len, column)) + 2 for column in zip(head, *rows, strict=True)]
    blocks, start = [], 1
    while start < len(head):
        end, room = start, WIDTH - widths[0]
        while end < len(head) and (room := room - widths[end]) >= 0:
            end += 1
        end = max(end, start + 1)
        blocks.append(plain_table([head[0], *head[start:end]], [[r[0], *r[start:end]] for r in rows]))
        start = end
    return "\n\n".join(blocks)


def _rank(key: Key, order: dict[str, list[Any]]) -> tuple[Any, ...]:
    places = [order[n].index(getattr(key, n)) if getattr(key, n) in order[n] else -1 for n in order]
    return *places, shots_order(key.shots or 0), arm_order((key.method or "", key.control))


def _distinct(numbers: Sequence[Number], name: str) -> list[Any]:
    found = dict.fromkeys(getattr(number.key, name) for number in numbers)
    if name == "shots":
        return sorted(found, key=lambda k: shots_order(k or "all"))
    return list(found)


def _name(kind: str, value: Any) -> str:
    if kind == "shots":
        return "all rows" if value == "all" else f"k = {value}" if value is not None else ""
    text = str(value) if value is not None else ""
    if kind == "dataset":
        for prefix in _PREFIXES:
            text = text.removeprefix(prefix)
    return text


def _cell(number: Number | None, text: Callable[[Number], str]) -> str:
    return "–" if number is None else text(number)


def _plain(number: Number) -> str:
    return f"{number.value:.2f}" if number.key.measure == ACCURACY else f"{number.value:.4g}"


def _spread(number: Number) -> str:
    small = abs(number.value) < 10
    mean = f"{number.value:.{2 if small else 1}f}"
    return mean if number.std is None else f"{mean} ± {number.std:.{2 if small else 1}f}"


def _decomposition(outcome: Outcome) -> str:
    """What each step adds: over folds or data sets where there are several, else by comparison."""
    comparisons = [comparison for _, comparison in outcome.comparisons]
    if len({(v, c.title, k) for v, c in outcome.comparisons for k in c.shots}) < sum(
        len(c.shots) for c in comparisons
    ):
        return _over_folds(outcome)
    over = across(comparisons)
    if over:
        rows = [
            [f"{d.a} − {d.b}", _name("shots", d.shots), *_interval(d.interval), str(len(d.datasets)), d.role]
            for d in over
        ]
        head = ["difference", "shots", "points", "95 % interval", "data sets", ""]
        title = "What each step adds, mean over data sets (the data set is the unit)"
        legend = LEGEND.replace("seeds × test samples", "data sets")
        return f"{title}\n{plain_table(head, rows)}\n{legend}"
    several = len({variant for variant, _ in outcome.comparisons}) > 1
    parts = []
    for variant, comparison in outcome.comparisons:
        found = averages(comparison)
        if found:
            parts.append(f"[{variant}] {found}" if several else found)
    return "What each step adds\n" + "\n\n".join(parts) if parts else ""


def _over_folds(outcome: Outcome) -> str:
    """Differences as means over the folds, a table for each data set and variant."""
    found: dict[str, dict[tuple[Any, str], list[float]]] = {}
    for variant, comparison in outcome.comparisons:
        for d in comparison.differences:
            place = f"{d.dataset}, {variant}" if variant else d.dataset
            found.setdefault(place, {}).setdefault((d.shots, f"{d.a} − {d.b}"), []).append(d.interval.delta)
    head = ["difference", "shots", "points", "95 % interval", "folds"]
    tables = []
    for place, differences in found.items():
        rows = []
        for (shots, pair), deltas in differences.items():
            interval = _interval(student_difference(deltas, [0.0] * len(deltas)))
            rows.append([pair, _name("shots", shots), *interval, str(len(deltas))])
        tables.append(f"{place}\n{plain_table(head, rows)}")
    legend = (
        "Points of accuracy, Student's 95 % interval over folds, whose test samples overlap; * it excludes "
        f"0, = it lies inside ±{SMALL:g}."
    )
    return "\n\n".join(["What each step adds, mean over folds", *tables, legend])


def _interval(interval: Interval) -> list[str]:
    return [marked_points(interval), _bounds(interval)]


def _bounds(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return ""
    return f"[{signed(interval.low)}, {signed(interval.high)}]".replace("+", "")


def _findings(outcome: Outcome) -> str:
    return "\n".join(
        fill(f"{dataset}, {finding.title}: {' '.join(finding.said)}", WIDTH)
        for dataset, finding in outcome.findings
    )
