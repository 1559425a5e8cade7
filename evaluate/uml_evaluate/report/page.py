"""The report's page: what stands in its tables, and the template that it is made with.

The template escapes every text that goes in, but for drawings (SVG), which `figures` makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from uml_cache import escapes


@dataclass(frozen=True)
class Cell:
    """A table cell: its text, a second line in small print, a CSS class (`text`, `shown`, `wrap`), and the
    heading on the same page that it leads to."""

    text: str
    small: str = ""
    kind: str = ""
    anchor: str = ""


@dataclass(frozen=True)
class PageTable:
    """A table of at least one row; a row is its CSS class (`control` or none) and its cells, the first of
    them the row's head."""

    head: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    caption: str = ""

    def is_text(self, column: int) -> bool:
        """Whether a column holds text, which its first cell says."""
        return column == 0 or self.rows[0][1][column].kind in ("text", "wrap")


def page(**content: Any) -> str:
    """The whole document with its style inside; it refers to nothing outside itself."""
    here = files("uml_evaluate.report")
    environment = Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=_printable,
    )
    template = environment.from_string(here.joinpath("report.html.j2").read_text(encoding="utf-8"))
    return template.render(style=here.joinpath("report.css").read_text(encoding="utf-8"), **content)


def _printable(value: Any) -> Any:
    return escapes.xml(value) if isinstance(value, str) and not isinstance(value, Markup) else value
