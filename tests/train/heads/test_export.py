"""Heads that people take away: folded normalisation, three lines, ONNX, and the scikit-learn classifier."""

from __future__ import annotations

import itertools
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from uml_cache import open_features
from uml_cache.errors import InputError
from uml_train import TrainSettings, UMLClassifier, load_head, train
from uml_train.data.normalize import Normalizer
from uml_train.heads.export import head_file
from uml_train.heads.weights import initial_weights

Settings = Callable[..., TrainSettings]


@pytest.mark.parametrize("normalize", ["none", "center", "standard", "l2", "center-l2", "shrunk"])
def test_three_lines_repeat_the_recorded_predictions(
    cache: Path, settings_for: Settings, normalize: str
) -> None:
    run = train(settings_for(cache, auxiliaries=(("text",),), normalize=normalize, seeds=(1,)))
    features = open_features(cache / "toy" / "image" / "made-up.zarr")
    raw = features.pooled[features.split == 2].float()
    assert len(run.cells) == 5
    for result in run.cells:
        head = load_head(result.head_path)
        assert np.array_equal(head.predict(raw), result.test_predictions)
        assert np.array_equal(head.predict(raw.numpy()), result.test_predictions)
        assert head.classes == tuple(run.config["classes"])
        assert head.about["encoder"] == "made-up"
        assert head.about["method"] == result.cell.method
        probability = head.predict_proba(raw.numpy())
        np.testing.assert_allclose(probability.sum(1), 1.0, rtol=1e-5)
        np.testing.assert_allclose(probability, head.predict_proba(raw).numpy(), atol=1e-4)


def _head(tmp_path: Path, kind: str, *, projected: bool = True, hidden: int = 0) -> tuple[Path, Any]:
    """A head file of random weights, and the function that it stands for, computed step by step."""
    torch.manual_seed(0)
    weights = initial_weights(
        [("image", 6 if projected else 5, projected, 3.0)], classes=4, width=5, seed=1, hidden=hidden
    )
    if weights.trunk is not None:
        weights.trunk[1].normal_()
    normalizer = Normalizer.fit(kind, 2 + 3 * torch.randn(50, 6 if projected else 5))
    path = tmp_path / "head.safetensors"
    about = {"classes": list("abcd"), "encoder": "made-up"}
    path.write_bytes(head_file(weights, ["image"], {"image": normalizer}, about))
    return path, lambda x: weights.logits(normalizer(x))


@pytest.mark.parametrize("kind", ["none", "center", "standard", "l2", "center-l2", "shrunk"])
@pytest.mark.parametrize(("projected", "hidden"), [(True, 0), (False, 0), (True, 7), (False, 7)])
def test_folded_head_and_onnx_give_the_unfolded_logits(
    tmp_path: Path, kind: str, projected: bool, hidden: int
) -> None:
    path, stepwise = _head(tmp_path, kind, projected=projected, hidden=hidden)
    head = load_head(path)
    x = 2 + 3 * torch.randn(30, head.features)
    x[0] = 0.0  # unit length must not divide by zero
    expected = stepwise(x)
    torch.testing.assert_close(head.logits(x), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(head.logits(x.numpy()), expected, rtol=1e-4, atol=1e-4)
    model = head.to_onnx(tmp_path / "head.onnx")
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    for rows in (30, 1):
        (logits,) = session.run(None, {"features": x[:rows].numpy()})
        np.testing.assert_allclose(logits, expected[:rows], rtol=1e-4, atol=1e-4)
    assert session.get_modelmeta().custom_metadata_map["classes"] == '["a", "b", "c", "d"]'


def test_without_unit_length_two_matrices_are_all_one_needs(tmp_path: Path) -> None:
    path, stepwise = _head(tmp_path, "standard")
    head = load_head(path)
    x = torch.randn(9, 6)
    by_hand = x.numpy() @ head.weight.T + head.bias
    np.testing.assert_allclose(by_hand, stepwise(x), rtol=1e-4, atol=1e-4)


def test_wrong_files_and_wrong_widths(tmp_path: Path) -> None:
    path, _ = _head(tmp_path, "none")
    with pytest.raises(InputError, match=r"takes \(n, 6\).*made-up"):
        load_head(path).logits(torch.zeros(3, 5))
    with pytest.raises(InputError, match="takes"):
        load_head(path).logits(np.zeros(6))
    with pytest.raises(InputError, match="is no file"):
        load_head(tmp_path)
    path.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="is no head"):
        load_head(path)


def _not_to_seven_digits(_: Any) -> dict[str, str]:
    return {"check_sample_weight_equivalence_on_dense_data": "solved in single precision; see below"}


