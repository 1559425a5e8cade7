"""`uml.fit` and what it gives: tables, pictures, a model whose predictions are the same on every way."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import uml
from small_world import CLASSES, pictures, sentences, write_pictures
from uml_cache import InputError
from uml_evaluate.commands.predict_command import predict as predict_command
from uml_train import load_head


def test_table_has_the_fields_of_a_row(fitted: uml.Result) -> None:
    table = fitted.table()
    assert list(table.columns[:16]) == [
        "dataset", "target", "auxiliaries", "encoders", "method", "control", "objective", "trunk",
        "normalize", "texts", "grid", "shots", "label_budget", "mean", "std", "seeds",
    ]  # fmt: skip
    assert set(table["method"]) == {"unimodal", "unimodal-deep", "uml", "textbook"}
    assert set(table["shots"]) == {2, 4}
    assert (table["mean"] > 60).all()
    assert {"delta", "verdict"} <= set(fitted.differences().columns)


def test_it_shows_itself(fitted: uml.Result, tmp_path: Path) -> None:
    shown = fitted._repr_html_()
    assert "<table" in shown
    assert "uml ← text" in shown
    assert "<th>2 per class</th>" in shown
    assert "chance is 33.3" in shown
    assert shown.startswith("<p><b>data: ")
    assert fitted.summary() in repr(fitted)
    assert fitted.plot().axes
    page = fitted.report(tmp_path / "page.html")
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/jpeg;base64,") >= 12  # pictures and sentences that are in memory only
    assert "a blue ring lies there, number 0" in text
    assert "Left out" not in text
    assert "data:image" not in fitted.report(page, samples=False).read_text(encoding="utf-8")


def test_the_same_call_finds_its_run(fitted: uml.Result) -> None:
    images, labels = pictures(20)
    texts, names = sentences(6)
    out = fitted.path.parents[1]
    again = uml.fit(
        uml.embed(images, "hog-color", labels=labels, cache=False, progress=False),
        aux={"text": uml.embed(texts, "hashed-ngrams", labels=names, cache=False, progress=False)},
        shots=[2, 4], seeds=2, methods="unimodal,unimodal-deep,uml", out=out, progress=False,
    )  # fmt: skip
    assert again.path == fitted.path


def test_predictions_are_equal_on_every_way(fitted: uml.Result, tmp_path: Path) -> None:
    files = write_pictures(tmp_path / "new", 8, seed=9)
    model = fitted.best()
    model.save(tmp_path / "model.safetensors")
    loaded = uml.load(tmp_path / "model.safetensors")
    wanted = model.predict_proba(files)
    np.testing.assert_array_equal(loaded.predict_proba(files), wanted)
    assert list(model.classes_) == list(CLASSES)
    assert list(loaded.predict(files)) == [CLASSES[at] for at in wanted.argmax(1)]
    features = uml.embed(files, "hog-color", cache=False, progress=False)
    np.testing.assert_allclose(model.predict_proba(features), wanted, atol=1e-6)
    np.testing.assert_allclose(model.predict_proba(features.features), wanted, atol=1e-6)
    head = load_head(tmp_path / "model.safetensors")
    np.testing.assert_allclose(head.predict_proba(features.features), wanted, atol=1e-6)
    for place in (fitted.path, tmp_path / "model.safetensors"):
        out = tmp_path / "predictions.jsonl"
        arguments = [str(place), *map(str, files), "--out", str(out), "--probabilities", "--quiet"]
        found = CliRunner().invoke(predict_command, arguments, catch_exceptions=False)
        assert found.exit_code == 0
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        assert [row["path"] for row in rows] == list(map(str, files))
        np.testing.assert_allclose([[row[f"p:{c}"] for c in CLASSES] for row in rows], wanted, atol=2e-6)
        assert [row["prediction"] for row in rows] == list(model.predict(files))
    runtime = pytest.importorskip("onnxruntime")
    model.head.to_onnx(tmp_path / "head.onnx")
    session = runtime.InferenceSession(str(tmp_path / "head.onnx"), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"features": features.features})
    powers = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(powers / powers.sum(1, keepdims=True), wanted, atol=1e-5)


def test_a_named_head_and_what_there_is_not(fitted: uml.Result) -> None:
    model = fitted.best(method="unimodal", shots=2, seed=1, refit=False)
    assert (model.head.about["method"], model.head.about["shots"], model.head.about["seed"]) == (
        "unimodal",
        2,
        1,
    )
    with pytest.raises(InputError, match="known: 2, 4"):
        fitted.best(shots=16)
    with pytest.raises(InputError, match="unknown method"):
        fitted.best(method="prior")


def test_refitting_takes_the_validation_rows(fitted: uml.Result) -> None:
    with_them, without = fitted.best(), fitted.best(refit=False)
    assert with_them.head.about["refit"]
    assert (with_them.head.weight != without.head.weight).any()


def test_features_of_another_encoder_are_refused(fitted: uml.Result) -> None:
    images, _ = pictures(1)
    other = uml.embed(images, "pixels", cache=False, progress=False)
    with pytest.raises(InputError, match="not the one that the features were made with"):
        fitted.best().predict(other)


def test_other_weights_are_refused(fitted: uml.Result, tmp_path: Path) -> None:
    model = fitted.best()
    model._predictor.features.encoder["weights_digest"] = "0" * 64  # type: ignore[index]
    model._predictor._encoder = None
    with pytest.raises(InputError, match="its weights"):
        model.predict(pictures(1)[0])


def test_pairs_of_features_and_labels() -> None:
    images, labels = pictures(20)
    features = uml.embed(images, "hog-color", cache=False, progress=False).features
    result = uml.fit((features, labels), shots=4, seeds=1, methods="unimodal", progress=False)
    model = result.best()
    assert (model.predict(features) == np.array(labels)).mean() > 0.9
    with pytest.raises(InputError, match="takes features"):
        model.predict(images)
    wrong = features.copy()
    wrong[3, 1] = np.nan
    for some, said in (
        (wrong, "features of row 3 are not finite"),
        (features.astype(np.float64) * 1e300, "too large to compute with"),
        (np.ma.masked_array(features, np.isnan(wrong)), "features are masked"),
    ):
        with pytest.raises(InputError, match=said):
            model.predict(some)
    tensor = torch.tensor(features, requires_grad=True)
    assert (model.predict(tensor) == model.predict(features)).all()
    assert (model.predict(tensor.half()) == model.predict(features)).mean() > 0.9
    assert len(uml.embed(tensor.bfloat16(), "identity")) == len(features)


def test_a_group_lies_in_one_split(tmp_path: Path) -> None:
    images, labels = pictures(20)
    rng = np.random.default_rng(0)
    groups = [f"{label} {rng.integers(6)}" for label in labels]
    target = uml.embed(images, "hog-color", labels=labels, groups=groups, cache=False, progress=False)
    result = uml.fit(target, shots=2, seeds=1, methods="unimodal", out=tmp_path, progress=False)
    splits = json.loads((result.run.path / "splits.json").read_text())
    where: dict[str, set[str]] = {}
    for split in ("train", "val", "test"):
        for row in splits[split]:
            where.setdefault(groups[int(row)], set()).add(split)
    assert all(len(each) == 1 for each in where.values()), where
    assert {one for each in where.values() for one in each} == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "uml"}, "did you mean methods"),
        ({"aux": (np.zeros((3, 2)), list("abc"))}, "by name"),
        ({"name": "a/b"}, "letters, digits"),
        ({"shots": 500}, "500"),
        ({"shots": 2.5}, "shots is '2.5'; it takes numbers"),
    ],
)
def test_wrong_settings_are_said_in_a_line(options: dict[str, object], said: str, tmp_path: Path) -> None:
    images, labels = pictures(8)
    target = uml.embed(images, "hog-color", labels=labels, cache=False, progress=False)
    with pytest.raises(InputError, match=said):
        uml.fit(target, **{"out": tmp_path, "seeds": 1, "progress": False, **options})  # type: ignore[arg-type]


def test_samples_without_labels_are_refused() -> None:
    images, _ = pictures(1)
    with pytest.raises(InputError, match="has no labels"):
        uml.fit(uml.embed(images, "hog-color", cache=False, progress=False))


def test_advice(tmp_path: Path) -> None:
    images, labels = pictures(20)
    texts, names = sentences(6)
    ours = uml.embed(images, "hog-color", labels=labels, cache=False, progress=False)
    theirs = uml.embed(texts, "hashed-ngrams", labels=names, cache=False, progress=False)
    found = uml.advise(ours, theirs, shots=[1, 2], progress=False)
    assert list(found.table()["shots"]) == [1, 2]
    assert "text" in str(found)
