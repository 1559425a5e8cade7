"""A recipe's verdicts, on features that lie beside its data as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from toy_stores import clusters
from uml_cache.errors import InputError
from uml_evaluate.commands.reproduce_command import reproduce
from uml_evaluate.comparing.significance import holm, sign_flip_p
from uml_evaluate.reproduce.feature_files import FeatureFile
from uml_evaluate.reproduce.recipe.recipe import parse_recipe
from uml_evaluate.reproduce.verdicts import smallest_effect
from uml_train import find_runs

NAMES = np.array(["ash", "birch", "cedar", "dogwood", "elm"])
RECIPE = """
title = "trees"
kind = "heads"
datasets = ["trees"]
auxiliaries = ["text"]
encoders = { image = "eye", text = "ear" }
probes = ["textbook"]
baselines = ["unimodal", "ridge", "textbook"]
verdicts = ["prior", "uml"]

[train]
methods = ["unimodal", "ridge", "prior", "unimodal-deep", "uml"]
controls = ["permuted"]
shots = [1, 2]
seeds = [7, 8, 9]

[[files]]
dataset = "trees"
place = "image"
encoder = "eye"
file = "features/pictures.npz"
classes = 4

[[files]]
dataset = "trees"
place = "text"
encoder = "ear"
file = "features/texts.npz"
classes = 4
"""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with features as files, and the recipe beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "handed" / "features").mkdir(parents=True)
    labels = np.tile(np.arange(5), 24)
    rows = np.array([f"row{i}" for i in range(120)])
    np.savez(
        tmp_path / "handed/features/pictures.npz",
        features=clusters(1, labels, 12, 1.5), labels=NAMES[labels], ids=rows,
        splits=np.repeat(["train", "val", "test"], 40),
    )  # fmt: skip
    np.savez(
        tmp_path / "handed/features/texts.npz",
        features=clusters(2, labels[:20], 16, 0.5), labels=labels[:20], classes=NAMES, ids=rows[:20],
    )  # fmt: skip
    (tmp_path / "study.toml").write_text(RECIPE)
    return tmp_path / "handed"


def _uml(*words: object) -> Any:
    result = CliRunner().invoke(reproduce, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def test_verdicts_are_those_of_the_strongest_baseline_and_holm(data: Path, tmp_path: Path) -> None:
    words = ["study.toml", "--data", data, "--out", "out"]
    said = _uml(*words).output
    assert "strongest without" in said
    value = json.loads((tmp_path / "out" / "result.json").read_text())
    (run,) = find_runs(tmp_path / "out" / "runs")
    accuracy = {
        (cell.cell.method, cell.cell.control, cell.cell.shots, cell.cell.seed): cell.test_acc
        for cell in run.cells
    }
    found = value["verdicts"]
    assert {(one["method"], one["shots"]) for one in found} == {
        (method, k) for method in ("prior", "prior[permuted]", "uml", "uml[permuted]") for k in (1, 2)
    }
    for one in found:
        k = one["shots"]
        means = {
            name: np.mean([accuracy[name, None, k, seed] for seed in (7, 8, 9)])
            for name in ("unimodal", "ridge", "textbook")
        }
        assert means[one["baseline"]] == max(means.values())
        method, _, control = one["method"].rstrip("]").partition("[")
        differences = np.array(
            [
                accuracy[method, control or None, k, s] - accuracy[one["baseline"], None, k, s]
                for s in (7, 8, 9)
            ]
        )
        assert one["delta"] == pytest.approx(differences.mean())
        assert one["ci_low"] <= one["delta"] <= one["ci_high"]
        assert one["p"] == pytest.approx(sign_flip_p(differences))
    tested = [one for one in found if "[" not in one["method"]]
    assert [one["p_holm"] for one in tested] == pytest.approx(holm([one["p"] for one in tested]))
    assert all(one["p_holm"] is None for one in found if "[" in one["method"])
    # The same command trains nothing, and gives the same numbers.
    _uml(*words)
    assert json.loads((tmp_path / "out" / "result.json").read_text())["verdicts"] == found


def test_a_number_of_classes_is_part_of_a_larger_number(data: Path) -> None:
    def classes(count: int) -> set[str]:
        file = FeatureFile(dataset="t", place="text", encoder="e", file="features/texts.npz", classes=count)
        found = file._some(data / file.file)
        assert len(found["features"]) == len(found["ids"]) == 4 * count
        return set(found["labels"].tolist())

    assert classes(2) < classes(3) < classes(4)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ('dataset = "t"', "a table has dataset, place, encoder and file"),
        ('dataset = "t"\nplace = "image"\nencoder = "e"\nfile = "f"\nclasses = 1', "from 2 on"),
        ('dataset = "t"\nplace = "image"\nencoder = "e"\nfile = "f"\ncolour = 1', "colour"),
    ],
)
def test_what_is_no_feature_file_is_refused(files: str, message: str) -> None:
    text = RECIPE.split("[[files]]")[0] + f"[[files]]\n{files}\n"
    with pytest.raises(InputError, match=message):
        parse_recipe(text, "study", "study.toml")


def test_a_class_or_a_file_that_is_not_there_is_said(data: Path) -> None:
    about = {"dataset": "t", "place": "text", "encoder": "e"}
    with pytest.raises(InputError, match="no class 'fir'"):
        FeatureFile(**about, file="features/texts.npz", classes=("ash", "fir")).make(data, data / "feats")
    with pytest.raises(InputError, match=r"no data: .*none.npz is not there"):
        FeatureFile(**about, file="none.npz").make(data, data / "feats")


def test_verdicts_need_baselines() -> None:
    with pytest.raises(InputError, match="give both"):
        parse_recipe(RECIPE.replace('baselines = ["unimodal", "ridge", "textbook"]\n', ""), "s", "s.toml")


def test_the_smallest_effect_is_found_with_its_probability() -> None:
    """By simulation: normal differences with that mean are significant four times in five."""
    rng = np.random.default_rng(0)
    effect = smallest_effect(2.0, 12, 10)
    draws = rng.normal(effect, 2.0, (4_000, 12))
    found = stats.ttest_1samp(draws, 0.0, axis=1).pvalue < 0.05 / 10
    assert 0.77 < found.mean() < 0.83