@parametrize_with_checks([UMLClassifier(random_state=0)], expected_failed_checks=_not_to_seven_digits)
def test_scikit_learn(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)


def _world(seed: int, n: int, dim: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(n) % 6
    centres = np.random.default_rng(dim).standard_normal((6, dim))
    return centres[labels] + noise * np.random.default_rng(seed).standard_normal((n, dim)), labels


def test_classifier_learns_from_unpaired_auxiliaries() -> None:
    x, y = _world(1, 60, 12, 2.0)
    text, words = _world(2, 120, 16, 0.3)
    test, labels = _world(3, 600, 12, 2.0)
    names = np.array(["ant", "bee", "cat", "dog", "eel", "fox"])
    others = {"text": (text, names[words]), "audio": _named(names, _world(4, 40, 7, 0.3))}
    said = "audio: 7 of 40 rows are left out, y has no such label: 'gnu'"
    with pytest.warns(UserWarning, match=said):
        classifier = UMLClassifier(method="uml-init", random_state=1).fit(x, names[y], auxiliaries=others)
    assert classifier.score(test, names[labels]) > 0.5
    assert classifier.predict_proba(test).shape == (600, 6)
    assert set(classifier.predict(test)) <= set(names)
    with pytest.warns(UserWarning, match=said):
        again = UMLClassifier(method="uml-init", random_state=1).fit(x, names[y], auxiliaries=others)
    assert np.array_equal(again.decision_function(test), classifier.decision_function(test))
    assert np.array_equal(pickle.loads(pickle.dumps(classifier)).predict(test), classifier.predict(test))
    alone = UMLClassifier(random_state=1).fit(x, names[y])
    assert not np.allclose(alone.head_.weight, classifier.head_.weight)


def _named(names: np.ndarray, world: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The first class is one that the target does not have: its rows are left out."""
    return world[0], np.where(world[1] == 0, "gnu", names[world[1]])


def test_classifier_in_a_pipeline_and_its_errors() -> None:
    x, y = _world(1, 60, 12, 0.5)
    pipeline = make_pipeline(MinMaxScaler(), UMLClassifier(random_state=0)).fit(x, y)
    assert pipeline.score(x, y) > 0.9
    with pytest.raises(ValueError, match="needs auxiliaries"):
        UMLClassifier(method="uml-init").fit(x, y)
    with pytest.raises(ValueError, match="no row with a label of y"):
        UMLClassifier().fit(x, y, auxiliaries={"text": (x, y + 10)})
    with pytest.raises(ValueError, match="labels of shape"):
        UMLClassifier().fit(x, y, auxiliaries={"text": (x, y[1:])})


def test_a_classifier_refuses_masked_values() -> None:
    x, y = _world(1, 60, 12, 0.5)
    hidden = np.ma.masked_array(y, y == 1)
    with pytest.raises(ValueError, match=r"^X holds [0-9]+ masked values"):
        UMLClassifier().fit(np.ma.masked_array(x, x > 2), y)
    with pytest.raises(ValueError, match=r"^y holds 10 masked values"):
        UMLClassifier().fit(x, hidden)
    with pytest.raises(ValueError, match=r"^label of text holds 10 masked values"):
        UMLClassifier().fit(x, y, auxiliaries={"text": (x, hidden)})
    plain = UMLClassifier(random_state=0).fit(x, y)
    unmasked = UMLClassifier(random_state=0).fit(np.ma.masked_array(x), np.ma.masked_array(y))
    assert np.array_equal(unmasked.decision_function(x), plain.decision_function(x))


def test_a_classifier_of_dates_is_kept(tmp_path: Path) -> None:
    x, y = _world(1, 60, 12, 0.5)
    days = np.datetime64("2020-01-30") + y
    model = UMLClassifier(random_state=0).fit(x, days)
    again = UMLClassifier.load(model.save(tmp_path / "days.safetensors"))
    assert again.classes_.dtype == days.dtype
    assert np.array_equal(again.predict(x), model.predict(x))


def test_classifier_is_no_worse_than_a_pipeline_of_scikit_learns() -> None:
    """On its own, on scikit-learn's data sets: standardised logistic regression, as cross-validated."""
    apart = []
    for load in (load_iris, load_wine, load_breast_cancer, load_digits):
        x, y = load(return_X_y=True)
        for n, seed in itertools.product((40, 100), range(4)):
            rows, test, labels, answers = train_test_split(x, y, train_size=n, stratify=y, random_state=seed)
            rival = make_pipeline(StandardScaler(), LogisticRegressionCV(cv=3, max_iter=5_000))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = rival.fit(rows, labels).score(test, answers)
            ours = UMLClassifier(random_state=0).fit(rows, labels).score(test, answers)
            apart.append(ours - theirs)
    assert np.mean(apart) >= 0, apart


def test_classifier_takes_every_method_and_control() -> None:
    x, y = _world(1, 36, 12, 2.0)
    others = {"text": _world(2, 60, 16, 0.3)}
    for method in ("unimodal", "unimodal-deep", "init-only", "uml", "uml-init"):
        model = UMLClassifier(method=method, random_state=0).fit(x, y, auxiliaries=others)
        assert model.method_ == method
        assert model.score(x, y) > 0.5
    best = UMLClassifier(method="auto", controls=("permuted", "random"), random_state=0)
    best.fit(x, y, auxiliaries=others)
    assert best.method_ in ("unimodal", "unimodal-deep", "init-only", "uml", "uml-init")
    assert set(best.control_scores_) in (set(), {"permuted", "random"})
    controlled = UMLClassifier(controls=("permuted",), random_state=0).fit(x, y, auxiliaries=others)
    assert 0 <= controlled.control_scores_["permuted"] <= 100
    part = UMLClassifier(refit=False, random_state=0).fit(x, y)
    assert not np.array_equal(part.head_.weight, UMLClassifier(random_state=0).fit(x, y).head_.weight)
    with pytest.raises(ValueError, match="it takes unimodal"):
        UMLClassifier(method="umll").fit(x, y)
    with pytest.raises(ValueError, match="they are permuted"):
        UMLClassifier(controls=("rnadom",)).fit(x, y, auxiliaries=others)


@pytest.mark.parametrize("kind", ["names", "numbers", "objects"])
def test_classifier_is_saved_and_loaded(kind: str, tmp_path: Path) -> None:
    x, y = _world(1, 60, 12, 1.0)
    names = np.array(["ant", "bee", "cat", "dog", "eel", "fox"])
    labels = {"names": names[y], "numbers": 3 * y, "objects": names.astype(object)[y]}[kind]
    frame = pd.DataFrame(x, columns=[f"f{i}" for i in range(12)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = UMLClassifier(random_state=0).fit(frame, pd.Series(labels))
        loaded = UMLClassifier.load(model.save(tmp_path / "model.safetensors"))
        assert np.array_equal(loaded.predict(frame), model.predict(frame))
        assert np.array_equal(loaded.predict_proba(frame), model.predict_proba(frame))
    assert loaded.get_params() == {**model.get_params(), "controls": []}
    assert loaded.classes_.dtype == model.classes_.dtype
    assert np.array_equal(load_head(tmp_path / "model.safetensors").predict(x), loaded.head_.predict(x))


def test_a_weight_of_two_is_a_row_twice() -> None:
    x, y = _world(1, 48, 12, 2.0)
    test, _ = _world(2, 60, 12, 2.0)
    counts = np.random.default_rng(0).integers(0, 3, 48)
    part = np.arange(48) // 6 % 2
    splits = [np.flatnonzero(part != p) for p in (0, 1)], [np.flatnonzero(part == p) for p in (0, 1)]
    weighted = UMLClassifier(cv=list(zip(*splits, strict=True)), random_state=0)
    weighted.fit(x, y, sample_weight=counts)
    again = np.repeat(np.arange(48), counts)
    splits = (
        [np.flatnonzero(part[again] != p) for p in (0, 1)],
        [np.flatnonzero(part[again] == p) for p in (0, 1)],
    )
    repeated = UMLClassifier(cv=list(zip(*splits, strict=True)), random_state=0).fit(x[again], y[again])
    assert weighted.point_ == repeated.point_
    assert weighted.val_acc_ == pytest.approx(repeated.val_acc_)
    assert np.abs(weighted.predict_proba(test) - repeated.predict_proba(test)).max() < 0.02


def test_weights_of_samples_count() -> None:
    x, y = _world(1, 60, 12, 2.0)
    once = UMLClassifier(random_state=0).fit(x, y)
    same = UMLClassifier(random_state=0).fit(x, y, sample_weight=np.ones(60))
    assert np.allclose(once.head_.weight, same.head_.weight, atol=1e-5)
    gone = np.where(y == 2, 0.0, 1.0)
    assert 2 not in UMLClassifier(random_state=0).fit(x, y, sample_weight=gone).predict(x)
    heavy = np.where(y == 2, 50.0, 1.0)
    found = UMLClassifier(random_state=0).fit(x, y, sample_weight=heavy)
    assert (found.predict(x) == 2).sum() >= (once.predict(x) == 2).sum()
