"""The analyses of a real small run: what they read, store, refuse, print and put on the page."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from run_records import change_record
from toy_stores import clusters, write_store
from uml_cache.cli import main
from uml_cache.errors import InputError
from uml_evaluate.analyses import ANALYSES, ON_NETWORKS, named
from uml_evaluate.analyses.finding import NotPossible, findings
from uml_evaluate.analyses.part import arm_of
from uml_evaluate.analyses.reading import Reading
from uml_evaluate.analyses.running import analyse
from uml_evaluate.comparing.rows import arm_name
from uml_evaluate.probes.completing import complete_probes
from uml_evaluate.report.html import write_report
from uml_train import TrainSettings, find_runs, load_run, train
from uml_train.data.rows import vectors
from uml_train.runs.drawn import auxiliary_rows

METHODS = ("unimodal", "unimodal-deep", "init-only", "uml")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run on normalised features that leaves two of five texts per class out."""
    folder = tmp_path_factory.mktemp("analyses")
    labels = np.tile(np.arange(5), 32)
    splits = np.repeat([0, 1, 2], [40, 20, 100])
    write_store(folder / "feats", "image", 3 + clusters(1, labels, 12, 1.0), labels, splits)
    words = np.tile(np.arange(5), 5)
    write_store(folder / "feats", "text", 2 + clusters(2, words, 16, 0.5), words, np.full(25, 255))
    grid = folder / "grid.toml"
    grid.write_text("lr = [0.01]\nsteps = 40\nwarmup = 5\neval_every = 10\nbatch_size = [8]\n")
    settings = TrainSettings(
        cache=folder / "feats", methods=METHODS, controls=("permuted",), shots=(1, 4), seeds=(1, 2, 3),
        grid=str(grid), normalize="standard", texts=3, out=folder / "runs",
    )  # fmt: skip
    train(settings)
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """The run's folder, copied; its stores stay."""
    (source,) = (trained / "runs").iterdir()
    return Path(shutil.copytree(source, tmp_path / "runs" / source.name))


def uml(*arguments: object) -> int:
    with pytest.raises(SystemExit) as leaving:
        main([str(argument) for argument in arguments])
    return int(leaving.value.code or 0)


def test_margins_are_positive_where_the_run_was_right(run: Path) -> None:
    (finding,) = analyse(load_run(run), ["margin"]).findings
    by_cell = {(c["method"], c["shots"], c["seed"]): c for c in finding.values["cells"]}
    results = load_run(run).cells
    assert len(by_cell) == len(results) == 30
    for result in results:
        name = result.cell.method + (f"[{result.cell.control}]" if result.cell.control else "")
        cell = by_cell[name, result.cell.shots, result.cell.seed]
        assert cell["right_percent"] == pytest.approx(result.test_acc, abs=1.01)
    assert finding.arrays["functional"].shape == (30, 101)


def test_the_margin_of_eq_5_is_that_of_the_head_in_its_own_space(run: Path) -> None:
    """With head rows and what they read, row by row; the logit scale cancels."""
    (finding,) = analyse(load_run(run), ["margin"]).findings
    reading = Reading(load_run(run), shots=[4])
    features, labels = reading.test
    for cell in (c for c in finding.values["cells"] if (c["shots"], c["seed"]) == (4, 1)):
        (result,) = (
            r for r in reading.cells if (arm_name(arm_of(r)), r.cell.seed) == (cell["method"], cell["seed"])
        )
        rows = reading.shared(result).rows.astype(float)
        margins = []
        for z, y in zip(reading.target_space(result, features).astype(float), labels, strict=True):
            rival = max((c for c in range(len(rows)) if c != y), key=lambda c: float(rows[c] @ z))
            margins.append((rows[y] - rows[rival]) @ z / np.linalg.norm(rows[y] - rows[rival]))
        assert cell["eq5_mean"] == pytest.approx(np.mean(margins), rel=1e-3, abs=1e-3)


def test_effective_weights_act_on_raw_features(run: Path) -> None:
    """scale · head · projection with the normalisation folded in, against the parts one by one."""
    reading = Reading(load_run(run), shots=[4])
    features, _ = reading.test
    for result in reading.cells:
        shared = reading.shared(result)
        by_parts = shared.scale * reading.target_space(result, features) @ shared.rows.T
        np.testing.assert_allclose(by_parts, reading.head(result).logits(features), atol=2e-3)


