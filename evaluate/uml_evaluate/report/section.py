"""The analyses of a run on its page of the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from uml_cache import InputError
from uml_evaluate.analyses import module_of
from uml_evaluate.analyses.finding import Finding, findings
from uml_evaluate.analyses.reading import Reading
from uml_evaluate.analyses.running import draw
from uml_evaluate.report import page
from uml_evaluate.report.export import write_table
from uml_evaluate.report.page import Cell

if TYPE_CHECKING:
    from uml_train import Run

_OPEN_ROWS = 12  # a longer table opens on a click
_STALE = "The run has changed since this was computed; the command below computes it again."


def analyses_section(
    run: Run, auxiliaries: Sequence[str], folder: Path, prefix: str
) -> tuple[list[str], list[Path]]:
    """Everything that was analysed in a run with one configuration: HTML, and the files beside the page.

    Args:
        folder: of the page; figures go into `figures`, tables into `tables`.
        prefix: of the files' names.
    """
    html: list[str] = []
    files: list[Path] = []
    for finding in findings(run.path):
        if finding.auxiliaries == tuple(auxiliaries):
            parts, written = _finding(finding, run, folder, prefix)
            html += parts
            files += written
    return html, files


def _finding(finding: Finding, run: Run, folder: Path, prefix: str) -> tuple[list[str], list[Path]]:
    files: list[Path] = []
    html = [
        page.heading(4, f"{finding.title} (paper {finding.paper})", f"{prefix}{finding.name}"),
        *(page.paragraph(text) for text in finding.said),
    ]
    if _stale(finding, run):
        html.append(page.paragraph(_STALE, "finding"))
    if (drawn := draw(finding, folder / "figures", prefix)) is not None:
        html.append(page.figure(drawn.svg_html, finding.caption))
        files += drawn.files
    for i, table in enumerate(finding.tables):
        files += write_table(table, folder / "tables", f"{prefix}{finding.name}-{i + 1}")
        rows = [("control" if "[" in row[0] else "", [Cell(cell) for cell in row]) for row in table.rows]
        shown = page.table(table.head, rows, caption=table.caption)
        html.append(page.folded(table.caption, [shown]) if len(rows) > _OPEN_ROWS else shown)
    html += [page.bullets(finding.notes, "soft"), page.code_block(finding.command)]
    return html, files


def _stale(finding: Finding, run: Run) -> bool:
    try:
        reading = Reading(run, auxiliaries=finding.auxiliaries or None, shots=finding.shots)
    except InputError:
        return True
    version = module_of(finding.analysis).VERSION
    return finding.key != reading.key(finding.analysis, version, finding.options)
