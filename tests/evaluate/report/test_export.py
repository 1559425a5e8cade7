"""Marks and table files of hand-written runs, whose numbers are known beforehand."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

from uml_evaluate.comparing.comparison import compare
from uml_evaluate.comparing.shown.marks import is_best, is_beyond_chance, marked
from uml_evaluate.report.export import latex_table, markdown_table, write_comparison
from uml_evaluate.report.record import describe, mixed_features
from uml_train import load_run

WriteRun = Callable[..., Path]


def test_the_best_and_what_is_beyond_chance(write_run: WriteRun) -> None:
    (comparison,) = compare(load_run(write_run()))
    # The fixture's accuracies: 40, 50, 52, 60, 62; permuted 42, random 50, the same for every seed.
    best = [arm for arm in comparison.arms if is_best(comparison, arm, 4)]
    assert best == [("uml-init", None)]
    beyond = {arm for arm in comparison.arms if is_beyond_chance(comparison, arm, 4)}
    assert {("unimodal-deep", None), ("uml", None), ("uml-init", None), ("uml", "permuted")} <= beyond
    assert ("uml", "random") not in beyond
    assert ("unimodal", None) not in beyond
    assert marked(comparison, ("uml", None), 4) == ("60.0 ± 0.0 *", False)


def test_a_control_is_never_the_best(write_run: WriteRun) -> None:
    accuracy = {("unimodal", None): 0.4, ("unimodal-deep", None): 0.4, ("uml", None): 0.5}
    path = write_run(accuracy={**accuracy, ("uml", "random"): 0.9})
    (comparison,) = compare(load_run(path))
    assert [arm for arm in comparison.arms if is_best(comparison, arm, 1)] == [("uml", None)]


def test_table_files(write_run: WriteRun, tmp_path: Path) -> None:
    (comparison,) = compare(load_run(write_run()))
    files = {path.name: path for path in write_comparison(comparison, tmp_path / "tables", "toy")}
    assert set(files) == {
        f"toy-{what}.{kind}" for what in ("accuracy", "differences") for kind in ("csv", "md", "tex")
    }
    with files["toy-accuracy.csv"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    uml = next(r for r in rows if (r["method"], r["control"], r["shots"]) == ("uml", "", "4"))
    assert (float(uml["mean"]), int(uml["seeds"])) == (60.0, 3)
    assert json.loads(uml["auxiliaries"]) == ["text"]
    with files["toy-differences.csv"].open(newline="") as file:
        data = [
            r for r in csv.DictReader(file) if (r["a"], r["b"], r["shots"]) == ("uml", "unimodal-deep", "4")
        ]
    assert [float(r["delta"]) for r in data] == [10.0]
    markdown = files["toy-accuracy.md"].read_text(encoding="utf-8")
    assert r"| **62.0 ± 0.0 \*** |" in markdown
    latex = files["toy-accuracy.tex"].read_text(encoding="utf-8")
    assert r"\textbf{62.0 $\pm$ 0.0 *}" in latex
    assert r"uml[permuted]" in latex


def test_nothing_of_a_name_reaches_latex_or_markdown_as_code() -> None:
    name = r"50 % of a_b & {c} #1 \x ~ ^ $ | <i>"
    latex = latex_table(name, [name, "k"], [[name, "1"]], set())
    assert r"50 \% of a\_b \& \{c\} \#1 \textbackslash{}x" in latex
    assert latex.count("&") - latex.count(r"\&") == 2  # one between two columns, in the head and in the row
    assert markdown_table([name], [[name]]).splitlines()[2].count("|") - 1 == 2


def test_runs_on_different_features_are_pointed_out(write_run: WriteRun) -> None:
    first, second = write_run(), write_run("toy-image-00000002")
    config = json.loads((second / "config.json").read_text())
    config["stores"]["image"] |= {"encoder": "image-enc@paper", "fingerprint": "fedcba9876543210"}
    (second / "config.json").write_text(json.dumps(config))
    records = [describe(run, compare(run)) for run in map(load_run, (first, second))]
    assert mixed_features(records[:1]) == []
    (said,) = mixed_features(records)
    assert "image-enc (01234567), image-enc@paper (fedcba98)" in said
