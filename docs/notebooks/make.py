"""Make the notebooks from pages: prose becomes text cells, Python blocks cells with what they print and draw.

    python docs/notebooks/make.py

A page is the source; its blocks are run by the tests. Run this again after a page has changed.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
import re
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

DOCS = Path(__file__).resolve().parents[1]
PAGES = {"arrays": None, "look-inside": None, "in-a-notebook": "birds"}
_BLOCK = re.compile(r"```python\n(.*?)```\n?", re.DOTALL)
_DRAW = """# The data of this notebook: three kinds of drawn birds, and sentences about them.
import csv
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

rng = np.random.default_rng(0)
colours = {"robin": "firebrick", "canary": "gold", "bluebird": "royalblue"}
for name, colour in colours.items():
    Path("pictures", name).mkdir(parents=True, exist_ok=True)
    for i in range(24):
        picture = Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8))
        x, y = rng.integers(2, 16, 2)
        ImageDraw.Draw(picture).ellipse((x, y, x + 10, y + 10), fill=colour)
        picture.save(Path("pictures", name, f"{i}.png"))
with open("descriptions.csv", "w", newline="", encoding="utf-8") as file:
    table = csv.writer(file)
    table.writerow(["id", "text", "label"])
    for name, colour in colours.items():
        table.writerows([f"{name}-{i}", f"a {colour} {name} {i}", name] for i in range(4))
"""


def main() -> None:
    for name, needs in PAGES.items():
        text = (DOCS / "tutorials" / f"{name}.md").read_text(encoding="utf-8")
        cells = notebook_cells(text, needs)
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            _run(cells)
        _write(DOCS / "notebooks" / f"{name}.ipynb", cells)
        print(f"docs/notebooks/{name}.ipynb", file=sys.stderr)


def notebook_cells(page: str, needs: str | None) -> list[dict[str, Any]]:
    """The cells of a page, not run yet; links go to the pages beside it."""
    page = re.sub(r"<!--.*?-->\n", "", page)
    page = re.sub(r"^This page is also a \[notebook\].*\n\n?", "", page, flags=re.MULTILINE)
    page = re.sub(
        r"\]\((?!https?:)([^)]+)\)", lambda m: f"]({os.path.normpath(f'../tutorials/{m[1]}')})", page
    )
    cells = [_code(_DRAW)] if needs == "birds" else []
    at = 0
    for block in _BLOCK.finditer(page):
        cells += _prose(page[at : block.start()])
        cells.append(_code(block[1]))
        at = block.end()
    return [*cells, *_prose(page[at:])]


def _prose(text: str) -> list[dict[str, Any]]:
    text = text.strip()
    return [{"cell_type": "markdown", "metadata": {}, "source": _lines(text)}] if text else []


def _code(text: str) -> dict[str, Any]:
    source = _lines(text.strip())
    return {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": source}


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def _run(cells: list[dict[str, Any]]) -> None:
    """Run the code cells in the current folder; each gets its outputs."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate((cell for cell in cells if cell["cell_type"] == "code"), 1):
        printed = io.StringIO()
        tree = ast.parse("".join(cell["source"]))
        with (
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(action="ignore"),
        ):
            exec(compile(tree, "cell", "exec"), namespace)
        cell["execution_count"] = number
        if printed.getvalue():
            text = printed.getvalue().replace(os.getcwd() + os.sep, "")
            cell["outputs"].append({"name": "stdout", "output_type": "stream", "text": _lines(text)})
        for figure in map(plt.figure, plt.get_fignums()):
            stream = io.BytesIO()
            figure.savefig(stream, dpi=90, metadata={"Software": None})
            data = {"image/png": base64.b64encode(stream.getvalue()).decode(), "text/plain": ["a figure"]}
            cell["outputs"].append({"data": data, "metadata": {}, "output_type": "display_data"})
        plt.close("all")


def _write(path: Path, cells: list[dict[str, Any]]) -> None:
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {
        "cells": cells,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
