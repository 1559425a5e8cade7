"""Names are harmless wherever they are written: terminals, JSON, CSV, Markdown, LaTeX, HTML, SVG."""

from __future__ import annotations

import csv
import io
import json
import sys
import unicodedata
from xml.dom.minidom import parseString

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from uml_cache import escapes
from uml_cache.command import Output

NAMES = st.text(
    st.one_of(st.characters(), st.sampled_from("\x1b\x07\x9b\r\n\t=+-@<>&|[]()!$\\{}_#\u202e\u2028\udc9b\0")),
    max_size=40,
)


@given(NAMES)
@example("\x1b]0;title\x07\x1b[2J\x9b31m")
def test_nothing_that_a_terminal_obeys_is_left(name: str) -> None:
    shown = escapes.terminal(name)
    assert not any(
        unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in shown if letter not in "\n\t"
    )
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    plain = "".join(letter for letter in name if letter.isascii() and letter.isprintable())
    assert escapes.terminal(plain) == plain


@given(NAMES)
def test_json_on_a_terminal_is_the_same_document(name: str) -> None:
    text = escapes.json_text(json.dumps({"name": name}, ensure_ascii=False))
    assert json.loads(text) == {"name": name}
    assert "\x1b" not in text
    assert "\x9b" not in text


@given(NAMES)
@example('=HYPERLINK("http://x","y")')
@example("+1")
@example("\t=1")
def test_no_cell_is_a_formula(name: str) -> None:
    cell = escapes.csv_cell(name, name=True)
    assert isinstance(cell, str)
    stream = io.StringIO()
    csv.writer(stream).writerow([cell])
    assert stream.getvalue().lstrip('"')[:1] not in tuple("=+-@\t")
    assert escapes.csv_cell(1.5) == 1.5
    assert escapes.csv_cell("-2.5 *") == "-2.5 *"
    assert escapes.csv_cell("+5.2") == "+5.2"
    assert escapes.csv_cell("-2+3") == "'-2+3"


@given(NAMES)
@example("<script>alert(1)</script>")
@example("![x](http://evil)")
def test_markdown_holds_no_tag_no_link_and_no_further_cell(name: str) -> None:
    text = escapes.markdown(name)
    assert "\n" not in text
    assert "](" not in text
    assert "|" not in text.replace(r"\|", "")
    assert not any(f"<{letter}" in text for letter in "abcxyzABCXYZ/!?")
    assert escapes.markdown("p < 0.05, [3.1, 7.4]") == "p < 0.05, [3.1, 7.4]"


@given(NAMES)
def test_markup_is_well_formed(name: str) -> None:
    text = escapes.html(name)
    parseString(f'<p title="{text}">{text}</p>'.encode("utf-8", "surrogatepass"))
    parseString(f"<p>{escapes.xml('x' + name.replace('<', '').replace('&', ''))}</p>")


@given(NAMES)
def test_latex_runs_no_command(name: str) -> None:
    text = escapes.latex(name.replace("\n", " "))
    known = ("text", "pm", "leftarrow", "approx", "cdot", "times")
    for word in text.split("\\")[1:]:
        assert word.startswith((*known, "{", "}", "&", "%", "$", "#", "_", '"o')), word


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "cp437", "utf-8"])
def test_any_console_gets_its_tables_and_its_json(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors=escapes.ERRORS)
    monkeypatch.setattr(sys, "stdout", stream)
    value = {"name": "naïve − “größer” 类 → 😀 \udcff \x9b"}
    Output().result(value, "5.2 − 3.1 → 类 ± × … \udcff")
    Output(json=True).result(value, "")
    stream.flush()
    table, document = (
        raw.getvalue().decode("utf-8" if encoding == "ascii" else encoding, "replace").splitlines()
    )
    assert table.startswith(("5.2 - 3.1 -> ", "5.2 − 3.1 → ")) or encoding == "cp437"
    assert json.loads(document) == value
