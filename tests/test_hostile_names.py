"""Names, stores and machines that are not as they should be: the work goes on, or one line says why not."""

from __future__ import annotations

import csv
import errno
import json
import shutil
from pathlib import Path
from typing import Any
from xml.dom.minidom import parse

import numpy as np
import pytest

from toy_stores import clusters, write_store
from uml_cache import InputError, Remark, find_stores
from uml_cache.cli import main
from uml_extract.executors.slurm import script_text

NAMES = (
    '=HYPERLINK("http://x","y")',
    "<script>alert(1)</script>",
    "<img src=x onerror=a>",
    "\x1b]0;pwned\x07\x1b[2J",
    "+1",
    "$a$b_{",
)


def _run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as leaving:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return int(leaving.value.code or 0), printed.out, printed.err


def _cache(folder: Path, classes: tuple[str, ...], dataset: str = "toy") -> None:
    labels = np.tile(np.arange(len(classes)), 30)
    splits = np.repeat([0, 1, 2], len(labels) // 3)
    values = clusters(1, labels, 6, 0.7)
    write_store(folder, "image", values, labels, splits, classes=classes, dataset=dataset)
    words = np.tile(np.arange(len(classes)), 6)
    texts = clusters(2, words, 8, 0.5)
    write_store(folder, "text", texts, words, np.full(len(words), 255), classes=classes, dataset=dataset)


def test_names_reach_no_table_figure_or_terminal_raw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _cache(tmp_path / "feats", NAMES, "toy <b>")
    (tmp_path / "g.toml").write_text("lr = [0.01]\nsteps = 10\n")
    _run(
        capsys,
        *[
            "train",
            "--cache",
            "feats",
            "--method",
            "unimodal-deep,uml",
            "--shots",
            "2",
            "--seeds",
            "1-3",
            "--grid",
            "g.toml",
        ],
    )
    said = [
        _run(capsys, "eval", "--k", "2"),
        _run(capsys, "eval", "--analysis", "margin,prototypes,silhouette"),
        _run(capsys, "report", "runs"),
        _run(capsys, "eval", "--k", "2", "--json"),
    ]
    assert [code for code, _, _ in said] == [0] * 4, said
    assert not any("\x1b" in text or "\x07" in text for _, *texts in said for text in texts)
    tables = list((tmp_path / "runs/tables").glob("*.csv"))
    assert tables
    for table in tables:
        with table.open(newline="") as file:
            for row in csv.reader(file):
                assert row[0][:1] not in tuple("=+-@"), (table, row)
                assert not any(cell[:1] in tuple("=@") for cell in row)
    for text in [*(tmp_path / "runs/tables").glob("*.md"), tmp_path / "runs/report.md"]:
        assert "<script" not in text.read_text()
        assert "<img" not in text.read_text()
    for text in (tmp_path / "runs/tables").glob("*.tex"):
        assert text.read_text().isprintable() or "\x1b" not in text.read_text()
    figures = list((tmp_path / "runs").rglob("*.svg"))
    assert figures
    for figure in figures:
        parse(str(figure))
    assert "<script>alert" not in (tmp_path / "runs/report.html").read_text()


@pytest.mark.parametrize("name", ["a\nrm -rf ~", "a\rb", "a\x1bb", "a\u2028b"])
def test_no_folder_ends_a_line_of_a_script(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="control character"):
        script_text("x", ["uml"], workers=2, sbatch="", logs=tmp_path / name)
    with pytest.raises(InputError, match="control character"):
        script_text("x", ["uml"], workers=2, sbatch=f"'--comment={name}'", logs=tmp_path)


def test_a_script_quotes_what_a_shell_would_run(tmp_path: Path) -> None:
    logs = tmp_path / "a b;$(touch x)`y`'z%j"
    text = script_text("x", ["uml", "--out", "$(rm -rf ~)", "a\nb"], workers=2, sbatch="--mem=4G", logs=logs)
    assert "'$(rm -rf ~)'" in text
    assert "%%j/%A_%a.log" in text
    assert not any(line.startswith("b") and "'" not in line for line in text.splitlines())


def test_one_damaged_store_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("a", "b", "c")
    for content in (
        "{",
        "[]",
        "5",
        "[" * 100_000,
        '{"node_type": "group", "attributes": 5}',
        '{"node_type": "group"}',
    ):
        shutil.rmtree(tmp_path / "feats", ignore_errors=True)
        _cache(tmp_path / "feats", names, "good")
        _cache(tmp_path / "feats", names, "bad")
        (tmp_path / "feats/bad/text/made-up.zarr/zarr.json").write_text(content)
        code, out, err = _run(capsys, "cache", "ls", "feats")
        assert (code, err) == (0, "")
        assert out.count("made-up.zarr  ") == 3 or "damaged: feats/bad/text/made-up.zarr" in out
        code, out, err = _run(capsys, "cache", "ls", "feats", "--json")
        assert len(json.loads(out)) == 4
    with pytest.warns(Remark, match=r"bad/text/made-up.zarr is left out"):
        found = find_stores("feats")
    assert len(found) == 3
    code, out, err = _run(capsys, "cache", "info", "feats/bad/text/made-up.zarr")
    assert code == 1
    assert "damaged" in err


def test_a_machine_without_shared_memory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from multiprocessing import context

    from uml_cache.machine import no_processes

    assert no_processes() is None

    def refuse(self: object) -> None:
        raise OSError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(context.BaseContext, "Event", refuse)
    assert "/dev/shm: No such file or directory" in str(no_processes())


def test_a_run_that_cannot_be_written_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _cache(tmp_path / "feats", ("a", "b", "c"))
    (tmp_path / "g.toml").write_text("lr = [0.01]\nsteps = 10\n")
    _run(
        capsys,
        *[
            "train",
            "--cache",
            "feats",
            "--method",
            "unimodal-deep,uml",
            "--shots",
            "2",
            "--seeds",
            "1",
            "--grid",
            "g.toml",
        ],
    )
    run = next((tmp_path / "runs").glob("toy-*"))
    for folder in ("figures", "analyses"):
        (run / folder).write_text("stands for a folder that cannot be made")
    for command in (("eval", "--k", "2"), ("eval", "--analysis", "margin")):
        code, out, err = _run(capsys, *command)
        assert code == 0, err
        assert out
        assert "cannot be written" in err
    code, _, err = _run(capsys, "report", "runs", "--out", tmp_path / "elsewhere/report.html")
    assert code == 0, err


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"classes": 5}, "a list of names"),
        ({"encoder": {"name": "e", "vocabulary": -3}}, "a vocabulary above 0"),
        ({"encoder": {"name": ["e"]}}, "an encoder with a name"),
        ({"dataset": ["d"]}, "a name"),
        ({"variant": "\x1b[2J"}, "a name"),
    ],
)
def test_attributes_of_a_file_are_not_believed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], values: dict[str, Any], words: str
) -> None:
    attributes = {"dataset": "d", "modality": "image", "encoder": {"name": "e"}, **values}
    np.savez(tmp_path / "a.npz", features=np.zeros((3, 2), "f4"), attributes=np.array(json.dumps(attributes)))
    code, _, err = _run(capsys, "cache", "import", tmp_path / "a.npz", "--out", tmp_path / "f")
    assert code == 2
    assert words in err
