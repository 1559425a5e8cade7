"""`uml eval --advise` as it is typed: what it reads, what it says, and one line for every mistake."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from toy_stores import write_store
from uml_cache.cli import main
from uml_evaluate.advice import advise
from uml_evaluate.advice.combine import (
    DEAD_ZONE,
    LEVEL,
    SURE,
    WITH_PILOT,
    WITHOUT_PILOT,
    judged,
    predict,
)
from uml_evaluate.advice.evidence import Evidence
from uml_evaluate.advice.geometry import Agreement
from uml_evaluate.advice.wording import advice_text

CLASSES = tuple(f"class {c}" for c in range(10))
GEOMETRY = np.repeat(
    np.random.default_rng(0).standard_normal((5, 3)), 2, axis=0
) + 0.3 * np.random.default_rng(1).standard_normal((10, 3))


def _features(labels: np.ndarray, dim: int, noise: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((dim, 3)))[0]
    return (GEOMETRY @ basis.T)[labels] + noise * rng.standard_normal((len(labels), dim))


def _cache(feats: Path, *, poison: bool = False, per_class: int = 8) -> Path:
    """Pictures with splits, texts of the same geometry, sounds whose classes are swapped."""
    splits = np.tile(np.repeat([0, 1, 2], [per_class, 4, 12]), 10)
    labels = np.repeat(np.arange(10), per_class + 16)
    pictures = _features(labels, 20, 0.5, 2)
    if poison:
        held_out = splits > 0
        pictures[held_out] = 50 * np.random.default_rng(9).standard_normal(pictures[held_out].shape)
        labels = labels.copy()
        labels[splits == 2] = np.roll(labels[splits == 2], 40)
    write_store(feats, "image", pictures, labels, splits, classes=CLASSES)
    words = np.repeat(np.arange(10), 6)
    write_store(feats, "text", _features(words, 24, 0.1, 3), words, np.full(60, 255), classes=CLASSES)
    swapped = np.random.default_rng(4).permutation(10)[words]
    write_store(feats, "audio", _features(words, 16, 0.1, 5), swapped, np.full(60, 255), classes=CLASSES)
    return feats


def _uml(*arguments: object) -> int:
    with pytest.raises(SystemExit) as leaving:
        main([str(argument) for argument in arguments])
    return int(leaving.value.code or 0)


def test_shared_geometry_is_rated_above_a_swapped_one(tmp_path: Path) -> None:
    found = advise(_cache(tmp_path / "feats"), target="image", k=(1, 2, 8))
    assert [(e.auxiliary, e.shots) for e in found.estimates] == [
        (name, k) for name in ("audio", "text") for k in (1, 2, 8)
    ]
    rated = {(e.auxiliary, e.shots): e for e in found.estimates}
    right, wrong = rated["text", 2], rated["audio", 2]
    assert right.prediction.estimate > wrong.prediction.estimate
    assert right.evidence.agreement is not None
    assert wrong.evidence.agreement is not None
    assert right.evidence.agreement.p < 0.05 < wrong.evidence.agreement.p
    assert right.prediction.low < right.prediction.estimate < right.prediction.high
    for name in ("text", "audio"):
        assert rated[name, 1].prediction.verdict == "can't tell"  # a k that the study did not judge
        assert rated[name, 8].prediction.verdict == "can't tell"  # no row left to try anything on
        assert rated[name, 8].evidence.pilot_late is None


def test_validation_and_test_rows_change_nothing(tmp_path: Path) -> None:
    """Their features are replaced by noise, and the test labels by others: the advice stays bit for bit."""
    plain = advise(_cache(tmp_path / "plain"), k=(2,)).to_json()
    poisoned = advise(_cache(tmp_path / "poisoned", poison=True), k=(2,)).to_json()
    assert plain["advice"] == poisoned["advice"]
    changed = advise(_cache(tmp_path / "fewer", per_class=5), k=(2,)).to_json()
    assert plain["advice"] != changed["advice"]  # training rows do count


def test_the_command_prints_a_table_and_a_sentence_for_every_k(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    feats = _cache(tmp_path / "feats")
    assert _uml("eval", "--advise", "--cache", feats, "--target", "image", "--k", "2,8") == 0
    printed = capsys.readouterr().out
    for name in ("text (made-up)", "audio (made-up)"):
        for k in (2, 8):
            assert sum(line.startswith(f"At k = {k} ") and name in line for line in printed.splitlines()) == 1
    assert "interval" in printed


def test_json_is_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    feats = _cache(tmp_path / "feats")
    assert _uml("eval", "--advise", "--cache", feats, "--k", "2,8", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["dataset"], printed["target"], printed["rows_per_class"]) == ("toy", "image", 8)
    assert printed["skipped"] == []
    assert len(printed["advice"]) == 4
    for entry in printed["advice"]:
        assert {"auxiliary", "encoder", "shots", "estimate", "ci_low", "ci_high", "verdict", "agreement",
                "agreement_z", "agreement_p", "pilot_late", "pilot_best",
                "sentence"} == set(entry)  # fmt: skip
        assert entry["verdict"] in entry["sentence"] or entry["verdict"] == "can't tell"


def test_two_encoders_of_one_modality_are_two_auxiliaries(tmp_path: Path) -> None:
    feats = _cache(tmp_path / "feats")
    words = np.repeat(np.arange(10), 6)
    write_store(
        feats, "text", _features(words, 12, 2.0, 7), words, np.full(60, 255), classes=CLASSES, encoder="other"
    )
    names = {e.auxiliary for e in advise(feats, k=(2,)).estimates}
    assert names == {"audio", "text:made-up", "text:other"}


def test_an_auxiliary_that_cannot_be_used_is_left_out_and_named(tmp_path: Path) -> None:
    feats = _cache(tmp_path / "feats")
    labels = np.zeros(1000, dtype=int)
    write_store(feats, "video", np.ones((1000, 4)), labels, np.full(1000, 255), classes=CLASSES, tasks=1)
    write_store(feats, "touch", np.ones((4, 4)), [0, 0, 1, 1], np.full(4, 255), classes=("x", "y"))
    found = advise(feats, k=(2,))
    assert {e.auxiliary for e in found.estimates} == {"audio", "text"}
    assert "uml extract" in found.skipped["video"]
    assert "no class in common" in found.skipped["touch"]
    assert "video" not in advice_text(found)


def _only_pictures(feats: Path) -> None:
    labels = np.arange(40) % 4
    write_store(feats, "image", np.ones((40, 4)), labels, np.full(40, 255), classes=CLASSES[:4])


def _no_labels(feats: Path) -> None:
    write_store(feats, "image", np.ones((40, 4)), np.full(40, -1), np.full(40, 255), classes=())
    write_store(feats, "text", np.ones((40, 4)), np.full(40, -1), np.full(40, 255), classes=())


def _no_common_class(feats: Path) -> None:
    _only_pictures(feats)
    write_store(feats, "text", np.ones((4, 4)), [0, 0, 1, 1], np.full(4, 255), classes=("x", "y"))


def _unsealed_target(feats: Path) -> None:
    labels = np.arange(1000) % 4
    write_store(feats, "image", np.ones((1000, 4)), labels, np.full(1000, 255), classes=CLASSES[:4], tasks=1)
    write_store(feats, "text", np.ones((40, 4)), labels[:40], np.full(40, 255), classes=CLASSES[:4])


def _whole(feats: Path) -> None:
    _cache(feats)


@pytest.mark.parametrize(
    ("prepare", "options", "says"),
    [
        (lambda feats: None, "", "uml extract"),
        (_only_pictures, "", "only image"),
        (_no_labels, "", "no labels"),
        (_no_common_class, "", "--class-map"),
        (_unsealed_target, "", "not finished"),
        (_whole, "--target picture", "--target"),
        (_whole, "--target txt", "did you mean text"),
        (_whole, "--dataset toi", "did you mean toy"),
        (_whole, "--k 9", "8 training rows"),
        (_whole, "--k 0", "at least 1"),
        (_whole, "--probe linear", "--probe linear"),
        (_whole, "--class-map absent.csv", "absent.csv"),
    ],
)
def test_one_line_for_every_mistake(
    prepare: Callable[[Path], None],
    options: str,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path / "feats")
    assert _uml("eval", "--advise", "--cache", "feats", "--quiet", *options.split()) == 2
    printed = capsys.readouterr().err.strip().splitlines()
    assert len(printed) == 1
    assert printed[0].startswith("error: ")
    assert says in printed[0]


def test_options_of_advice_need_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert _uml("eval", "--target", "image") == 2
    assert "--advise" in capsys.readouterr().err


def test_verdicts_follow_the_predictive_distribution() -> None:
    sure = NormalDist().inv_cdf(SURE)
    assert judged(1.01 * sure, 1.0).verdict == "helps"
    assert judged(-1.01 * sure, 1.0).verdict == "hurts"
    assert judged(0.99 * sure, 2.0).verdict == "can't tell"
    assert judged(0.0, 0.99 * DEAD_ZONE / sure).verdict == "no difference"
    assert judged(0.0, 1.01 * DEAD_ZONE / sure).verdict == "can't tell"
    assert judged(9.0, 1.0, speaks=False).verdict == "can't tell"
    wide = NormalDist().inv_cdf(0.5 + LEVEL / 2)
    assert judged(2.0, 3.0).low == pytest.approx(2.0 - 3.0 * wide)
    assert judged(2.0, 3.0).high == pytest.approx(2.0 + 3.0 * wide)


def test_the_estimate_is_what_the_study_fits() -> None:
    """Weights and spreads are those that the committed measurements give, fitted anew."""
    folder = Path(__file__).parents[2] / "benchmarks"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        judge = importlib.import_module("advice_judge")
    found = judge.constants(judge.load())
    for case, fit in (("rich", WITH_PILOT), ("poor", WITHOUT_PILOT)):
        assert {"pilot": 0.0} | found[case] == asdict(fit)


def test_prediction_by_hand() -> None:
    agreed = Agreement(alignment=0.5, z=5.0, p=0.005)
    evidence = Evidence(shots=4, spare=True, agreement=agreed, pilot_late=9.0, pilot_best=2.0, seconds=0.1)
    expected = WITH_PILOT.intercept + WITH_PILOT.geometry * np.tanh(1.0) + WITH_PILOT.pilot * (6.0 + 2.0) / 2
    assert predict(evidence).estimate == pytest.approx(expected)
    assert predict(evidence).verdict == "helps"
    assert predict(replace(evidence, shots=1)).verdict == "can't tell"
    blind = replace(evidence, spare=False, pilot_late=None, pilot_best=None)
    assert predict(blind).verdict == "can't tell"
    assert predict(blind).estimate == pytest.approx(
        WITHOUT_PILOT.intercept + WITHOUT_PILOT.geometry * np.tanh(1.0)
    )
    assert predict(replace(blind, agreement=None)).estimate == pytest.approx(WITHOUT_PILOT.intercept)
