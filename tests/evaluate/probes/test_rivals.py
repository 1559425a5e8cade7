"""Probes and rivals in a real run: same rows, stored, resumed, left out where they do not apply; shifts."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from toy_stores import CLASSES, clusters, write_store
from uml_cache.cli import main
from uml_cache.command import Output
from uml_evaluate import compare
from uml_evaluate.comparing.rows import RIVALS
from uml_evaluate.comparing.shown.tables import markdown
from uml_evaluate.evaluation import search_text
from uml_evaluate.probes.cells import _thinned
from uml_evaluate.probes.completing import complete_probes
from uml_evaluate.probes.episode import Candidate, Linear
from uml_train import TrainSettings, load_head, load_run, train
from uml_train.run import Run

GRID = "lr = [0.01]\nsteps = 30\nwarmup = 5\neval_every = 10\npatience = 2\n"
LABELS: np.ndarray = np.repeat(np.arange(5), 24)
SPLITS = np.tile(np.repeat([0, 1, 2], [8, 6, 10]), 5)
TEXTS = np.repeat(np.arange(5), 4)
SHOTS, SEEDS = (2,), (1, 2, 3)


def uml(*arguments: object) -> int:
    with pytest.raises(SystemExit) as leaving:
        main([str(argument) for argument in arguments])
    return int(leaving.value.code or 0)


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    assert uml(*arguments, "--json", "--quiet") == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert uml(*arguments, "--quiet") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def pictures(feats: Path, dataset: str, seed: int, keep: int = 5, **options: object) -> None:
    rows = keep > LABELS
    values = clusters(seed, LABELS, 12, 1.5)[rows] + (0.5 if seed > 1 else 0.0)
    splits = SPLITS[rows] if seed == 1 else np.full(int(rows.sum()), 255)
    write_store(feats, "image", values, LABELS[rows], splits, dataset=dataset, encoder="seer",
                classes=CLASSES[:keep], **options)  # type: ignore[arg-type] # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two copies of a small world, with a joint space and without, and what the first one shifts to."""
    folder = tmp_path_factory.mktemp("rivals")
    for dataset, space in (("aligned", "both"), ("plain", None)):
        pictures(folder / "feats", dataset, 1, joint_space=space)
        texts = clusters(3, TEXTS, 12, 0.5)
        write_store(folder / "feats", "text", texts, TEXTS, [255] * len(TEXTS), dataset=dataset,
                    encoder="reader", joint_space=space)  # fmt: skip
    pictures(folder / "feats", "night", 5, joint_space="both")
    pictures(folder / "feats", "part", 6, keep=3, joint_space="both")
    pictures(folder / "feats", "foreign", 7, joint_space="other")
    (folder / "tiny.toml").write_text(GRID, encoding="utf-8")
    return folder


def run_of(cache: Path, dataset: str, **options: object) -> Run:
    settings = TrainSettings(
        cache=cache / "feats", dataset=dataset, shots=SHOTS, seeds=SEEDS, grid=str(cache / "tiny.toml"),
        methods=("unimodal", "uml"), out=cache / "runs", **options,  # type: ignore[arg-type]
    )  # fmt: skip
    return train(settings)


@pytest.fixture(scope="module")
def aligned(cache: Path) -> Run:
    return run_of(cache, "aligned")


@pytest.fixture(scope="module")
def plain(cache: Path) -> Run:
    return run_of(cache, "plain", normalize="standard")


