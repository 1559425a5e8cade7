"""The few pieces of HTML that a report is made of. Every text that goes in is escaped here.

A function that takes `html` takes markup made by this module; everything else is text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files

from uml_cache import escapes


@dataclass(frozen=True)
class Cell:
    """A table cell: its text, a second line in small print, a CSS class (`text`, `shown`, `wrap`), and the
    heading on the same page that it leads to."""

    text: str
    small: str = ""
    kind: str = ""
    anchor: str = ""


def page(title: str, html: Iterable[str]) -> str:
    """A whole document with its style inside; it refers to nothing outside itself."""
    style = files("uml_evaluate.report").joinpath("report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escapes.html(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + "\n".join(html)
        + "\n</body>\n</html>\n"
    )


def heading(level: int, text: str, anchor: str = "") -> str:
    """`<h1>` … `<h6>`."""
    mark = f' id="{escapes.html(anchor)}"' if anchor else ""
    return f"<h{level}{mark}>{escapes.html(text)}</h{level}>"


def paragraph(text: str, kind: str = "") -> str:
    """`<p>`, of a CSS class (`soft`, `finding`)."""
    mark = f' class="{kind}"' if kind else ""
    return f"<p{mark}>{escapes.html(text)}</p>"


def code_block(text: str) -> str:
    """Text as typed at a terminal."""
    return f"<pre>{escapes.html(text)}</pre>"


def bullets(items: Iterable[str], kind: str = "") -> str:
    """An unordered list; empty for no items."""
    lines = "".join(f"<li>{escapes.html(item)}</li>" for item in items)
    return f'<ul class="{kind}">{lines}</ul>' if lines else ""


def definitions(pairs: Iterable[tuple[str, str]]) -> str:
    """Names with what they are."""
    return (
        "<dl>" + "".join(f"<dt>{escapes.html(k)}</dt><dd>{escapes.html(v)}</dd>" for k, v in pairs) + "</dl>"
    )


def folded(summary: str, html: Iterable[str]) -> str:
    """Content that opens on a click."""
    return f"<details><summary>{escapes.html(summary)}</summary>{''.join(html)}</details>"


def table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[Cell]]], *, caption: str = "") -> str:
    """A table of at least one row; a row is its CSS class (`control` or none) and its cells, the first of
    them the row's head. Columns of text are those whose first cell is."""
    left = [i == 0 or cell.kind in ("text", "wrap") for i, cell in enumerate(rows[0][1])]
    columns = "".join(
        f'<th scope="col"{" class=text" if is_text else ""}>{escapes.html(name)}</th>'
        for name, is_text in zip(head, left, strict=True)
    )
    body = []
    for kind, cells in rows:
        mark = f' class="{kind}"' if kind else ""
        inner = "".join(_cell(cell, head=i == 0) for i, cell in enumerate(cells))
        body.append(f"<tr{mark}>{inner}</tr>")
    title = f"<caption>{escapes.html(caption)}</caption>" if caption else ""
    return (
        f'<div class="wide"><table>{title}<thead><tr>{columns}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def figure(svg_html: str, caption: str) -> str:
    """A drawing with its caption."""
    return (
        f'<figure><div class="wide">{svg_html}</div><figcaption>{escapes.html(caption)}</figcaption></figure>'
    )


def _cell(cell: Cell, *, head: bool) -> str:
    text = escapes.html(cell.text)
    if cell.anchor:
        text = f'<a href="#{escapes.html(cell.anchor)}">{text}</a>'
    small = f"<small>{escapes.html(cell.small)}</small>" if cell.small else ""
    mark = f' class="{cell.kind}"' if cell.kind else ""
    if head:
        return f'<th scope="row"{mark}>{text}{small}</th>'
    return f"<td{mark}>{text}{small}</td>"
