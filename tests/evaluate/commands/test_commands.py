"""`uml eval`, `uml report`, `uml demo` as they are typed: results, remarks, one line for every mistake."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from uml_cache.cli import main
from uml_evaluate.comparing.shown.summary import summary
from uml_evaluate.demo import run_demo

WriteRun = Callable[..., Path]
ROW = {
    "dataset", "target", "auxiliaries", "encoders", "method", "control", "objective", "trunk", "normalize",
    "texts", "grid", "shots", "label_budget", "mean", "std", "seeds", "shared_width",
    "metric",
}  # fmt: skip
DIFFERENCE = {
    "dataset", "target", "auxiliaries", "shots", "a", "b", "delta", "ci_low", "ci_high", "seeds",
    "verdict", "seeds_to_tell", "metric",
}  # fmt: skip
TINY_GRID = "lr = [0.01]\nsteps = 40\nwarmup = 5\neval_every = 10\npatience = 2\n"


def uml(*arguments: object) -> int:
    with pytest.raises(SystemExit) as leaving:
        main([str(argument) for argument in arguments])
    return int(leaving.value.code or 0)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small demo: every stage for real, few samples, a short grid."""
    out = tmp_path_factory.mktemp("demo") / "out"
    grid = out.parent / "tiny.toml"
    grid.write_text(TINY_GRID, encoding="utf-8")
    sizes = {"train": 2, "val": 2, "test": 2, "texts": 3}
    done = run_demo(out, shots=(1, 2), seeds=2, sizes=sizes, grid=str(grid))
    assert done.report.is_file()
    (out.parent / "answer.json").write_text(json.dumps(done.to_json()), encoding="utf-8")
    (out.parent / "answer.txt").write_text(done.text(), encoding="utf-8")
    return out


def test_demo_trains_all_methods_and_controls_for_its_three_configurations(demo: Path) -> None:
    answer = json.loads((demo.parent / "answer.json").read_text(encoding="utf-8"))
    assert set(answer) == {"out", "report", "results", "seconds", "table", "differences"}
    assert {frozenset(row) for row in answer["table"]} == {frozenset(ROW)}
    assert {frozenset(d) for d in answer["differences"]} == {frozenset(DIFFERENCE)}
    found = {(r["target"], *r["auxiliaries"], r["method"], r["control"]) for r in answer["table"]}
    for target, auxiliaries in (
        ("image", ["text"]),
        ("image", ["text", "audio"]),
        ("audio", ["text", "image"]),
    ):
        assert {(target, "unimodal", None), (target, "unimodal-deep", None)} <= found
        for method in ("init-only", "uml", "uml-init"):
            assert (target, *auxiliaries, method, None) in found
        for control in ("permuted", "random"):
            assert (target, *auxiliaries, "uml", control) in found
    assert {row["shots"] for row in answer["table"]} == {1, 2}
    assert {row["seeds"] for row in answer["table"]} == {2}
    assert all(0 <= row["mean"] <= 100 for row in answer["table"])


def test_demo_writes_what_it_says(demo: Path) -> None:
    answer = json.loads((demo.parent / "answer.json").read_text(encoding="utf-8"))
    with Path(answer["results"]).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["target"] for row in rows} == {"image", "audio"}
    text = (demo.parent / "answer.txt").read_text(encoding="utf-8")
    assert "shapes: image ← text + audio" in text
    assert answer["report"] in text
    drawn = [path.stem.rsplit("-", 1)[1] for path in (demo / "figures").glob("*.svg")]
    assert sorted(drawn) == sorted(3 * ["key", "accuracy", "differences", "confusion", "map"])


