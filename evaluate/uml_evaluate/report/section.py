"""The analyses of a run on its page of the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from uml_cache import InputError
from uml_evaluate.analyses import ON_NETWORKS, module_of
from uml_evaluate.analyses.finding import Finding, draw, findings
from uml_evaluate.analyses.part import HeadsPart, NetworksPart
from uml_evaluate.comparing.shown.figures import Drawn
from uml_evaluate.report.export import write_table
from uml_evaluate.report.page import Cell, PageTable

if TYPE_CHECKING:
    from uml_train import Run


@dataclass(frozen=True)
class ShownFinding:
    """A finding on the page, whether the run has changed since, and what is written beside the page."""

    finding: Finding
    anchor: str
    stale: bool
    drawn: Drawn | None
    tables: list[PageTable]
    files: list[Path]


def shown_findings(run: Run, auxiliaries: Sequence[str], folder: Path, prefix: str) -> list[ShownFinding]:
    """Everything that was analysed in a run with one configuration.

    Args:
        folder: of the page; figures go into `figures`, tables into `tables`.
        prefix: of the files' names.
    """
    return [
        _shown(finding, run, folder, prefix)
        for finding in findings(run.path)[0]
        if finding.auxiliaries == tuple(auxiliaries)
    ]


def _shown(finding: Finding, run: Run, folder: Path, prefix: str) -> ShownFinding:
    name = f"{prefix}{finding.name}"
    drawn = draw(finding, folder / "figures", prefix)
    files = [] if drawn is None else list(drawn.files)
    tables = []
    for i, table in enumerate(finding.tables):
        files += write_table(table, folder / "tables", f"{name}-{i + 1}")
        rows = [("control" if "[" in row[0] else "", [Cell(cell) for cell in row]) for row in table.rows]
        tables.append(PageTable(table.head, rows, table.caption))
    return ShownFinding(finding, name, _stale(finding, run), drawn, tables, files)


def _stale(finding: Finding, run: Run) -> bool:
    try:
        kind = NetworksPart if finding.analysis in ON_NETWORKS else HeadsPart
        protocol = finding.values.get("protocol")
        part = kind(run, auxiliaries=finding.auxiliaries or None, shots=finding.shots, protocol=protocol)
    except InputError:
        return True
    version = module_of(finding.analysis).VERSION
    return finding.key != part.key(finding.analysis, version, finding.options)
