"""Pages of the documentation, cut into the blocks that a test runs, and the small data that they are about.

A page may begin with `<!-- needs: NAME … -->`, which says what lies in its folder before its first block:

- `birds`: ./pictures (class folders), ./descriptions.csv, ./sentences.txt
- `shapes`: a small ./data/shapes, in the place where `uml extract` would draw a large one
- `stores`: `birds`, and ./feats with its pictures (`hog-color`) and descriptions (`hashed-ngrams`)
- `run`: `stores`, and a finished run on them in ./runs

Fences, by their first word: `bash` and `python` blocks run, in order, in the page's folder; `toml` and `csv`
blocks with `title="NAME"` become that file; `sh` blocks are for machines that a test has not: their `uml`
commands are parsed, so that a wrong option is found, and not run.
"""

from __future__ import annotations

import contextlib
import csv
import io
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from PIL import Image, ImageDraw

from uml_cache.cli import main, root
from uml_manifests import render_shapes

_FENCE = re.compile(r"^( *)```(\w+)([^\n]*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
_NEEDS = re.compile(r"<!-- needs: ([\w ]+) -->")
NEEDS = ("birds", "shapes", "stores", "run")
_RUN = "train --dataset birds --method unimodal,unimodal-deep,uml --texts 2 --shots 1,2 --seeds 1-3"
_EXTRACT = (
    "extract --encoder hog-color --data ./pictures --name birds --decode-workers 0",
    "extract --encoder hashed-ngrams --data ./descriptions.csv --name birds",
)


@dataclass(frozen=True)
class Block:
    """One fenced block: language, name of its file where it has a title, text, and the line it begins on."""

    language: str
    title: str | None
    text: str
    line: int


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, in order; a block that stands in a list or a note is dedented."""
    found = []
    for match in _FENCE.finditer(text):
        indent, language, rest, body = match.groups()
        title = re.search(r'title="([^"]+)"', rest)
        lines = [line.removeprefix(indent) for line in body.splitlines()]
        begins = text.count("\n", 0, match.start()) + 2
        found.append(Block(language, title and title[1], "\n".join(lines) + "\n", begins))
    return found


def needs(text: str) -> list[str]:
    """What a page says that its folder has to hold."""
    found = _NEEDS.search(text)
    return found[1].split() if found else []


def commands(block: Block) -> list[str]:
    """The lines of a block of the shell, those that end in a backslash joined, without comments."""
    joined = re.sub(r"\\\n\s*", " ", block.text)
    return [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def run_command(line: str) -> None:
    """Run one line that begins with `uml` in this process.

    Raises:
        AssertionError: it is no `uml` command, or it exits with another code than 0.
    """
    words = shlex.split(line, comments=True)
    assert words[0] == "uml", f"only `uml` commands run in a page: {line}"
    with pytest.raises(SystemExit) as leaving:
        main([*words[1:], "--quiet"])
    assert not leaving.value.code, f"exit {leaving.value.code}: {line}"


def parse_command(line: str) -> None:
    """Parse, and do not run, the `uml` command in a line of an `sh` block.

    Raises:
        AssertionError: an option or a command does not exist.
    """
    words = shlex.split(line, comments=True)
    if words[:2] == ["docker", "run"]:  # an image may have a tag
        words = [word.partition(":")[0] if word.startswith("uml:") else word for word in words]
    elif words[0] == "docker":
        return
    if "uml" not in words:
        return
    command: click.Command = root
    rest = words[words.index("uml") + 1 :]
    context = click.Context(command, info_name="uml")
    while isinstance(command, click.Group):
        found = command.get_command(context, rest[0])
        assert found is not None, f"no such command: {line}"
        command, rest = found, rest[1:]
        context = click.Context(command, info_name=command.name)
    try:
        command.make_context(command.name, rest)
    except click.ClickException as error:
        raise AssertionError(f"{line}: {error.format_message()}") from error


def run_page(text: str, name: str) -> str:
    """Run a page's blocks in the current folder; what its Python printed is returned.

    Raises:
        AssertionError: a block failed; the message says on which line of the page.
    """
    namespace: dict[str, Any] = {"__name__": "__main__"}
    printed = io.StringIO()
    for block in blocks(text):
        where = f"{name}:{block.line}"
        try:
            if block.language == "python":
                with contextlib.redirect_stdout(printed):
                    exec(compile("\n" * (block.line - 1) + block.text, name, "exec"), namespace)
            elif block.language == "bash":
                for line in commands(block):
                    run_command(line)
            elif block.language == "sh":
                for line in commands(block):
                    parse_command(line)
            elif block.title:
                path = Path(block.title)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text, encoding="utf-8")
        except Exception as error:
            raise AssertionError(f"{where}: {type(error).__name__}: {error}") from error
    return printed.getvalue()


def put_birds(folder: Path) -> None:
    """Three classes of pictures in folders, a CSV of sentences about them, and loose sentences."""
    rng = np.random.default_rng(0)
    colours = {"robin": "firebrick", "canary": "gold", "bluebird": "royalblue"}
    for name, colour in colours.items():
        (folder / "pictures" / name).mkdir(parents=True)
        for i in range(24):
            picture = Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8))
            x, y = rng.integers(2, 16, 2)
            ImageDraw.Draw(picture).ellipse((x, y, x + 10, y + 10), fill=colour)
            picture.save(folder / "pictures" / name / f"{i}.png")
    with (folder / "descriptions.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["id", "text", "label"])
        for name, colour in colours.items():
            table.writerows([f"{name}-{i}", f"a {colour} {name} {i}", name] for i in range(4))
    sentences = ["Two robins on a fence.", "A canary sings.", "One bluebird, or a robin?", "It rained."]
    (folder / "sentences.txt").write_text("\n".join(sentences), encoding="utf-8")


def put_shapes(folder: Path) -> None:
    """A small world of shapes where `uml extract` would draw its large one."""
    render_shapes(folder / "data" / "shapes", train=4, val=4, test=1, texts=2)


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    with contextlib.chdir(folder):
        yield


class Larder:
    """Folders with stores and a run, each made once and copied to the pages that need it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, what: list[str], into: Path) -> None:
        """Copy what a page needs into its folder.

        Raises:
            AssertionError: an unknown name.
        """
        for name in what:
            assert name in NEEDS, f"needs: {name} is none of {', '.join(NEEDS)}"
            if name == "shapes":
                put_shapes(into)
            else:
                shutil.copytree(self._made(name), into, dirs_exist_ok=True)

    def _made(self, name: str) -> Path:
        folder = self.folder / name
        if not folder.exists():
            folder.mkdir(parents=True)
            if name == "birds":
                put_birds(folder)
            else:
                before = "birds" if name == "stores" else "stores"
                shutil.copytree(self._made(before), folder, dirs_exist_ok=True)
                with _inside(folder):
                    for line in _EXTRACT if name == "stores" else (_RUN,):
                        run_command(f"uml {line}")
        return folder
