"""Every command and snippet of the README runs, in the README's order, as it stands there."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from test_three_lines import LINES

from uml_cache.cli import main
from uml_manifests import render_shapes

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", README, re.DOTALL)
COMMANDS = [line for kind, block in BLOCKS if kind == "bash" for line in block.strip().splitlines()]
INSTALLS = [line for line in COMMANDS if line.startswith("python3 -m venv")]
REST = [line for line in COMMANDS if line not in INSTALLS and line not in LINES]


def test_the_two_commands_are_what_ci_runs() -> None:
    assert len(INSTALLS) == 2
    assert INSTALLS[0].endswith("uml demo")
    assert INSTALLS[1].endswith("pytest")
    for line in INSTALLS:
        assert line in CI.splitlines()


def test_the_three_lines_are_those_of_their_test() -> None:
    assert "\n".join(LINES) in README


def test_files_named_in_the_readme_exist() -> None:
    names = re.findall(r"`((?:uml_cache|extract|train|evaluate|tests|data_manifests)/[\w./]+)`", README)
    assert names
    for name in names:
        assert (ROOT / name).exists(), name


def _birds(folder: Path) -> None:
    """Three classes of pictures in folders, and a CSV of sentences about them."""
    rng = np.random.default_rng(0)
    colours = {"robin": "firebrick", "canary": "gold", "bluebird": "royalblue"}
    for name, colour in colours.items():
        (folder / "pictures" / name).mkdir(parents=True)
        for i in range(24):
            picture = Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8))
            x, y = rng.integers(2, 16, 2)
            ImageDraw.Draw(picture).ellipse((x, y, x + 10, y + 10), fill=colour)
            picture.save(folder / "pictures" / name / f"{i}.png")
    with (folder / "descriptions.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "text", "label"])
        for name, colour in colours.items():
            table.writerows([f"{name}-{i}", f"a {colour} {name} {i}", name] for i in range(4))
    sentences = ["Two robins on a fence.", "A canary sings.", "One bluebird, or a robin?", "It rained."]
    (folder / "sentences.txt").write_text("\n".join(sentences))
    recipe, settings = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    (folder / "mine.toml").write_text(recipe)
    (folder / "birds.toml").write_text(settings)
    (folder / "finetune.toml").write_text(
        "lr = [0.001]\nsteps = 4\nwarmup = 1\neval_every = 2\nbatch_size = [6]\n"
    )


def _run(line: str) -> None:
    words = shlex.split(line, comments=True)
    assert words[0] == "uml", line
    with pytest.raises(SystemExit) as leaving:
        main([*words[1:], "--quiet"])
    assert leaving.value.code == 0, line


def test_commands_and_snippets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    _birds(tmp_path)
    render_shapes(tmp_path / "data" / "shapes", train=2, val=2, test=1, texts=2)
    _run("uml extract --encoder hog-color")  # the README's three lines with the encoder it offers instead
    shown = ""
    for kind, block in BLOCKS:
        if kind == "python":
            capsys.readouterr()
            exec(compile(block, "README.md", "exec"), {})
            shown += capsys.readouterr().out
        else:
            for line in block.strip().splitlines():
                if line in REST:
                    _run(line)
    assert (tmp_path / "runs" / "report.html").is_file()
    assert "hog-color" in shown