def test_held_out_texts_are_those_that_training_did_not_see(run: Path) -> None:
    reading = Reading(load_run(run), shots=[4])
    source = reading.problem.auxiliaries["text"]
    for result in reading.cells:
        if result.cell.method == "uml" and result.cell.control is None:
            seen, _ = auxiliary_rows(source, result.cell, reading.run.settings)
            mine = source.values(reading.texts(result, "text"))
            np.testing.assert_array_equal(mine.numpy(), vectors(seen).numpy())
    (finding,) = analyse(load_run(run), ["prototypes"], shots=[4]).findings
    assert finding.values["held_out_per_class"] == 2.0
    of = {c["method"]: c for c in finding.values["cells"] if c["seed"] == 1}
    assert of["init-only"]["nearest_percent"] == 100.0
    assert of["init-only"]["dominance"] > of["init-only"]["chance_95"]
    assert of["uml[permuted]"]["dominance"] < of["uml"]["dominance"]


def test_texts_that_were_all_seen_are_refused(run: Path) -> None:
    change_record(run / "config.json", lambda config: config["settings"].update(texts="all"))
    with pytest.raises(NotPossible, match="--texts N"):
        analyse(load_run(run), ["prototypes"])
    done = analyse(load_run(run), ["prototypes", "margin"])
    refused, margin = sorted(done.findings, key=lambda f: f.analysis != "prototypes")
    assert refused.said[0].startswith("Not possible here")
    assert not margin.values.get("refused")
    assert all("margin" in path.name for path in done.figures)


def test_a_second_call_computes_nothing_until_something_changes(run: Path) -> None:
    some = ["margin", "silhouette", "alignment"]
    first = analyse(load_run(run), some)
    assert first.computed == some
    assert {path.suffix for path in first.figures} == {".png", ".svg"}
    assert len(first.figures) == 2 * len(some)
    assert all(path.stat().st_size > 10_000 for path in first.figures)
    again = analyse(load_run(run), some)
    assert again.computed == []
    assert [f.to_json() for f in again.findings] == [f.to_json() for f in first.findings]
    assert analyse(load_run(run), ["margin"], shots=[1]).computed == ["margin"]
    torn = run / "analyses" / "alignment-text.npz"
    torn.write_bytes(torn.read_bytes()[:-3])
    assert analyse(load_run(run), ["silhouette", "alignment"]).computed == ["alignment"]
    next((run / "cells").glob("unimodal-data-*-s3.json")).unlink()
    assert analyse(load_run(run), ["silhouette"]).computed == ["silhouette"]


def test_rivals_in_a_run_are_no_part_of_its_analyses(run: Path) -> None:
    before = analyse(load_run(run), ["margin", "alignment"])
    assert complete_probes(load_run(run), ("ridge-text", "ncm"), shots=[1, 4])
    after = analyse(load_run(run), ["margin", "alignment"])
    assert after.computed == []
    assert [f.to_json() for f in after.findings] == [f.to_json() for f in before.findings]


def test_a_changed_head_is_noticed(run: Path) -> None:
    heads = sorted((run / "heads").glob("uml-data-*-k4-*"))
    other = next((run / "heads").glob("uml-permuted-*-k1-*"))
    shutil.copy(other, heads[0])
    with pytest.raises(InputError, match=r"is damaged \(it has \d+ bytes, and \d+ were written\)"):
        analyse(load_run(run), ["margin"])


def test_the_plane_is_cut_for_the_pair_that_is_asked_for(run: Path) -> None:
    options = {"boundary": {"pair": ["blue circle", "green star"]}}
    (finding,) = analyse(load_run(run), ["boundary"], options=options).findings
    assert finding.values["pair"] == ["blue circle", "green star"]
    assert finding.values["methods"] == ["unimodal", "unimodal-deep", "uml"]
    assert "--pair 'blue circle' 'green star'" in finding.command
    assert set(np.unique(finding.arrays["region uml"])) <= {0, 1, 2}
    with pytest.raises(InputError, match="did you mean green star"):
        analyse(load_run(run), ["boundary"], options={"boundary": {"pair": ["blue circle", "green stra"]}})


