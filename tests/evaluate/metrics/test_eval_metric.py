"""`uml eval --metric` on a real run: scores kept with their checksum, tables, JSON, runs without scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn import metrics as theirs

from toy_stores import CLASSES, clusters, write_store
from uml_cache.cli import main
from uml_evaluate import compare
from uml_evaluate.comparing.shown.summary import below_textbook
from uml_evaluate.report.html import write_report
from uml_train import TrainSettings, load_head, load_run, train
from uml_train.record.scores import MOST, Answers, scores_type
from uml_train.run import Run

LABELS: np.ndarray = np.repeat(np.arange(5), 24)
SPLITS = np.tile(np.repeat([0, 1, 2], [8, 6, 10]), 5)
TEXTS = np.repeat(np.arange(5), 4)
GRID = "lr = [0.01]\nsteps = 30\nwarmup = 5\neval_every = 10\npatience = 2\n"
ALL = "accuracy,balanced-accuracy,macro-f1,log-loss,calibration-error,auroc"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three seeds, never written to by a test."""
    folder = tmp_path_factory.mktemp("metrics")
    feats = folder / "feats"
    write_store(feats, "image", clusters(1, LABELS, 12, 1.5), LABELS, SPLITS, dataset="toy",
                encoder="seer", classes=CLASSES[:5])  # fmt: skip
    write_store(feats, "text", clusters(3, TEXTS, 12, 0.5), TEXTS, [255] * len(TEXTS), dataset="toy",
                encoder="reader", classes=CLASSES[:5])  # fmt: skip
    (folder / "tiny.toml").write_text(GRID, encoding="utf-8")
    train(
        TrainSettings(
            cache=feats,
            target="image",
            methods=("unimodal", "unimodal-deep", "uml", "auto"),
            shots=(2,),
            seeds=(1, 2, 3),
            grid=str(folder / "tiny.toml"),
            out=folder / "runs",
        )
    )
    return folder


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Run:
    shutil.copytree(whole / "runs", tmp_path / "runs")
    return load_run(next(path.parent for path in (tmp_path / "runs").glob("*/config.json")))


