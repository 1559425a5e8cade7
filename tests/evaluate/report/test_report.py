"""The page refers to nothing outside itself, escapes what it is given, and says what the run was."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from uml_cache.command import Output
from uml_cache.errors import InputError
from uml_evaluate.report import html
from uml_evaluate.report.html import write_report
from uml_train import newest_run
from uml_train.commands import train as train_command

WriteRun = Callable[..., Path]
VOID = {"meta", "link", "br", "img", "path", "use", "rect", "line", "circle"}


class Page(HTMLParser):
    """Collects tags, texts, links and ids, and checks that elements close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self._open.append(tag)
        for name, value in attrs:
            if name in ("href", "src", "xlink:href", "data", "action", "srcset", "poster"):
                self.links.append(value or "")
            if name == "id" and value:
                self.ids.add(value)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style",):
            self.texts.append(data)


def report_of(path: Path, **keywords: object) -> tuple[str, Page]:
    keywords.setdefault("samples", False)  # what it shows of samples is test_exhibits' to test
    written = write_report(path, **keywords)  # type: ignore[arg-type]
    text = written.path.read_text(encoding="utf-8")
    return text, Page(text)


def test_nothing_is_fetched_and_links_lead_somewhere(write_run: WriteRun) -> None:
    text, page = report_of(write_run().parent, samples=True)
    links = [link for link in page.links if not link.startswith("data:")]
    assert links
    assert all(link.startswith("#") for link in links)
    assert {link[1:] for link in links} <= page.ids
    assert "http" not in text
    assert "@import" not in text
    assert "url(" not in text.replace("url(#", "")
    assert not {"script", "iframe", "link", "img", "object", "embed"} & set(page.tags)
    assert page.tags.count("svg") == 4
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text
    assert "currentColor" in text


def test_texts_are_escaped(write_run: WriteRun) -> None:
    path = write_run(dataset="<img src=x onerror=alert(1)> & co")
    text, page = report_of(path.parent)
    assert "<script>alert" not in text
    assert "<img" not in text
    shown = " ".join(page.texts)
    assert "<script>alert(1)</script>" in shown  # a class's name, as text
    assert "<img src=x onerror=alert(1)> & co: image ← text" in shown


def test_it_says_what_was_run_and_its_caveats(write_run: WriteRun) -> None:
    _, page = report_of(write_run().parent)
    shown = " ".join(page.texts)
    for said in (
        "toy, 4 classes",
        "80 train, 20 validation, 200 test",
        "image-enc",
        "text-enc",
        "0123456789abcdef",
        "grid quick, 1 candidates",
        "text has no sample of 1 classes",
        "door",
        "2 of 300 samples of image could not be read",
        "With 3 seeds intervals tend to be too narrow",
        "60.0 ± 0.0",
        "+10.0 *",
        "uml[permuted] − unimodal-deep",
        "unpaired text helps: +10.0 points",
    ):
        assert said in shown, said


def test_the_command_that_repeats_it_is_one_that_train_takes(write_run: WriteRun) -> None:
    _, page = report_of(write_run(shots=(1, 4)).parent)
    (command,) = [text for text in page.texts if text.startswith("uml train")]
    words = shlex.split(command)
    parameters = train_command.make_context("train", words[2:]).params
    assert parameters["shots"] == "1,4"
    assert parameters["seeds"] == "1,2,3"
    assert parameters["auxiliaries"] == ("text",)
    assert parameters["controls"] == "permuted,random"


def test_files_beside_it(write_run: WriteRun, tmp_path: Path) -> None:
    written = write_report(write_run().parent, out=tmp_path / "elsewhere" / "page.html")
    assert written.path == tmp_path / "elsewhere" / "page.html"
    names = [path.name for path in written.figures]
    assert names == [
        "toy-image-text-key.png",
        "toy-image-text-key.svg",
        "toy-image-text-accuracy.png",
        "toy-image-text-accuracy.svg",
        "toy-image-text-differences.png",
        "toy-image-text-differences.svg",
        "toy-image-text-confusion.png",
        "toy-image-text-confusion.svg",
    ]
    assert {path.parent for path in written.figures} == {tmp_path / "elsewhere" / "figures"}
    with Image.open(written.figures[0]) as image:
        assert min(image.size) > 500
    assert written.figures[1].read_text(encoding="utf-8").startswith("<?xml")
    assert "| `uml` |" in written.markdown.read_text(encoding="utf-8")


