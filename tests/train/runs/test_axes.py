"""The axes of a sweep: equal search, alpha, ratio, auto, unrelated data, aligned encoders, any target."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from toy_stores import clusters, write_store
from uml_cache import open_features
from uml_cache.errors import InputError
from uml_cache.settings import declared
from uml_train import TrainSettings, complete, load_grid, load_head, load_run, train
from uml_train.commands import train as train_command
from uml_train.data.controls import injection
from uml_train.training import open_run_problem

Settings = Callable[..., TrainSettings]
TEXT = (("text",),)


def test_grid_axes_and_equal_numbers_of_candidates(tmp_path: Path) -> None:
    file = tmp_path / "axes.toml"
    file.write_text(
        "lr = [0.01]\nalpha = [0.2, 0.5, 1]\nratio = [0.25, 1, 4]\nlearnable_scale = [false, true]\n"
    )
    grid = load_grid(str(file))
    assert len(grid.candidates) == 18
    assert {(c.alpha, c.ratio) for c in grid.candidates} == {
        (a, r) for a in (0.2, 0.5, 1.0) for r in (0.25, 1.0, 4.0)
    }
    alone = grid.candidates_for(auxiliary_loss=False)
    assert len(set(alone)) == 18  # no model is trained twice
    assert {(c.alpha, c.ratio) for c in alone} == {(None, None)}
    assert sorted(c.repeat for c in alone) == sorted([*range(9)] * 2)
    fixed = grid.candidates_for(auxiliary_loss=True, learns_scale=False)
    assert len(set(fixed)) == 18
    assert not any(c.learnable_scale for c in fixed)
    assert all(c.repeat == 0 for c in grid.candidates_for(auxiliary_loss=True))
    assert load_grid(str(file), alpha=(2.0,), ratio=(0.5, 2.0)).candidates[1].ratio == 2.0
    file.write_text("ratio = [3]\n")
    with pytest.raises(InputError, match=r"it takes 0\.25, 0\.5, 1, 2, 4"):
        load_grid(str(file))


def test_every_method_and_control_gets_the_same_search(cache: Path, settings_for: Settings) -> None:
    run = train(
        settings_for(cache, auxiliaries=TEXT, controls=("random",), alpha=(0.5, 1.0), ratio=(0.5, 2.0))
    )
    assert {len(r.candidates) for r in run.cells} == {8}
    rows = list(csv.DictReader((run.path / "results.csv").read_text().splitlines()))
    searched = {(r["alpha"], r["ratio"], r["repeat"]) for r in rows if r["method"] == "uml"}
    assert searched == {(a, r, "0") for a in ("0.5", "1.0") for r in ("0.5", "2.0")}
    alone = next(r for r in run.cells if r.cell.method == "unimodal-deep")
    assert {c["repeat"] for c in alone.candidates} == {0, 1, 2, 3}
    histories = [json.dumps(h) for h in alone.history]
    assert len(set(histories)) == 8  # each repeat is another start and another order
    with pytest.raises(InputError, match="ratio is 3"):
        settings_for(cache, ratio=(3.0,))
    with pytest.raises(InputError, match="different numbers"):
        settings_for(cache, alpha=(1.0, 1.0))
    alpha = declared(TrainSettings)["alpha"]
    assert alpha.read("0.5,1", "--alpha") == (0.5, 1.0)
    with pytest.raises(InputError, match="--alpha"):
        alpha.read("0.5;1", "--alpha")


def test_auto_takes_what_validates_best_and_trains_nothing(cache: Path, settings_for: Settings) -> None:
    plain = train(settings_for(cache))
    run = train(
        settings_for(cache, methods=("unimodal", "unimodal-deep", "init-only", "uml", "uml-init", "auto"))
    )
    assert sum(len(r.candidates) for r in run.cells if r.chosen is None) == sum(
        len(r.candidates) for r in plain.cells
    )
    chosen = [r for r in run.cells if r.cell.method == "auto"]
    assert len(chosen) == 2 * 3  # seeds × configurations
    simplest_first = ["unimodal", "unimodal-deep", "init-only", "uml", "uml-init"]
    for result in chosen:
        rivals = {
            r.cell.method: r
            for r in run.cells
            if r.cell.seed == result.cell.seed
            and (r.cell.method == "unimodal" or r.cell.shared_width == result.cell.shared_width)
            and (not r.cell.auxiliaries or r.cell.auxiliaries == result.cell.auxiliaries)
            and r.chosen is None
        }
        best = max(r.val_acc for r in rivals.values())
        expected = next(m for m in simplest_first if rivals[m].val_acc == best)
        assert result.chosen == expected
        assert result.test_acc == rivals[expected].test_acc
        assert np.array_equal(result.test_predictions, rivals[expected].test_predictions)
        assert load_head(result.head_path).about["method"] == expected
    rows = list(csv.DictReader((run.path / "results.csv").read_text().splitlines()))
    assert sum(r["method"] == "auto" for r in rows) == len(chosen)
    added = complete(run, shots=(4,))
    assert {c.method for c in added} == {*simplest_first, "auto"}
    with pytest.raises(InputError, match="no method to train"):
        settings_for(cache, methods=("auto",))


def _other_data_set(cache: Path, classes: int) -> tuple[str, ...]:
    names = tuple(f"bird {i}" for i in range(classes))
    words = np.tile(np.arange(classes), 6)
    write_store(
        cache,
        "text",
        clusters(7, words, 16, 0.5),
        words,
        np.full(len(words), 255),
        dataset="birds",
        classes=names,
    )
    return names


@pytest.mark.parametrize("classes", [3, 5, 9])
def test_unrelated_data_stands_in_by_a_recorded_injection(
    cache: Path, settings_for: Settings, classes: int
) -> None:
    names = _other_data_set(cache, classes)
    run = train(
        settings_for(cache, dataset="toy", auxiliaries=TEXT, methods=("uml",), controls=("unrelated:birds",))
    )
    controls = [r for r in run.cells if r.cell.control == "unrelated:birds"]
    assert len(controls) == 2
    for result in controls:
        assert len(result.injection) == min(classes, 5)
        assert set(result.injection) <= set(names)
        assert len(set(result.injection.values())) == len(result.injection)
        assert set(result.injection.values()) <= set(run.config["classes"])
    assert controls[0].injection != controls[1].injection
    assert "text@birds" in run.config["stores"]
    again = open_run_problem(load_run(run.path))
    assert list(again.unrelated["text@birds"].features.classes) == list(names)


def test_injection_goes_by_name_and_is_seeded() -> None:
    names = ["c", "a", "b"]
    first = dict(zip(names, injection(names, 7, "birds", 1).tolist(), strict=True))
    other = dict(zip(names[::-1], injection(names[::-1], 7, "birds", 1).tolist(), strict=True))
    assert first == other
    assert len(set(first.values())) == 3
    assert any(injection(names, 7, "birds", s).tolist() != list(first.values()) for s in range(2, 6))
    many = injection([str(i) for i in range(20)], 4, "birds", 1)
    assert sorted(many[many >= 0]) == [0, 1, 2, 3]


def test_unrelated_data_that_is_not_there(cache: Path, settings_for: Settings) -> None:
    with pytest.raises(InputError, match="unrelated:NAME"):
        settings_for(cache, controls=("unrelated",))
    _other_data_set(cache, 3)
    with pytest.raises(InputError, match="did you mean unrelated:birds"):
        train(settings_for(cache, dataset="toy", auxiliaries=TEXT, controls=("unrelated:bird",)))
    with pytest.raises(InputError, match="needs its audio from made-up"):
        train(settings_for(cache, dataset="toy", auxiliaries=(("audio",),), controls=("unrelated:birds",)))


@pytest.fixture
def joint_cache(tmp_path: Path) -> Path:
    """Pictures and texts of one joint space (16 wide), and sounds of their own."""
    feats = tmp_path / "joint"
    labels, words = np.tile(np.arange(5), 32), np.tile(np.arange(5), 10)
    splits = np.repeat([0, 1, 2], [40, 20, 100])
    write_store(feats, "image", clusters(1, labels, 16, 1.5), labels, splits, joint_space="both")
    write_store(feats, "text", clusters(2, words, 16, 0.5), words, np.full(50, 255), joint_space="both")
    write_store(feats, "audio", clusters(3, words, 10, 0.5), words, np.full(50, 255))
    return feats


def test_aligned_encoders_need_no_projection(joint_cache: Path, settings_for: Settings) -> None:
    run = train(settings_for(joint_cache, auxiliaries=(("text",), ("text", "audio"), ("audio", "text"))))
    for result in run.cells:
        tensors = load_file(result.head_path)
        first_is_text = result.cell.auxiliaries[:1] == ("text",)
        assert result.cell.aligned == (
            first_is_text
            or result.cell.method == "unimodal"
            or (result.cell.method == "unimodal-deep" and result.cell.shared_width == 16)
        )
        if not result.cell.aligned:
            assert result.normalize == "none"
            continue
        assert "projection.image" not in tensors
        assert "projection.text" not in tensors
        assert float(tensors["scales"][0]) == 100.0
        assert result.normalize == "l2"
        if result.cell.method == "uml" and len(result.cell.auxiliaries) == 2:
            assert tensors["scales"].tolist() == [100.0, 100.0, 1.0]
            assert tensors["projection.audio"].shape == (16, 10)
    features = open_features(joint_cache / "toy" / "image" / "made-up.zarr")
    result = next(r for r in run.cells if r.cell.method == "uml" and r.cell.aligned)
    x = torch.nn.functional.normalize(features.pooled[features.split == 2].float(), dim=1)
    logits = 100 * x @ load_file(result.head_path)["head"].T
    assert np.array_equal(logits.argmax(1).numpy(), result.test_predictions)
    # The text alone names the classes here, as CLIP's does.
    start = next(r for r in run.cells if r.cell.method == "init-only" and r.cell.aligned)
    assert start.history[0][0]["val_acc"] >= 50  # chance: 20


def test_aligned_encoders_as_they_are_or_like_any_others(joint_cache: Path, settings_for: Settings) -> None:
    raw = train(settings_for(joint_cache, auxiliaries=TEXT, methods=("uml",), aligned="raw"))
    assert {(r.cell.aligned, r.normalize) for r in raw.cells} == {(True, "none")}
    assert load_file(raw.cells[0].head_path)["scales"].tolist() == [100.0, 100.0]
    off = train(settings_for(joint_cache, auxiliaries=TEXT, methods=("uml",), aligned="off"))
    assert not any(r.cell.aligned for r in off.cells)
    assert "projection.image" in load_file(off.cells[0].head_path)


def test_text_as_the_target(cache: Path, settings_for: Settings) -> None:
    run = train(settings_for(cache, target="text", auxiliaries=(("image",), ("image", "audio"))))
    assert run.config["target"] == "text"
    assert run.config["rows"] == {"train": 30, "val": 10, "test": 10}
    uml = [r for r in run.cells if r.cell.method == "uml" and r.cell.auxiliaries == ("image",)]
    assert load_file(uml[0].head_path)["projection.text"].shape == (12, 16)
    # Only the pictures' training rows are auxiliary data: 8 of each class.
    means = train(
        settings_for(cache, target="text", auxiliaries=(("image",),), methods=("uml",), texts="mean")
    )
    assert means.path != run.path


def test_normalisation_fitted_on_the_pool_is_named(cache: Path, settings_for: Settings) -> None:
    pool = train(
        settings_for(
            cache, auxiliaries=TEXT, methods=("unimodal",), normalize="standard", normalize_on="pool"
        )
    )
    features = open_features(cache / "toy" / "image" / "made-up.zarr")
    rows = features.pooled[features.split == 0].float()
    tensors = [load_file(r.head_path) for r in pool.cells]
    for head in tensors:
        torch.testing.assert_close(head["normalize.mean.image"], rows.mean(0), rtol=1e-4, atol=1e-4)
    assert {r.normalize for r in pool.cells} == {"standard@pool"}
    draw = train(settings_for(cache, auxiliaries=TEXT, methods=("unimodal",), normalize="standard"))
    assert not torch.equal(
        load_file(draw.cells[0].head_path)["normalize.mean.image"], tensors[0]["normalize.mean.image"]
    )


def test_mlp_trunk_and_balanced_batches_are_recorded_and_exported(
    cache: Path, settings_for: Settings
) -> None:
    run = train(settings_for(cache, auxiliaries=TEXT, trunk="mlp", sampling="balanced", shots=("all",)))
    features = open_features(cache / "toy" / "image" / "made-up.zarr")
    raw = features.pooled[features.split == 2].float()
    for result in run.cells:
        assert result.trunk == ("linear" if result.cell.method == "unimodal" else "mlp")
        head = load_head(result.head_path)
        assert (head.trunk is None) == (result.cell.method == "unimodal")
        assert np.array_equal(head.predict(raw), result.test_predictions)


def test_dry_run_says_what_there_is_and_writes_nothing(cache: Path, small_grid: str, tmp_path: Path) -> None:
    out = tmp_path / "r"
    arguments = [
        "--cache",
        str(cache),
        "--aux",
        "text",
        "--shots",
        "1,2",
        "--seeds",
        "1-2",
        "--grid",
        small_grid,
    ]
    arguments += ["--out", str(out), "--control", "random", "--alpha", "0.5,1", "--ratio", "1,2"]
    answer = CliRunner().invoke(train_command, [*arguments, "--dry-run", "--json"], catch_exceptions=False)
    value = json.loads(answer.stdout)
    assert not out.exists()
    assert (value["cells"], value["models"]) == (2 * 2 * 6, 2 * 2 * 6 * 8)
    assert value["model_steps"] == value["models"] * 60
    # unimodal 5 × 12; five others with projection 12 → 16 and head 5 × 16; four bytes each
    assert value["head_bytes"] == 4 * 4 * (5 * 12 + 5 * (12 * 16 + 5 * 16))
    assert 0 < value["seconds"] < 600
    text = CliRunner().invoke(train_command, [*arguments, "--dry-run"], catch_exceptions=False).stdout
    assert "192 models" in text
    assert "nothing was written" in text
    assert not out.exists()


def test_settings_of_every_kind_round_trip(tmp_path: Path) -> None:
    settings = TrainSettings(
        cache=tmp_path, alpha=(0.5, 1.0), ratio=(0.25,), normalize_on="pool", sampling="balanced",
        aligned="raw", trunk="mlp", controls=("unrelated:birds",), device="cpu", precision="bfloat16",
    )  # fmt: skip
    assert TrainSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings
    for wrong in ({"trunk": "mpl"}, {"sampling": "random"}, {"aligned": "on"}, {"precision": "fp8"}):
        with pytest.raises(InputError, match="unknown"):
            TrainSettings(cache=tmp_path, **wrong)