def test_demo_goes_on_from_what_is_there(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = {path: path.stat().st_mtime_ns for path in demo.glob("runs/*/cells/*.json")}
    stores = {path: path.stat().st_mtime_ns for path in demo.glob("feats/**/journal/*.json")}
    assert records
    assert stores
    sizes = {"train": 2, "val": 2, "test": 2, "texts": 3}
    run_demo(demo, shots=(1, 2), seeds=2, sizes=sizes, grid=str(demo.parent / "tiny.toml"))
    for path, time in {**records, **stores}.items():
        assert path.stat().st_mtime_ns == time


def test_demo_refuses_another_folder(demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert uml("demo", "--out", demo, "--seed", 3) == 2
    assert "holds the demo of" in capsys.readouterr().err
    (tmp_path / "mine.txt").write_text("x", encoding="utf-8")
    assert uml("demo", "--out", tmp_path) == 2
    assert "holds other files than a demo" in capsys.readouterr().err
    assert uml("demo", "--out", tmp_path / "mine.txt") == 2
    assert "is not a folder" in capsys.readouterr().err


def test_eval_reads_the_newest_run_and_trains_what_it_lacks(
    demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("eval", "--k", 2, "--runs", demo / "runs", "--json")
    assert uml(*arguments) == 0
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert set(answer) == {"table", "differences", "figures", "rows"}
    assert answer["rows"]["image"]["used"] == answer["rows"]["image"]["of"]
    assert err.splitlines()[-1] == "audio: 96 of 288 used; left out: not in its training part (192)"
    assert {row["shots"] for row in answer["table"]} == {2}
    assert {row["target"] for row in answer["table"]} == {"image"}  # trained last
    assert all(Path(path).is_file() for path in answer["figures"])
    assert "nothing was trained" in err

    assert uml("eval", "--probe", "linear", "--runs", demo / "runs", "--json") == 0
    out, err = capsys.readouterr()
    assert "lacked" in err
    rows = json.loads(out)["table"]
    assert {row["shots"] for row in rows} == {"all"}
    assert {row["label_budget"] for row in rows} == {48 * 4}

    assert uml("eval", "--probe", "linear", "--runs", demo / "runs", "--json", "--quiet") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["table"] == rows
    assert err == ""


def test_eval_prints_tables_and_the_summary(write_run: WriteRun, capsys: pytest.CaptureFixture[str]) -> None:
    write_run("toy-image-00000000", created="2025-01-01T00:00:00+00:00", dataset="older")
    path = write_run()
    _complete_stores_are_not_needed(path)
    assert uml("eval", "--k", "1,4", "--runs", path.parent) == 0
    out, err = capsys.readouterr()
    assert "toy: image ← text" in out
    assert "older" not in out
    assert "+10.0 *  [" in out
    assert "unpaired text helps: +10.0 points" in out
    assert str(path) in err
    assert all(len(line) <= 100 or line.startswith("- ") for line in out.splitlines())


def _complete_stores_are_not_needed(path: Path) -> None:
    """All cells of the run are there, so the stores need not be."""
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    assert not any(Path(store["path"]).exists() for store in config["stores"].values())


def test_report_command(write_run: WriteRun, capsys: pytest.CaptureFixture[str]) -> None:
    runs = write_run().parent
    assert uml("report", runs, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert set(answer) == {"report", "markdown", "figures", "tables", "runs"}
    assert Path(answer["report"]) == runs / "report.html"
    assert uml("report", runs) == 0
    assert "unpaired text helps" in capsys.readouterr().out


def damage(path: Path) -> None:
    (path / "config.json").write_text("{", encoding="utf-8")


def strip_settings(path: Path) -> None:
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    del config["settings"]
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")


def of_sequences(path: Path) -> None:
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    config["settings"] |= {"objective": "ssl", "methods": ["unimodal", "uml"], "controls": []}
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")


def of_samples(path: Path) -> None:
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    (path / "config.json").write_text(json.dumps(config | {"finetune": {}}), encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "prepare", "said"),
    [
        (("--analysis", "margin"), of_sequences, "`uml embed "),
        (("--shift", "other"), of_sequences, "`uml embed "),
        (("--analysis", "margin"), of_samples, "trained on samples, not on features"),
        (("--shift", "other"), of_samples, "trained on samples, not on features"),
        (("--k", "0"), None, "--k is '0'; it takes numbers of at least 1"),
        (("--k", "abc"), None, "--k is 'abc'"),
        (("--k", "1,,2"), None, "--k is '1,,2'"),
        (("--k", "-3"), None, "--k is '-3'"),
        (("--k", "all"), None, "that is --probe linear"),
        (("--probe", "linear", "--k", "4"), None, "--k 4 belongs to --probe fewshot"),
        (("--probe", "kmm"), None, "'kmm' is not one of 'fewshot', 'linear'"),
        (("--rivals", "ida"), None, "unknown rival 'ida'; did you mean lda"),
        (("--rivals", "lda", "--probe", "knn"), None, "--rivals stands beside the run's heads"),
        (("--target", "image"), None, "--probe fewshot trains some"),
        (("--probe", "knn", "--k", "all"), None, "leave it out with --probe knn"),
        (("--shift", "a", "--rivals", "lda"), None, "do not go together"),
        (("--class-map", "m.csv"), None, "--class-map belongs to --advise or --shift"),
        (("--dataset", "toy"), None, "--dataset belongs to --target"),
        (("--compare", "nowhere", "here"), None, "nowhere does not exist"),
        (("--runs", "nowhere"), None, "nowhere does not exist; make one with `uml train"),
        ((), damage, "config.json is damaged"),
        ((), strip_settings, "config.json is damaged"),
        (("--k", "2"), None, "was made by version 0.1"),  # and lacks cells
    ],
)
def test_eval_mistakes_are_one_line(
    write_run: WriteRun,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: tuple[str, ...],
    prepare: Callable[[Path], None] | None,
    said: str,
) -> None:
    path = write_run()
    if prepare is not None:
        prepare(path)
    monkeypatch.chdir(tmp_path)
    assert uml("eval", *arguments, "--quiet") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said in err


@pytest.mark.parametrize("command", ["eval", "report", "demo"])
def test_help_ends_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert uml(command, "--help") == 0
    assert "Example:\n    uml " in capsys.readouterr().out


def test_sentences_of_the_demo_are_honest_about_few_seeds(demo: Path) -> None:
    from uml_evaluate import compare
    from uml_train import find_runs

    for run in find_runs(demo / "runs"):
        for comparison in compare(run):
            assert "2 seeds cannot show" in summary(comparison)