def test_rivals_stand_in_the_table_and_are_kept(aligned: Run, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("eval", "--k", 2, "--rivals", "all", "--runs", aligned.path)
    found = answer(capsys, *arguments)
    rows = {row["method"]: row for row in found["table"]}
    assert set(RIVALS) | {"unimodal", "uml"} == set(rows)
    assert all(row["seeds"] == 3 for row in rows.values())
    # The grid's one head is looked at four times, and so no rival has more than four candidates.
    assert rows["logreg"]["grid"] == "own, 4 candidates"
    assert rows["ncm"]["grid"] == "own, 1 candidate"
    assert ("uml", "lda") in {(d["a"], d["b"]) for d in found["differences"]}
    records = {p: p.stat().st_mtime_ns for p in (aligned.path / "cells").glob("*.json")}
    assert answer(capsys, *arguments) == found
    assert {p: p.stat().st_mtime_ns for p in (aligned.path / "cells").glob("*.json")} == records
    with (aligned.path / "results.csv").open(newline="", encoding="utf-8") as file:
        lines = [row for row in csv.DictReader(file) if row["method"] == "logreg" and row["selected"] == "1"]
    assert len(lines) == 3
    assert json.loads(lines[0]["hyperparameters"])["C"] > 0
    assert np.mean([float(line["test_acc"]) for line in lines]) == pytest.approx(rows["logreg"]["mean"])
    said = search_text(aligned, SHOTS)
    assert "Candidates that validation chose from. heads: 1, each looked at up to 4 times" in said
    assert "tip-adapter-f" in markdown(compare(aligned)[0])


def test_more_candidates_than_validation_looks_are_thinned_evenly() -> None:
    candidates = [Candidate({"at": at}, Linear(torch.zeros(2, 2), torch.zeros(2))) for at in range(20)]
    kept = {n: [c.hyperparameters["at"] for c in _thinned(candidates, n)] for n in (1, 2, 4, 20, 40)}
    assert kept[1] == [10]
    assert kept[2] == [0, 19]
    assert kept[4] == [0, 6, 13, 19]
    assert kept[20] == kept[40] == list(range(20))


def test_a_rival_sees_the_rows_of_its_draw_normalised_on_them(
    plain: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """The kept head of `logreg` is scikit-learn's on the ids that splits.json names, standardised by them."""
    answer(capsys, "eval", "--k", 2, "--rivals", "logreg", "--runs", plain.path)
    splits = json.loads((plain.path / "splits.json").read_text(encoding="utf-8"))
    values = clusters(1, LABELS, 12, 1.5).astype(np.float16).astype(np.float64)
    index = {f"image-{i}": i for i in range(len(values))}
    test = [index[name] for name in splits["test"]]
    for result in (r for r in load_run(plain.path).cells if r.cell.method == "logreg"):
        drawn = [index[name] for name in splits["draws"][f"k2-s{result.cell.seed}"]["train"]]
        assert result.label_budget == len(drawn) + 10  # two a class, and two a class to choose by
        mean, scale = values[drawn].mean(0), values[drawn].std(0)
        strength = result.candidates[result.selected]["hyperparameters"]["C"]
        model = LogisticRegression(C=strength, max_iter=5_000, tol=1e-8)
        model.fit((values[drawn] - mean) / scale, LABELS[drawn])
        expected = model.predict((values[test] - mean) / scale)
        assert (result.test_predictions == expected).mean() >= 0.98
        head = load_head(result.head_path)
        assert (head.predict(values[test]) == result.test_predictions).all()
        assert result.test_acc == pytest.approx(100 * (result.test_predictions == LABELS[test]).mean())


def test_what_needs_a_joint_space_says_so(plain: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert uml("eval", "--k", 2, "--rivals", "ridge-text,tip-adapter", "--runs", plain.path, "--json") == 0
    out, err = capsys.readouterr()
    assert "tip-adapter" not in {row["method"] for row in json.loads(out)["table"]}
    assert "tip-adapter is left out for image ← text: it needs encoders with a joint space" in err
    assert "joint space" in refused(capsys, "eval", "--probe", "zeroshot", "--runs", plain.path)


def test_lda_is_left_out_at_one_shot(plain: Run, capsys: pytest.CaptureFixture[str]) -> None:
    cells = complete_probes(plain, ("lda", "ncm"), shots=(1,), output=Output())
    assert {cell.method for cell in cells} == {"ncm"}
    assert "lda is left out at k = 1" in capsys.readouterr().err


def test_probes_without_heads(aligned: Run, capsys: pytest.CaptureFixture[str]) -> None:
    complete_probes(aligned, ("zeroshot", "logreg", "logreg-sklearn"), shots=("all",))
    found = answer(capsys, "eval", "--probe", "knn", "--runs", aligned.path)
    rows = {row["method"]: row for row in found["table"]}
    assert {"knn", "zeroshot", "logreg", "logreg-sklearn"} == set(rows)
    assert {(row["shots"], row["seeds"]) for row in rows.values()} == {("all", 3)}
    assert rows["zeroshot"]["label_budget"] == 0
    assert rows["zeroshot"]["std"] == 0
    assert abs(rows["logreg"]["mean"] - rows["logreg-sklearn"]["mean"]) <= 0.1
    assert not {r.cell.shots for r in load_run(aligned.path).cells if r.cell.method == "uml"} - set(SHOTS)


def test_a_store_of_its_own_can_be_probed(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("eval", "--probe", "knn", "--target", "image:seer", "--dataset", "night", "--k", "1,2",
                 "--cache", cache / "feats", "--runs", cache / "others")  # fmt: skip
    found = answer(capsys, *arguments)
    assert [(row["method"], row["shots"]) for row in found["table"]] == [("knn", 1), ("knn", 2)]
    assert answer(capsys, *arguments) == found
    assert len(list((cache / "others" / "probes").glob("night-image_seer-*"))) == 1


def test_shift_lets_only_the_common_classes_compete(
    cache: Path, aligned: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(capsys, "eval", "--shift", "night,part", "--k", 2, "--runs", aligned.path)
    night, part = found["shifts"]
    assert (night["classes"], night["rows"]) == (5, len(LABELS))
    assert (part["classes"], part["rows"]) == (3, int((LABELS < 3).sum()))
    values = (clusters(6, LABELS, 12, 1.5)[LABELS < 3] + 0.5).astype(np.float32).astype(np.float16)
    accuracies = []
    for result in (r for r in aligned.cells if (r.cell.method, r.cell.shots) == ("uml", 2)):
        logits = load_head(result.head_path).logits(values.astype(np.float32))
        accuracies.append(100 * (logits[:, :3].argmax(1) == LABELS[LABELS < 3]).mean())
    rows = {row["method"]: row for row in part["table"]}
    assert rows["uml"]["mean"] == pytest.approx(np.mean(accuracies))
    source = {row["method"]: row for row in part["source"]}
    own = {row["method"]: row for row in night["source"]}
    assert source["uml"]["mean"] >= own["uml"]["mean"] - 15
    assert source["uml"]["dataset"] == "aligned (classes of part)"
    assert own["uml"]["dataset"] == "aligned"
    assert any((d["a"], d["b"]) == ("uml", "unimodal") for d in part["differences"])
    again = answer(capsys, "eval", "--shift", "night,part", "--k", 2, "--runs", aligned.path)
    assert again == found
    assert uml("eval", "--shift", "part", "--k", 2, "--runs", aligned.path) == 0
    out = capsys.readouterr().out
    assert "72 rows of 3 of the run's 5 classes" in out
    assert "source → shifted" in out


def test_shift_takes_a_class_map(cache: Path, aligned: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Under a map that swaps two classes a head is as good as it was bad at telling them apart."""
    (cache / "swap.csv").write_text("auxiliary,target\nred circle,blue circle\nblue circle,red circle\n")
    straight = answer(capsys, "eval", "--shift", "night", "--k", 2, "--runs", aligned.path)
    swapped = answer(capsys, "eval", "--shift", "night", "--k", 2, "--runs", aligned.path,
                     "--class-map", cache / "swap.csv")  # fmt: skip
    assert straight["shifts"][0]["run"] != swapped["shifts"][0]["run"]
    a, b = (np.load(Path(s["shifts"][0]["run"]) / "test_labels.npy") for s in (straight, swapped))
    assert (b == np.array([1, 0, 2, 3, 4])[a]).all()


def test_shift_refuses_what_was_made_otherwise(aligned: Run, capsys: pytest.CaptureFixture[str]) -> None:
    at = ("--runs", aligned.path)
    said = refused(capsys, "eval", "--shift", "foreign", *at)
    assert "joint_space is 'other', and the run's is 'both'" in said
    assert "did you mean night" in refused(capsys, "eval", "--shift", "nihgt", *at)
    assert "trained on" in refused(capsys, "eval", "--shift", "aligned", *at)
    assert "no head at 9 shots" in refused(capsys, "eval", "--shift", "night", "--k", 9, *at)


def test_a_shift_cannot_be_trained_on(aligned: Run, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "eval", "--shift", "night", "--k", 2, "--runs", aligned.path)
    said = refused(capsys, "eval", "--k", 8, "--runs", found["shifts"][0]["run"])
    assert "holds scores of heads on other data" in said


def test_few_shot_at_every_usual_number(aligned: Run, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "eval", "--probe", "fewshot", "--k", "1,8", "--runs", aligned.path)
    assert {row["shots"] for row in found["table"] if row["method"] == "uml"} == {1, 8}
    assert "16" in refused(capsys, "eval", "--probe", "fewshot", "--k", "16", "--runs", aligned.path)