def uml(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as leaving:
        main([str(argument) for argument in arguments])
    return int(leaving.value.code or 0), *capsys.readouterr()


def answer(capsys: pytest.CaptureFixture[str], run: Run, metric: str) -> dict:
    code, out, err = uml(
        capsys, "eval", "--runs", run.path, "--k", 2, "--metric", metric, "--json", "--quiet"
    )
    assert code == 0, err
    return json.loads(out)


def test_scores_are_the_selected_heads(run: Run) -> None:
    # The store holds them in half precision.
    features = torch.from_numpy(clusters(1, LABELS, 12, 1.5)[SPLITS == 2]).float()
    for result in run.cells:
        scores = result.test_scores
        assert scores is not None
        assert scores.dtype == np.float32
        np.testing.assert_allclose(np.exp(scores).sum(1), 1.0, rtol=1e-5)
        np.testing.assert_array_equal(scores.argmax(1), result.test_predictions)
        logits = load_head(result.head_path).logits(features).numpy()
        np.testing.assert_allclose(np.exp(scores), softmax(logits, axis=1), atol=2e-3)


def test_tables_have_scikit_learns_numbers(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, run, ALL)
    assert {row["metric"] for row in found["table"]} == set(ALL.split(","))
    cells = [r for r in run.cells if r.cell.method == "uml"]
    y = run.test_labels
    expected = {
        "accuracy": [r.test_acc for r in cells],
        "balanced-accuracy": [100 * theirs.balanced_accuracy_score(y, r.test_predictions) for r in cells],
        "macro-f1": [100 * theirs.f1_score(y, r.test_predictions, average="macro") for r in cells],
        "log-loss": [theirs.log_loss(y, softmax(r.test_scores.astype(float), axis=1)) for r in cells],
        "auroc": [
            100 * theirs.roc_auc_score(y, softmax(r.test_scores.astype(float), axis=1), multi_class="ovr")
            for r in cells
        ],
    }
    for name, values in expected.items():
        row = next(r for r in found["table"] if (r["metric"], r["method"]) == (name, "uml"))
        assert row["mean"] == pytest.approx(np.mean(values), abs=1e-4), name
        assert row["std"] == pytest.approx(np.std(values, ddof=1), abs=1e-4), name
    for difference in found["differences"]:
        sides = [
            next(r["mean"] for r in found["table"] if (r["metric"], r["method"]) == (difference["metric"], m))
            for m in (difference["a"], difference["b"])
        ]
        assert difference["delta"] == pytest.approx(sides[0] - sides[1], abs=1e-6)
        assert difference["ci_low"] <= difference["delta"] <= difference["ci_high"]


def test_classes_and_confusion(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, run, "per-class,confusion")
    assert found["table"] == found["differences"] == []
    cells = [r for r in run.cells if r.cell.method == "unimodal"]
    truth = np.tile(run.test_labels, 3)
    predicted = np.concatenate([r.test_predictions for r in cells])
    matrix = next(entry for entry in found["confusion"] if entry["method"] == "unimodal")
    assert matrix["counts"] == theirs.confusion_matrix(truth, predicted, labels=range(5)).tolist()
    precision, recall, f1, _ = theirs.precision_recall_fscore_support(truth, predicted, labels=range(5))
    entries = [entry for entry in found["per_class"] if entry["method"] == "unimodal"]
    assert [e["class"] for e in entries] == list(run.config["classes"])
    np.testing.assert_allclose([e["recall"] for e in entries], 100 * recall)
    np.testing.assert_allclose([e["precision"] for e in entries], 100 * precision)
    np.testing.assert_allclose([e["f1"] for e in entries], 100 * f1)
    assert {e["rows"] for e in entries} == {10}
    code, out, _ = uml(capsys, "eval", "--runs", run.path, "--k", 2, "--metric", "per-class,confusion")
    assert code == 0
    assert "share of each class's test rows that is found" in out
    assert "true classes down, predicted across" in out
    assert max(map(len, out.splitlines())) <= 100


def test_the_terminal_says_what_each_table_is(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = uml(capsys, "eval", "--runs", run.path, "--k", 2, "--metric", "log-loss")
    assert code == 0
    assert "log-loss in nats (lower is better" in out
    assert "helps (−) or hurts (+)" in " ".join(out.split())
    assert "accuracy" not in out
    code, _, err = uml(capsys, "eval", "--runs", run.path, "--k", 2, "--metric", "f1", "--quiet")
    assert code == 2
    assert err.count("\n") == 1
    assert "macro-f1" in err


def test_five_classes_have_no_top_five(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = uml(capsys, "eval", "--runs", run.path, "--k", 2, "--metric", "top-5", "--quiet")
    assert (code, out) == (2, "")
    assert "top-5 is always 100 % with 5 classes" in err


def test_without_scores_one_line_says_what_needs_a_new_run(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(run.path / "scores")
    code, out, err = uml(
        capsys, "eval", "--runs", run.path, "--k", 2, "--metric", "auroc,log-loss", "--quiet"
    )
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "auroc, log-loss need a new run; accuracy, balanced-accuracy, macro-f1" in err
    code, out, err = uml(capsys, "eval", "--runs", run.path, "--k", 2, "--metric", "auroc,macro-f1,confusion")
    assert code == 0
    assert "auroc needs a new run" in err
    assert "macro-F1 in %" in out
    assert write_report(run.path, out=run.path / "report.html").path.is_file()


def test_some_cells_without_scores_are_left_out(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (run.path / "scores").glob("uml-*"):
        path.unlink()
    code, out, err = uml(capsys, "eval", "--runs", run.path, "--k", 2, "--metric", "auroc")
    assert code == 0
    assert "3 of 15 cells keep no scores (uml) and are left out of auroc" in err
    assert "unimodal-deep" in out
    assert not [line for line in out.splitlines() if line.startswith("uml ")]


def test_damaged_scores_are_one_line(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    path = next((run.path / "scores").glob("uml-*"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    code, out, err = uml(capsys, "eval", "--runs", run.path, "--k", 2, "--metric", "auroc", "--quiet")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "not match its checksum" in err


def test_report_has_the_metrics(run: Run) -> None:
    page = write_report(run.path, out=run.path / "report.html").path.read_text(encoding="utf-8")
    assert "more than accuracy: balanced accuracy in %" in page
    assert "share of each class" in page
    assert "the most frequent mistakes of uml" in page


def test_scores_are_bounded() -> None:
    assert scores_type(2_485, 81) is np.float32
    assert scores_type(10_000, 1_000) is np.float16
    assert scores_type(50_000, 1_000) is None
    answers = Answers(MOST + 1, 1)
    assert answers.scores is None


def test_the_textbook_is_a_row_of_the_table(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = uml(capsys, "eval", "--runs", run.path, "--k", 2)
    assert code == 0
    assert any(line.startswith("textbook ") for line in out.splitlines())
    assert "chance 20.0" in " ".join(out.split())
    found = [r for r in load_run(run.path).cells if r.cell.method == "textbook"]
    assert len(found) == 3
    for result in found:
        assert {c["normalize"] for c in result.candidates} == {"center-l2", "standard"}
        assert result.val_acc == max(c["val_acc"] for c in result.candidates)
        head = load_head(result.head_path)
        features = torch.from_numpy(clusters(1, LABELS, 12, 1.5)[SPLITS == 2]).float()
        assert (head.predict(features).numpy() == result.test_predictions).mean() > 0.95


def test_heads_below_the_textbook_are_named(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    answer(capsys, run, "accuracy")
    opened = load_run(run.path)
    comparison = compare(opened)[0]
    said = below_textbook(comparison)
    for method in ("unimodal", "unimodal-deep", "uml"):
        interval = next(d.interval for d in comparison.averaged if (d.a, d.b) == (method, "textbook"))
        assert (f"{method} {'−' if interval.delta < 0 else '+'}" in said) == (interval.verdict == "hurts")


def test_without_stores_the_table_stands_alone(
    run: Run, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = run.config["stores"]["image"]["path"]
    assert Path(config).exists()
    code, out, err = uml(capsys, "eval", "--runs", run.path, "--k", 2, "--cache", run.path / "nowhere")
    assert code == 0
    assert "the best textbook classifier is no row of this table" in err
    assert "unimodal-deep" in out
