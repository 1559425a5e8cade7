"""The card of what is shared: what it is, in words, made from its record alone."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from uml_cache.errors import InputError
from uml_cache.escapes import terminal

CARD = "README.md"
_LICENCE = re.compile(r"[\w.+ -]{1,60}")


def card_text(
    *,
    title: str,
    what: str,
    rows: Sequence[tuple[str, str]],
    hub: Mapping[str, Any],
    licence: str | None,
    place: str,
    digest: str,
    sections: Sequence[tuple[str, str]] = (),
    after: str | None = None,
) -> str:
    """The card as Markdown, with the head that the Hugging Face hub reads.

    Args:
        title, rows: text of any kind; it means nothing to Markdown here.
        what: a sentence or two, in Markdown.
        hub: what the head says beside the licence.
        licence: an SPDX name such as `cc-by-4.0`; None: the card says that none was stated.
        sections: a heading and what stands below it, in Markdown.
        after: the command that uses what was pulled.

    Raises:
        InputError: the licence is no name of one.
    """
    if licence is not None and not _LICENCE.fullmatch(licence):
        raise InputError(f"{licence!r} is not the name of a licence; expected one such as cc-by-4.0")
    head = {**({} if licence is None else {"license": licence.lower()}), **hub}
    pull = f"uml pull {_word(place)} --digest {digest}"
    lines = [
        "---",
        *(f"{name}: {json.dumps(value)}" for name, value in head.items()),  # JSON is YAML
        "---",
        "",
        f"# {card_cell(title)}",
        "",
        f"{what} There is no code here.",
        "",
        "| What | Value |",
        "|---|---|",
        *(f"| {card_cell(name)} | {card_cell(value)} |" for name, value in rows),
        f"| Shared with | uml {version('uml-cache')} |",
        "",
    ]
    for heading, text in sections:
        lines += [f"## {heading}", "", text.rstrip(), ""]
    lines += [
        "## Take it",
        "",
        "Every file is checked on the way:",
        "",
        "```bash",
        pull,
        *([] if after is None else [after]),
        "```",
    ]
    return "\n".join(lines) + "\n"


def card_cell(text: str) -> str:
    """Text that means nothing to Markdown: names come from other people's data."""
    return re.sub(r"([\\`*_{}\[\]<>()#|!~&])", r"\\\1", terminal(" ".join(text.split())))


def card_code(text: str) -> str:
    """A block of code that nothing in the text can end."""
    shown = terminal(text).strip("\n")
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{shown}\n{fence}"


def _word(place: str) -> str:
    return shlex.quote(terminal(" ".join(place.split())))