def test_the_exchange_trains_a_grid_of_its_own(run: Path) -> None:
    done = analyse(load_run(run), ["exchange"])
    values = done.findings[0].values
    assert (values["shots"], values["texts"], values["seeds"]) == ([1, 4], [1, 2, 4], [1, 2, 3])
    assert np.asarray(values["accuracy"]).shape == (3, 2, 3)
    assert len(find_runs(run.parent)) == 1
    for child in find_runs(run / "analyses" / "exchange"):
        for result in child.cells:
            i, j = values["shots"].index(result.cell.shots), values["texts"].index(result.texts)
            assert values["accuracy"][result.cell.seed - 1][i][j] == result.test_acc
    assert (values["rate"] is None) == (values["refusal"] is not None)
    assert any("over the numbers themselves" in note for note in done.findings[0].said)
    assert values["words_per_text"] is None
    assert any("--manifest" in note for note in done.findings[0].notes)
    assert analyse(load_run(run), ["exchange"]).computed == []


def test_words_are_counted_in_the_texts_of_the_store(run: Path, tmp_path: Path) -> None:
    reading = Reading(load_run(run))
    ids = reading.problem.auxiliaries["text"].features.id
    table = tmp_path / "texts.csv"
    rows = [f"{i},{' '.join(['word'] * (2 + n % 3))},red circle" for n, i in enumerate(map(str, ids))]
    table.write_text("\n".join(["id,text,label", *rows]) + "\n")
    from uml_evaluate.analyses.exchange.exchange_grid import _words

    words, _ = _words(reading, str(table))
    assert words == pytest.approx(np.mean([2 + n % 3 for n in range(25)]))
    table.write_text("\n".join(["id,text,label", *rows[1:]]) + "\n")
    with pytest.raises(InputError, match="its ids are others"):
        _words(reading, str(table))


def test_names() -> None:
    assert list(named(["silhouette", "margin"])) == ["margin", "silhouette"]
    assert list(named(["all"])) == [name for name in ANALYSES if name not in ON_NETWORKS]
    assert list(named(["all"], networks=True)) == list(ON_NETWORKS)
    with pytest.raises(InputError, match="did you mean silhouette"):
        named(["silhuette"])


def test_the_command(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert uml("eval", "--runs", run, "--analysis", "margin,silhouette", "--k", "4", "--json", "--quiet") == 0
    answer = json.loads(capsys.readouterr().out)
    assert [f["analysis"] for f in answer["analyses"]] == answer["computed"] == ["margin", "silhouette"]
    assert all(Path(path).is_file() for path in answer["figures"])
    assert uml("eval", "--runs", run, "--analysis", "margin", "--k", "4") == 0
    assert "geometric margin" in capsys.readouterr().out
    for wrong, said in (
        (["--analysis", "margn"], "did you mean margin"),
        (["--analysis", "margin", "--k", "3"], "has no cell at 3 shots, only at 1, 4"),
        (["--analysis", "margin", "--aux", "txt"], "did you mean text"),
        (["--analysis", "margin", "--pair", "a", "b"], "--pair belongs to --analysis boundary"),
        (["--analysis", ","], "names nothing"),
    ):
        assert uml("eval", "--runs", run, *wrong) == 2
        error = capsys.readouterr().err
        assert said in error
        assert "Traceback" not in error


def test_the_report_shows_what_was_analysed(run: Path) -> None:
    shutil.rmtree(run / "analyses", ignore_errors=True)
    before = write_report(run.parent).path.read_text(encoding="utf-8")
    analyse(load_run(run), ["margin", "alignment"])
    written = write_report(run.parent)
    text = written.path.read_text(encoding="utf-8")
    assert text.count("<svg") == before.count("<svg") + 2
    assert "http" not in text
    for finding in findings(run)[0]:
        assert finding.command in text.replace("&#x27;", "'")
    assert "The run has changed" not in text
    names = {path.name for path in (*written.figures, *written.tables)}
    for name in ("margin-text.png", "margin-text.svg", "margin-text-1.csv", "alignment-text-2.tex"):
        assert name in names
    assert all(path.is_file() for path in (*written.figures, *written.tables))
    with next(p for p in written.tables if p.name.endswith("text-accuracy.csv")).open() as file:
        rows = list(csv.DictReader(file))
    assert {row["method"] for row in rows} == set(METHODS)
    assert all(0 <= float(row["mean"]) <= 100 for row in rows)
    latex = next(p for p in written.tables if p.name.endswith("text-accuracy.tex")).read_text()
    assert latex.count(r"\textbf") >= 2
    assert r"$\pm$" in latex
    next((run / "cells").glob("unimodal-data-*-s3.json")).unlink()
    assert "The run has changed" in write_report(run.parent).path.read_text(encoding="utf-8")
