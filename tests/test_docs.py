"""Every page runs: the README and all of docs/, each in a folder of its own, block by block."""

from __future__ import annotations

import importlib
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from test_three_lines import LINES

from pages import Larder, blocks, needs, put_birds, put_shapes, run_command, run_page

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
PAGES = sorted((ROOT / "docs").rglob("*.md"))
INSTALL = "python3 -m venv"
FOLDERS = "uml_cache|extract|train|evaluate|tests|data_manifests|docs|examples"
# Machines and repositories that no test has: `sh` is parsed only. Others are shown, and nothing happens.
LANGUAGES = {"bash", "python", "sh", "toml", "csv", "json", "text", "bibtex", "yaml"}


def _named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def _navigation() -> set[str]:
    """The pages that mkdocs.yml lists."""

    class Loader(yaml.SafeLoader):
        """mkdocs.yml names Python objects, which are not needed here."""

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)
    settings = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)
    found: set[str] = set()
    entries = [settings["nav"]]
    while entries:
        entry = entries.pop()
        if isinstance(entry, str):
            found.add(entry)
        else:
            entries += entry.values() if isinstance(entry, dict) else entry
    return found


def test_the_two_commands_are_what_ci_runs() -> None:
    installs = [line for line in README.splitlines() if line.startswith(INSTALL) and " -e " in line]
    assert len(installs) == 2
    assert installs[0].endswith("uml demo")
    assert installs[1].endswith("pytest")
    for line in installs:
        assert line in CI.splitlines()


def test_the_three_lines_are_those_of_their_test() -> None:
    assert "\n".join(LINES) in README


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_no_sentence_of_the_readme_is_long() -> None:
    prose = re.sub(r"```.*?```|<!--.*?-->", "", README, flags=re.DOTALL)
    items = re.split(r"\n\s*\n|\n(?=[-*] |\d+\. )", prose)
    items = [item for item in items if item.strip() and item.lstrip()[0] not in "|#<!["]
    items = [item for item in items if item.count("](") < 3]  # a list of links is no sentence
    items = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", re.sub(r"`[^`]*`", "code", item)) for item in items]
    sentences = [one for item in items for one in re.split(r"(?<=[.!?])\s+", item)]
    assert len(sentences) > 30
    assert not [one for one in sentences if len(re.findall(r"[\w%'’-]+", one)) > 30]


def test_the_site_lists_every_page() -> None:
    assert {page.relative_to(ROOT / "docs").as_posix() for page in PAGES} == _navigation()


def test_the_api_page_names_what_the_packages_offer() -> None:
    """Where it is defined, since the site cannot follow; and by its short name, as people import it."""
    names = re.findall(
        r"^::: (uml[\w.]+)$", (ROOT / "docs/reference/python.md").read_text("utf-8"), re.MULTILINE
    )
    assert names
    for name in names:
        module, _, short = name.rpartition(".")
        found = getattr(importlib.import_module(module), short)
        assert found.__module__ == module, name
        assert getattr(importlib.import_module(module.partition(".")[0]), short) is found, name


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES], ids=_named)
def test_files_and_links_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(rf"`((?:{FOLDERS})/[\w./-]+)`", text):
        assert (ROOT / name).exists(), name
    for link in re.findall(r"\]\((?!https?:)([^)#\s]+)", text):
        assert (page.parent / link).exists(), link
    assert {block.language for block in blocks(text)} <= LANGUAGES


def test_every_picture_has_the_script_that_draws_it_and_a_page_that_shows_it() -> None:
    folder = ROOT / "docs" / "pictures"
    pictures = sorted(path for path in folder.iterdir() if path.suffix in (".png", ".svg"))
    assert pictures
    for picture in pictures:
        own = picture.with_suffix(".py")
        if own.is_file():
            name = picture.name
        else:  # one script draws several: NAME.py draws NAME-….png
            own = own.with_stem(picture.stem.partition("-")[0])
            name = f"{own.stem}-*{picture.suffix}"
        script = own.read_text(encoding="utf-8")
        assert script.startswith(f'"""Draws {name}: ')
        assert f"python docs/pictures/{own.stem}.py" in script
        assert any(f"pictures/{picture.name})" in page.read_text(encoding="utf-8") for page in PAGES)
    elsewhere = [p for p in (ROOT / "docs").rglob("*.*g") if p.suffix in (".png", ".svg", ".jpg")]
    assert sorted(elsewhere) == pictures


@pytest.fixture(scope="session")
def larder(tmp_path_factory: pytest.TempPathFactory) -> Larder:
    return Larder(tmp_path_factory.mktemp("larder"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def _runs(text: str) -> bool:
    return any(block.language in ("bash", "python", "sh") for block in blocks(text))


@pytest.mark.parametrize(
    "page", [page for page in PAGES if _runs(page.read_text(encoding="utf-8"))], ids=_named
)
def test_a_page_runs(page: Path, folder: Path, larder: Larder) -> None:
    text = page.read_text(encoding="utf-8")
    larder.put(needs(text), folder)
    run_page(text, _named(page))


@pytest.mark.parametrize("name", ["arrays", "look-inside", "in-a-notebook"])
def test_a_notebook_is_its_page_run(name: str) -> None:
    """Its code is the page's, which the test above runs; `python docs/notebooks/make.py` makes it anew."""
    text = (ROOT / "docs" / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8")
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    code = ["".join(cell["source"]) for cell in cells]
    page = (ROOT / "docs" / "tutorials" / f"{name}.md").read_text(encoding="utf-8")
    wanted = [block.text.strip() for block in blocks(page) if block.language == "python"]
    assert code[-len(wanted) :] == wanted
    assert len(code) == len(wanted) + (name == "in-a-notebook")  # which draws its own data first
    assert all(cell["execution_count"] for cell in cells)
    assert name == "in-a-notebook" or "image/png" in text
    for place in ("/tmp/", "/home/", "/root/"):
        assert place not in text


def test_the_readme(folder: Path) -> None:
    put_birds(folder)
    put_shapes(folder)
    (folder / "photos").mkdir()
    for name, picture in (("a.png", "robin/3.png"), ("b.png", "canary/5.png")):
        shutil.copy(folder / "pictures" / picture, folder / "photos" / name)
    run_command(
        "uml extract --encoder hog-color"
    )  # the README's three lines with the encoder it offers instead
    kept = [block for block in blocks(README) if not block.text.startswith((INSTALL, LINES[0]))]
    run_page("\n".join(f"```{block.language}\n{block.text}```\n" for block in kept), "README.md")
    assert (folder / "runs" / "report.html").is_file()
    lines = (folder / "predictions.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("path,prediction,probability")
    assert [line.split(",")[0] for line in lines[1:]] == ["a.png", "b.png"]