def test_the_same_runs_give_the_same_page(write_run: WriteRun) -> None:
    runs = write_run().parent
    first = write_report(runs, samples=False).path.read_bytes()
    assert write_report(runs, samples=False).path.read_bytes() == first


def test_several_runs_newest_first_and_across_data_sets(write_run: WriteRun) -> None:
    for i, name in enumerate(("a", "b", "c")):
        path = write_run(
            f"{name}-image-0", dataset=name, created=f"2026-01-0{i + 1}T00:00:00+00:00", shots=(4,)
        )
    text, page = report_of(path.parent)
    assert text.index('id="c-image-0-c-image-text"') < text.index('id="a-image-0-a-image-text"')
    assert "Across data sets" in page.texts
    assert "a, b, c" in page.texts
    assert len(page.ids) == len([i for i in page.ids if text.count(f'id="{i}"') >= 1])


def test_a_page_of_many_runs_has_a_row_of_each(write_run: WriteRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "_MANY", 2)
    for i in range(3):
        path = write_run(f"toy-image-{i:08x}", shots=(4,), created=f"2026-01-{i + 1:02}T00:00:00+00:00")
    text, page = report_of(path.parent, samples=False)
    assert all(f"k = 4; 3 seeds; toy-image-{i:08x}" in page.texts for i in range(3))
    assert page.texts.count("+10.0 *") >= 3
    assert "<figure>" not in text
    assert write_report(path.parent).figures == []
    full, _ = report_of(path.parent, full=True, samples=False)
    assert full.count("<figure>") >= 6
    assert 'id="toy-image-00000002-toy-image-text"' in full


def test_a_run_without_cells_is_left_out_and_said(
    write_run: WriteRun, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = write_run().parent
    write_run("toy-image-00000009", skip=lambda cell: True)
    written = write_report(runs, output=Output(), samples=False)
    assert [path.name for path in written.runs] == ["toy-image-00000001"]
    assert "toy-image-00000009 has no finished cell" in capsys.readouterr().err


def test_one_run_folder_is_taken_too(write_run: WriteRun) -> None:
    path = write_run()
    assert write_report(path, samples=False).path == path / "report.html"


def test_unimodal_runs_have_a_page(write_run: WriteRun) -> None:
    path = write_run(accuracy={("unimodal", None): 0.4}, configurations=[], seeds=(1,))
    _, page = report_of(path.parent)
    shown = " ".join(page.texts)
    assert "nothing was trained both with and without" in shown
    assert "With 1 seed no interval" in shown
    assert page.tags.count("svg") == 2  # the short picture and the whole one, no differences


def test_wrong_input_is_one_clear_line(write_run: WriteRun, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist; make one with `uml train"):
        write_report(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no run"):
        write_report(tmp_path / "empty")
    path = write_run(skip=lambda cell: True)
    with pytest.raises(InputError, match=r"no run in .* has a finished cell"):
        write_report(path.parent)
    path = write_run("toy-image-00000002")
    with pytest.raises(InputError, match="is a folder; name the HTML file"):
        write_report(path, out=tmp_path)
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    del config["stores"]
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InputError, match=r"config.json is damaged .*stores"):
        write_report(path)
    (path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="is damaged"):
        write_report(path)


def test_one_damaged_run_does_not_stop_the_others(
    write_run: WriteRun, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_run()
    damaged, contradicted = write_run("toy-image-00000002"), write_run("toy-image-00000003")
    (damaged / "config.json").write_text("{", encoding="utf-8")
    victim = next((contradicted / "predictions").iterdir())
    np.save(victim, np.zeros(200, np.int32))
    written = write_report(path.parent, output=Output(), samples=False)
    assert written.runs == [path]
    said = capsys.readouterr().err
    text = written.path.read_text(encoding="utf-8")
    for what in (str(damaged / "config.json"), f"{contradicted}/cells/{victim.stem}.json"):
        assert f"A run is left out: {what}" in said
        assert f"A run is left out: {what}" in text
    with pytest.raises(InputError, match=r"config.json is damaged .*name the folder of another"):
        newest_run(path.parent)


def test_what_became_of_the_stores_stands_on_the_page(write_run: WriteRun) -> None:
    text = write_report(write_run().parent, samples=False).path.read_text(encoding="utf-8")
    assert "was made by version 0.1: its files carry no checksums" in text
    assert "the stores of image and text are not where" in text
