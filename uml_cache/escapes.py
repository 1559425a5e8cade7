"""Names of data sets, classes and files, made harmless where they are written out.

A name may hold anything that a file holds: escape sequences, markup, formulas. Each place where it is shown
has its own danger, and one function here.
"""

from __future__ import annotations

import codecs
import html as _html
import re

# C0 but for tab and newline, DEL, C1, line separators, marks that turn the direction of the text, surrogates
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_NUMBER = re.compile(r"[+-]?[0-9.]+([eE][+-]?[0-9]+)?( ?[%*])*")
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#",
    "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": "$-$",
    "←": r"$\leftarrow$", "≈": r"$\approx$", "<": r"\textless{}", ">": r"\textgreater{}", "·": r"$\cdot$",
    "–": "--", "×": r"$\times$", "ö": r"\"o", "’": "'",
}  # fmt: skip
_PLAIN = str.maketrans(
    {"−": "-", "–": "-", "—": "-", "×": "x", "→": "->", "←": "<-", "…": "...", "≥": ">=", "≤": "<=",
     "≈": "~", "±": "+-", "’": "'", "·": "."}
)  # fmt: skip
ERRORS = "uml_plain"
"""What a stream's `errors` is called that has no sign for everything: see `_plain_signs`."""


def terminal(text: str) -> str:
    """For people at a terminal: nothing moves the cursor, changes the window or turns the text round."""
    return _CONTROL.sub(lambda found: _code(found[0]), text)


def json_text(text: str) -> str:
    """A JSON document for a terminal: the same one, what `terminal` would change written as `\\uXXXX`."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def csv_cell(value: object, *, name: bool = False) -> object:
    """A cell of a table that spreadsheets open: none of them takes it for a formula.

    Numbers stay; with `name` (a column of names) also what merely looks like one is text.
    """
    if not isinstance(value, str):
        return value
    text = terminal(value).replace("\n", " ").replace("\t", " ")
    if text[:1] in tuple("=+-@") and (name or not _NUMBER.fullmatch(text)):
        return f"'{text}"
    return text


def markdown(text: str) -> str:
    """Text in Markdown, also in a cell of a table: no tags, no links, no further cells or lines."""
    text = terminal(text).replace("\n", " ").replace("|", r"\|").replace("](", r"]\(")
    return _TAG.sub("&lt;", text)


def latex(text: str) -> str:
    """Text in LaTeX."""
    return "".join(_LATEX.get(letter, letter) for letter in terminal(text).replace("\n", " "))


def html(text: str) -> str:
    """Text in HTML, between tags or in quotes."""
    return _html.escape(xml(text))


def xml(markup: str) -> str:
    """Markup without the characters that XML cannot hold."""
    return _NO_XML.sub("\ufffd", markup)


def _code(letter: str) -> str:
    number = ord(letter)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


def _plain_signs(error: UnicodeError) -> tuple[str, int]:
    """Signs that a stream's encoding lacks: a plain one that looks like them, else their number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    bad = error.object[error.start : error.end]
    plain = "".join(_PLAIN.get(ord(letter), letter) for letter in bad)  # type: ignore[call-overload]
    return plain.encode("ascii", "backslashreplace").decode(), error.end


codecs.register_error(ERRORS, _plain_signs)
