"""The Dockerfile, as far as it can be checked without a daemon: what it copies, installs and runs exists."""

from __future__ import annotations

import fnmatch
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from uml_cache.cli import root

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
KNOWN = {"FROM", "ARG", "ENV", "RUN", "COPY", "WORKDIR", "ENTRYPOINT", "CMD"}


def instructions() -> list[tuple[str, str]]:
    """Each instruction and its words, continued lines joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in joined.splitlines() if line.strip()]


def of(kind: str) -> list[str]:
    return [words for name, words in instructions() if name == kind]


def test_instructions_are_known_and_shell_lines_parse() -> None:
    names = [name for name, _ in instructions()]
    assert names[0] == "FROM"
    assert set(names) <= KNOWN
    shell = shutil.which("sh")
    assert shell is not None
    for line in of("RUN"):
        assert subprocess.run([shell, "-n", "-c", line], check=False).returncode == 0, line


def test_python_is_one_that_the_project_takes() -> None:
    (base,) = of("FROM")
    version = re.fullmatch(r"python:(\d+)\.(\d+)-slim", base)
    assert version is not None
    least = re.search(r">=(\d+)\.(\d+)", PROJECT["project"]["requires-python"])
    assert least is not None
    assert tuple(map(int, version.groups())) >= tuple(map(int, least.groups()))


def test_what_is_copied_is_there_and_is_all_that_the_package_needs() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    copied = {source for words in of("COPY") for source in words.split()[:-1]}
    assert copied <= allowed
    for source in copied:
        assert (ROOT / source).exists(), source
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    needed = {package.split("/")[0] for package in wheel}
    needed |= {"pyproject.toml", PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]}
    assert needed <= copied
    assert not any(fnmatch.fnmatch(".git", pattern) for pattern in allowed)


def test_extras_and_commands_exist() -> None:
    installed = re.findall(r"'/src\[([\w,]+)\]'", " ".join(of("RUN")))
    assert installed
    assert set(installed[0].split(",")) <= set(PROJECT["project"]["optional-dependencies"])
    assert of("ENTRYPOINT") == ['["uml"]']
    assert of("CMD") == ['["--help"]']
    assert "uml" in PROJECT["project"]["scripts"]


@pytest.mark.parametrize("device", ["cpu", "cuda", "tpu"])
def test_the_device_decides_which_torch(device: str, tmp_path: Path) -> None:
    """The line that installs torch, run with a `pip` that says what it was asked for."""
    (line,) = [line for line in of("RUN") if "torchvision" in line]
    pip = tmp_path / "pip"
    pip.write_text('#!/bin/sh\necho "pip $@"\n')
    pip.chmod(0o755)
    environment = {"DEVICE": device, "PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(
        ["/bin/sh", "-c", line], env=environment, capture_output=True, text=True, check=False
    )
    asked = shlex.split(done.stdout)
    if device == "tpu":
        assert (done.returncode, asked) == (1, [])
        assert "must be cpu or cuda" in done.stderr
        return
    assert asked[:4] == ["pip", "install", "torch", "torchvision"]
    assert ("https://download.pytorch.org/whl/cpu" in asked) == (device == "cpu")


def test_the_readme_says_the_same_line_for_cpus() -> None:
    line = "pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu"
    for name in ("README.md", "docs/how-to/install.md", "Dockerfile"):
        assert line in (ROOT / name).read_text(encoding="utf-8"), name


def test_commands_that_the_page_shows_are_commands() -> None:
    text = (ROOT / "docs/how-to/install.md").read_text(encoding="utf-8")
    shown = re.findall(r"docker run .* uml(?::cuda)? (\w+)", text)
    assert shown
    assert set(shown) <= set(root.commands) | set(PROJECT["project"]["entry-points"]["uml.commands"])
