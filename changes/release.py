"""Collects the news fragments of this folder into CHANGELOG.md; see README.md beside it."""

from __future__ import annotations

import argparse
import datetime
import re
import textwrap
from pathlib import Path

HERE = Path(__file__).parent
CHANGELOG = HERE.parent / "CHANGELOG.md"
KINDS = ("added", "changed", "fixed", "removed")
WIDTH = 120
_NAME = re.compile(rf"[a-z0-9]+(?:-[a-z0-9]+)*\.({'|'.join(KINDS)})\.md")
_UNRELEASED = "## [Unreleased]"
_POINTER = "Further changes stand in `changes/`, a file each, until the next release collects them here."


def fragments(folder: Path) -> list[Path]:
    """The fragments of a folder, by name."""
    return sorted(path for path in folder.glob("*.md") if path.name != "README.md")


def problems(path: Path) -> list[str]:
    """What is wrong with a fragment; empty where it is as README.md wants it."""
    text = path.read_text(encoding="utf-8").strip()
    found = (
        [] if _NAME.fullmatch(path.name) else [f"its name is no NAME.KIND.md, KIND one of {', '.join(KINDS)}"]
    )
    if not re.match(r"[A-Z`]", text):
        found.append("it does not begin with a capital letter or with code")
    if not text.endswith("."):
        found.append("it does not end with a full stop")
    if "\n\n" in text or len(text.split()) > 80:
        found.append("it is longer than a paragraph of 80 words")
    return found


def collected(folder: Path) -> dict[str, list[str]]:
    """The bullet points of each kind that has some, in the order of `KINDS`."""
    points: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for path in fragments(folder):
        text = " ".join(path.read_text(encoding="utf-8").split())
        kind = path.name.split(".")[-2]
        points[kind].append(textwrap.fill(text, WIDTH, initial_indent="- ", subsequent_indent="  "))
    return {kind: found for kind, found in points.items() if found}


def merged(body: str, points: dict[str, list[str]]) -> str:
    """The text under a version's heading, with further points below the headings of their kinds."""
    parts = re.split(r"^### (\w+)\n", body.strip(), flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], (part.strip() for part in parts[2::2]), strict=True))
    for kind, found in points.items():
        title = kind.capitalize()
        sections[title] = "\n".join([*([sections[title]] if sections.get(title) else []), *found])
    texts = [parts[0].strip(), *(f"### {title}\n\n{text}" for title, text in sections.items())]
    return "\n\n".join(text for text in texts if text)


def released(changelog: str, points: dict[str, list[str]], version: str, date: str) -> str:
    """The changelog with a section for `version`, made of what stood under Unreleased and of the fragments.

    Raises:
        ValueError: it has no section Unreleased, one of this version already, or there is nothing to release.
    """
    if f"## [{version}]" in changelog:
        raise ValueError(f"CHANGELOG.md has a section {version} already")
    head, mark, rest = changelog.partition(_UNRELEASED)
    if not mark:
        raise ValueError(f"CHANGELOG.md has no section {_UNRELEASED}")
    body, older, tail = rest.partition("\n## [")
    text = merged(body.replace(_POINTER, ""), points)
    if not text:
        raise ValueError("there is nothing to release: no fragment, and nothing under Unreleased")
    return f"{head}{mark}\n\n{_POINTER}\n\n## [{version}] - {date}\n\n{text}\n{older}{tail}"


def main() -> None:
    """Write the section and delete the fragments, or show it with --draft."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", nargs="?", help="of the release, such as 0.2.0")
    parser.add_argument("--date", default=datetime.date.today().isoformat(), help="default: today")
    parser.add_argument("--draft", action="store_true", help="show the next section and change nothing")
    options = parser.parse_args()
    if not options.draft and options.version is None:
        parser.error("which version? give it, or --draft")
    wrong = [f"{path.name}: {problem}" for path in fragments(HERE) for problem in problems(path)]
    if wrong:
        parser.error("; ".join(wrong))
    text = CHANGELOG.read_text(encoding="utf-8")
    try:
        text = released(text, collected(HERE), options.version or "next", options.date)
    except ValueError as error:
        parser.error(str(error))
    if options.draft:
        print("## [" + text.split("\n## [")[2])
        return
    CHANGELOG.write_text(text, encoding="utf-8")
    for path in fragments(HERE):
        path.unlink()


if __name__ == "__main__":
    main()
