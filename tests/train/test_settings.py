"""Every setting of a run is found in the options, the files, the record and the command that repeats it."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from uml_cache.cli import main
from uml_cache.errors import InputError
from uml_cache.files.documents import with_checksum
from uml_cache.settings import Settings, declared, read_toml
from uml_evaluate.reproduce.recipe.recipe import FINETUNE, TRAIN
from uml_train.finetune.finetune_settings import FinetuneSettings
from uml_train.runs.settled.asked import asked
from uml_train.settings import TrainSettings

COMMON: dict[str, Any] = {
    "cache": Path("c"), "auxiliaries": (("text.cupl:a/b@c", "audio"), ("text",)),
    "methods": ("unimodal", "uml"),
    "controls": ("random", "unrelated:birds"), "shots": (2, "all"), "seeds": (7, 3), "grid": "mine.toml",
    "alpha": (0.5, 2.0), "splits": Path("s p.csv"), "loader": "host", "device": "cpu", "ids": "own",
    "short_classes": "whole",
    "precision": "bfloat16", "out": Path("o"), "protocol": "paper", "candidates": "own",
}  # fmt: skip
FEATURES: dict[str, Any] = {"dataset": "birds", "target": "audio:log-mel", "normalize": "standard"}
LABELLED: dict[str, Any] = {
    "ratio": (0.25, 4.0), "sampling": "balanced", "trunk": "mlp", "texts": 3, "class_map": Path("m.csv"),
    "aligned": "raw",
}  # fmt: skip
NETWORK: dict[str, Any] = {
    "encoder": "timm:vit", "data": "d", "name": "birds", "weights": Path("w.pt"), "start": "shuffled",
    "img_size": 32, "patch_size": 8, "views": "flip", "freeze": 2, "unfreeze_at": 9, "ema": 0.99,
    "compile": True, "recompute": True, "tune_aux": "hf:bert", "aux_data": "t.csv", "aux_lr": 1e-05,
    "keep": False, "workers": 3, "transform": "paper", "batch_norm": "until-evaluated",
}  # fmt: skip
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "train": (
        {**COMMON, **FEATURES, **LABELLED, "normalize_on": "pool", "refit": True},
        {},
    ),
    "pretrain": (
        {
            **COMMON,
            **FEATURES,
            "objective": "ssl",
            "methods": ("uml",),
            "controls": ("random",),
            "probe": "raw",
            "snapshots": 5,
            "checkpoint_minutes": 2.5,
        },
        {},
    ),
    "finetune": ({**COMMON, **LABELLED}, NETWORK),
}


@pytest.fixture(autouse=True)
def _a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: name)


def _settings(way: str) -> list[Settings]:
    values, network = WAYS[way]
    return [TrainSettings(**values), *([FinetuneSettings(**network)] if network else [])]


def _config(way: str) -> dict[str, Any]:
    """What the run's folder holds, through JSON."""
    train, *network = _settings(way)
    config = {"settings": train.to_json(), **({"finetune": network[0].to_json()} if network else {})}
    return json.loads(json.dumps(config))  # type: ignore[no-any-return]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[list[Settings]]:
    """What a command would have trained."""
    found: list[list[Settings]] = []
    monkeypatch.setattr("uml_train.training.train", lambda *settings, **_: found.append([*settings]))
    monkeypatch.setattr(
        "uml_train.finetune.finetuning.fine_tune", lambda *settings, **_: found.append([*settings])
    )
    monkeypatch.setattr("uml_train.commands._answer", lambda run: ({"rows": {}}, ""))
    return found


def _uml(*words: str) -> int:
    with pytest.raises(SystemExit) as leaving:
        main([*words, "--quiet"])
    return int(leaving.value.code or 0)


@pytest.mark.parametrize("way", WAYS)
def test_the_examples_leave_no_setting_as_usual(way: str) -> None:
    for settings in _settings(way):
        for name, setting in declared(type(settings)).items():
            assert setting.help
            if setting.suits(way):
                assert getattr(settings, name) != setting.default, name


@pytest.mark.parametrize("way", WAYS)
def test_every_setting_is_in_the_command_that_repeats_a_run(way: str, trained: list[list[Settings]]) -> None:
    words = shlex.split(asked(_config(way)).command())
    assert words[:2] == ["uml", way]
    assert _uml(*words[1:]) == 0
    assert trained == [_settings(way)]


