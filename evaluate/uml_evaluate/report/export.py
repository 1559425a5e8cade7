"""The tables of a report as files: CSV with bare numbers, Markdown and LaTeX as they are shown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uml_cache import escapes
from uml_evaluate.comparing.rows import arm_name
from uml_evaluate.comparing.shown.marks import MARKS, marked
from uml_evaluate.comparing.shown.tables import (
    LEGEND,
    caption,
    delta_text,
    grouped,
    interval_text,
    shots_name,
)
from uml_train import write_atomic

if TYPE_CHECKING:
    from uml_evaluate.analyses.finding import Table
    from uml_evaluate.comparing.comparison import Comparison


def write_comparison(comparison: Comparison, folder: Path, name: str) -> list[Path]:
    """Accuracies and differences of a comparison, each as CSV, Markdown and LaTeX; returns the files."""
    shots = comparison.shots
    head = ["method", *(shots_name(k) for k in shots)]
    rows, bold = [], set()
    for i, arm in enumerate(comparison.arms):
        cells = [marked(comparison, arm, k) for k in shots]
        rows.append([arm_name(arm), *(text for text, _ in cells)])
        bold |= {(i, j + 1) for j, (_, best) in enumerate(cells) if best}
    title = f"{comparison.title}: {caption(comparison)}. {MARKS}"
    files = _texts(folder, f"{name}-accuracy", title, head, rows, bold)
    files.append(_csv(folder / f"{name}-accuracy.csv", [row.to_json() for row in comparison.rows]))
    if comparison.differences:
        lines = [
            [role, f"{a} − {b}", *(_difference(by_shots.get(k)) for k in shots)]
            for (role, a, b), by_shots in grouped(comparison).items()
        ]
        head = ["what", "difference", *(shots_name(k) for k in shots)]
        files += _texts(folder, f"{name}-differences", f"{comparison.title}. {LEGEND}", head, lines, set())
        numbers = [d.to_json() for d in (*comparison.differences, *comparison.averaged)]
        files.append(_csv(folder / f"{name}-differences.csv", numbers))
    return files


def write_table(table: Table, folder: Path, name: str) -> list[Path]:
    """A table of an analysis as CSV (as it is shown), Markdown and LaTeX."""
    files = _texts(folder, name, table.caption, table.head, table.rows, set())
    files.append(_csv(folder / f"{name}.csv", [dict(zip(table.head, r, strict=True)) for r in table.rows]))
    return files


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A pipe table; its rows are Markdown already."""
    lines = [list(map(escapes.markdown, head)), ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def latex_table(
    title: str, head: Sequence[str], rows: Sequence[Sequence[str]], bold: set[tuple[int, int]]
) -> str:
    """A `table` environment that needs the package booktabs; `bold` are (row, column)."""

    def cell(i: int, j: int, text: str) -> str:
        return rf"\textbf{{{escapes.latex(text)}}}" if (i, j) in bold else escapes.latex(text)

    body = [" & ".join(cell(i, j, text) for j, text in enumerate(row)) + r" \\" for i, row in enumerate(rows)]
    return "\n".join(
        [
            r"\begin{table}", r"\centering", rf"\caption{{{escapes.latex(title)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", r"\toprule",
            " & ".join(map(escapes.latex, head)) + r" \\", r"\midrule", *body,
            r"\bottomrule", r"\end{tabular}", r"\end{table}", "",
        ]
    )  # fmt: skip


def _texts(
    folder: Path,
    name: str,
    title: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    bold: set[tuple[int, int]],
) -> list[Path]:
    pipes, typeset = folder / f"{name}.md", folder / f"{name}.tex"
    text = markdown_table(
        head,
        [
            [f"**{_starred(cell)}**" if (i, j) in bold else _starred(cell) for j, cell in enumerate(row)]
            for i, row in enumerate(rows)
        ],
    )
    write_atomic(pipes, f"{text}\n{_starred(title)}\n".encode())
    write_atomic(typeset, latex_table(title, head, rows, bold).encode())
    return [pipes, typeset]


def _csv(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writerow({name: escapes.csv_cell(name, name=True) for name in writer.fieldnames})
    writer.writerows(
        {
            k: escapes.csv_cell(json.dumps(v) if isinstance(v, list | dict) else v, name=column == 0)
            for column, (k, v) in enumerate(r.items())
        }
        for r in rows
    )
    write_atomic(path, text.getvalue().encode())
    return path


def _difference(difference: Any) -> str:
    return "–" if difference is None else f"{delta_text(difference)} {interval_text(difference)}".strip()


def _starred(text: str) -> str:
    return escapes.markdown(text).replace(" *", r" \*")