@pytest.mark.parametrize("way", WAYS)
def test_every_setting_is_in_the_file_that_repeats_a_run(
    way: str, trained: list[list[Settings]], tmp_path: Path
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(asked(_config(way)).to_toml())
    for command in (way, "train"):  # `uml train` takes what the others do
        assert _uml(command, "--config", str(file)) == 0
        assert trained.pop() == _settings(way)
    assert _uml(way, "--config", str(file), "--seeds", "1-2", "--control", "none", "--out", "x") == 0
    changed = {"seeds": (1, 2), "controls": (), "out": Path("x")}
    train, *network = _settings(way)
    assert trained == [[replace(train, **changed), *network]]  # the command line stands above the file


def test_old_lines_reach_the_new_ways(trained: list[list[Settings]]) -> None:
    assert _uml("train", "--cache", "./feats") == 0
    assert _uml("train", "--objective", "ssl", "--target", "image", "--aux", "text", "--aux", "audio") == 0
    assert _uml("train", "--finetune", "vit", "--data", "d", "--no-backbones", "--loader-workers", "0") == 0
    assert _uml("finetune", "--encoder", "vit", "--data", "d", "--no-backbones", "--loader-workers", "0") == 0
    assert _uml("pretrain", "--target", "image", "--aux", "text", "--aux", "audio") == 0
    heads, ssl, tuned, finetuned, pretrained = trained
    assert heads == [TrainSettings(cache=Path("feats"))]
    assert (
        ssl
        == pretrained
        == [TrainSettings(objective="ssl", target="image", auxiliaries=(("text",), ("audio",)))]
    )
    assert tuned == finetuned
    assert tuned == [TrainSettings(), FinetuneSettings(encoder="vit", data="d", keep=False, workers=0)]


def test_several_data_sets_get_a_run_each(trained: list[list[Settings]]) -> None:
    assert _uml("train", "--dataset", "a, b,a") == 0
    assert trained == [[TrainSettings(dataset="a")], [TrainSettings(dataset="b")]]


@pytest.mark.parametrize("way", WAYS)
def test_the_record_gives_the_settings_back(way: str) -> None:
    config = _config(way)
    train, *network = _settings(way)
    assert TrainSettings.from_json(config["settings"]) == train
    if network:
        assert FinetuneSettings.from_json({**config["finetune"], "networks": {}}) == network[0]
    with pytest.raises(InputError, match="has the setting 'later', which this version does not know"):
        TrainSettings.from_json({**config["settings"], "later": 1})


def test_records_of_version_0_1_are_read() -> None:
    """As it wrote them: every setting it had, with null where nothing was given."""
    record = {
        "cache": "/data/feats", "dataset": "shapes", "target": "image:hog-color", "auxiliaries": [["text"]],
        "methods": ["unimodal", "uml"], "controls": ["permuted"], "shots": [4, "all"], "seeds": [1, 2],
        "grid": "demo", "alpha": None, "ratio": None, "normalize": "none", "normalize_on": "draw",
        "sampling": "shuffled", "aligned": "normalized", "trunk": "linear", "loader": "auto",
        "device": "auto", "precision": "float32", "texts": "all", "class_map": None, "splits": None,
        "out": "/data/runs", "objective": "supervised", "checkpoint_minutes": 10.0,
    }  # fmt: skip
    settings = TrainSettings.from_json(record)
    later = {
        "ids": "recorded", "refit": False, "protocol": "fair", "candidates": "equal",
        "probe": "standardised", "snapshots": 0, "short_classes": "refused",
    }  # fmt: skip  # settings that it did not have
    assert settings.to_json() == record | later
    assert asked({"settings": record}).command() == (
        "uml train --cache /data/feats --dataset shapes --target image:hog-color --aux text "
        "--method unimodal,uml --control permuted --shots 4,all --seeds 1,2 --grid demo --out /data/runs "
        "--normalize none"
    )


def test_recipes_take_every_choice() -> None:
    """What decides numbers and is neither a place nor data."""
    assert set(TRAIN) == {
        "methods", "controls", "shots", "seeds", "grid", "alpha", "ratio", "normalize", "normalize_on",
        "sampling", "aligned", "trunk", "precision", "texts", "ids", "refit", "candidates", "probe",
        "snapshots", "short_classes",
    }  # fmt: skip
    assert set(FINETUNE) == {
        "encoder", "start", "img_size", "patch_size", "views", "freeze", "unfreeze_at", "ema", "compile",
        "tune_aux", "aux_lr", "transform", "batch_norm",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("command", "text", "says"),
    [
        ("train", "shotz = 4", "run.toml: unknown key 'shotz'; did you mean shots"),
        (
            "train",
            "normalize = 'l3'",
            "run.toml: unknown normalize 'l3': it takes auto, none, center, l2,",
        ),
        ("train", "seeds = [1, 1]", "run.toml: seeds are 1, 1; it takes different whole numbers"),
        ("train", "ema = 0.9", "belongs to --finetune"),
        ("pretrain", "ema = 0.9", "run.toml: unknown key 'ema'"),
        ("pretrain", "objective = 'supervised'", "it takes ssl or joint"),
        ("finetune", "ema = 2\nencoder = 'x'", "run.toml: ema is 2; it takes a decay between 0 and 1"),
        ("finetune", "data = 'x'", "--encoder"),
        ("finetune", "encoder = 'x'", "--data"),
    ],
)
def test_a_wrong_file_is_one_line(
    command: str, text: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("run.toml").write_text(text)
    assert _uml(command, "--config", "run.toml") == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_keys_may_be_the_options_names(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("aux = ['text', 'text+audio']\nmethod = 'unimodal,uml'\nnormalize-on = 'pool'\n")
    assert read_toml(file, declared(TrainSettings)) == {
        "auxiliaries": (("text",), ("text", "audio")),
        "methods": ("unimodal", "uml"),
        "normalize_on": "pool",
    }


def test_a_settings_file_that_was_edited_or_damaged_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(with_checksum("# uml train\nseeds = [1, 2]\n"))
    words = ["train", "--config", str(file), "--cache", str(tmp_path / "none"), "--dry-run"]
    for text, said in (
        (file.read_text(), False),
        (file.read_text().replace("[1, 2]", "[1, 3]"), True),
        (file.read_text().replace("sha256", "sha257"), True),
        ("seeds = [1, 2]\n", False),
    ):
        file.write_text(text)
        with pytest.raises(SystemExit):
            main(words)
        assert (f"{file} was edited or damaged" in capsys.readouterr().err) == said
