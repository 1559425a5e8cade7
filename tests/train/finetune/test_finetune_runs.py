"""`uml train --finetune` from the command line to tables, checkpoint folders and features made with them."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tiny_checkpoints import put_clip, put_language, put_pictures, put_sounds, put_texts, put_vit, put_wav2vec
from uml_cache import InputError, WorkError, open_features
from uml_cache.cli import main
from uml_cache.command import Output
from uml_extract import extract, load_trainable
from uml_manifests import resolve_data
from uml_train import Run, TrainSettings, complete, find_runs, load_head
from uml_train.finetune.finetune_settings import FinetuneSettings
from uml_train.finetune.finetuning import fine_tune
from uml_train.finetune.network.backbones import Backbone
from uml_train.finetune.tuned_cell import CellTuner
from uml_train.folder import run_lock

GRID = "lr = [0.003]\nsteps = 6\nwarmup = 2\neval_every = 3\nbatch_size = [6]\n"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, sentences, sounds, networks for each, a grid, and features of the sentences."""
    folder = tmp_path_factory.mktemp("world")
    put_pictures(folder / "colours")
    put_texts(folder / "texts.csv")
    put_sounds(folder / "tones")
    put_vit(folder / "vit")
    put_language(folder / "bert", "bert")
    put_wav2vec(folder / "wav2vec")
    (folder / "g.toml").write_text(GRID)
    texts = resolve_data(folder / "texts.csv", name="colours")
    extract(texts, "hashed-ngrams", out=folder / "feats")
    return folder


def _settings(world: Path, out: Path, **values: Any) -> TrainSettings:
    common: dict[str, Any] = {"grid": str(world / "g.toml"), "shots": (2,), "seeds": (1,), "device": "cpu"}
    return TrainSettings(cache=world / "feats", out=out, **{**common, **values})


def _tuning(world: Path, **values: Any) -> FinetuneSettings:
    common: dict[str, Any] = {"encoder": str(world / "vit"), "data": str(world / "colours"), "workers": 0}
    return FinetuneSettings(**{**common, **values})


def _uml(*words: object, fails: str | None = None, capsys: Any = None) -> Any:
    with pytest.raises(SystemExit) as leaving:
        main([str(word) for word in words])
    said = capsys.readouterr()
    if fails is None:
        assert leaving.value.code == 0, said.err
        return json.loads(said.out) if "--json" in words else said.out
    assert leaving.value.code == 2
    assert fails in said.err
    assert said.err.count("\n") == 1
    return None


def test_from_the_command_line_to_the_report(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    words = ["train", "--finetune", world / "vit", "--data", world / "colours", "--cache", world / "feats"]
    words += ["--shots", 2, "--seeds", "1", "--grid", world / "g.toml", "--out", out, "--loader-workers", 0]
    words += ["--method", "unimodal,unimodal-deep,uml-init,auto", "--control", "permuted"]
    answer = _uml(*words, "--json", capsys=capsys)
    (run,) = find_runs(out)
    assert (answer["run"], answer["models"]) == (str(run.path), 4)
    with (run.path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["objective"] for row in rows} == {"finetune"}
    methods = ["auto", "uml-init", "uml-init", "unimodal", "unimodal-deep"]
    assert sorted(row["method"] for row in rows) == methods
    assert run.config["finetune"]["networks"]["image"]["library"] == "timm"
    assert not list((run.path / "checkpoints").iterdir())
    before = (run.path / "metrics.jsonl").read_bytes()
    _uml(*words, "--json", capsys=capsys)  # nothing is left to do
    assert (run.path / "metrics.jsonl").read_bytes() == before
    shown = _uml("eval", "--runs", out, "--k", 2, "--json", capsys=capsys)
    assert {row["objective"] for row in shown["table"]} == {"finetune"}
    assert any(d["a"] == "uml-init" and d["b"] == "unimodal" for d in shown["differences"])
    _uml("eval", "--runs", out, "--k", 1, "--quiet", capsys=capsys)  # trains what is missing
    assert {r.cell.shots for r in run.cells} == {1, 2}
    _uml("report", out, "--quiet", capsys=capsys)
    page = (out / "report.html").read_text()
    assert "uml finetune --encoder" in page
    config = run.path / "settings.toml"
    _uml("finetune", "--config", config, "--loader-workers", 0, "--quiet", capsys=capsys)  # finds its folder
    assert [found.path for found in find_runs(out)] == [run.path]

    # the tuned network in the pipeline again: its features and the cell's head give the cell's predictions
    for method in ("unimodal", "uml-init"):
        cell = next(r for r in run.cells if r.cell.method == method and r.cell.shots == 2)
        folder = run.path / "backbones" / cell.cell.key
        _uml("extract", "--encoder", folder, "--data", world / "colours", "--out", tmp_path / "feats",
             "--dtype", "float32", "--quiet", capsys=capsys)  # fmt: skip
        (store,) = (tmp_path / "feats" / "colours" / "image").glob(f"{cell.cell.key}*.zarr")
        features = open_features(store)
        tests = set(json.loads((run.path / "splits.json").read_text())["test"])
        index = [i for i, name in enumerate(features.id) if name in tests]
        head = load_head(cell.head_path)
        np.testing.assert_array_equal(head.predict(features.pooled[index].float()), cell.test_predictions)


def test_a_dry_run_counts_what_the_run_then_trains(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "g.toml").write_text(GRID.replace("[0.003]", "[0.003, 0.001]"))
    words = ["finetune", "--encoder", world / "vit", "--data", world / "colours", "--cache", world / "feats"]
    words += ["--shots", 2, "--seeds", "1,2", "--grid", tmp_path / "g.toml", "--out", tmp_path / "runs"]
    words += ["--loader-workers", 0, "--method", "unimodal,uml", "--freeze", 1, "--unfreeze-at", 3]
    told = _uml(*words, "--dry-run", "--json", capsys=capsys)
    assert not find_runs(tmp_path / "runs")
    assert (told["cells"], told["models"], told["model_steps"]) == (4, 8, 48)
    assert 0 < told["seconds"] < 600
    text = _uml(*words, "--dry-run", capsys=capsys)
    assert "8 models, at most 48 steps" in text
    assert "no run was begun" in text
    done = _uml(*words, "--json", capsys=capsys)
    assert (done["models"], done["model_steps"]) == (8, 48)
    (run,) = find_runs(tmp_path / "runs")
    written = [path.stat().st_size for path in run.path.glob("backbones/*/*.safetensors")]
    assert told["head_bytes"] == pytest.approx(sum(written), rel=0.05)  # names are in the files, too


class Heard(Output):
    """An output that tells when something was said."""

    def __init__(self, wanted: str) -> None:
        super().__init__()
        self.wanted, self.said = wanted, threading.Event()

    def say(self, text: str) -> None:
        if self.wanted in text:
            self.said.set()


def test_a_second_fine_tuning_of_a_run_waits_for_the_first(world: Path, tmp_path: Path) -> None:
    settings, tuning = _settings(world, tmp_path, methods=("unimodal",)), _tuning(world, keep=False)
    run = fine_tune(settings, tuning)
    before = [path.stat().st_mtime_ns for path in (run.path / "cells").iterdir()]
    with ThreadPoolExecutor(1) as pool:
        with run_lock(run.path, Output()):
            output = Heard("is being trained by another process: waiting for it to end")
            second = pool.submit(fine_tune, settings, tuning, output=output)
            assert output.said.wait(timeout=120)
            assert not second.done()
        assert second.result(timeout=120).path == run.path
    assert [path.stat().st_mtime_ns for path in (run.path / "cells").iterdir()] == before


def test_a_tower_of_clip_is_trained_beside_the_texts_of_its_own_space(world: Path, tmp_path: Path) -> None:
    clip = put_clip(tmp_path / "clip", "vit")
    texts = resolve_data(world / "texts.csv", name="colours")
    extract(texts, f"open_clip_text:{clip}", out=tmp_path / "feats")
    settings = replace(_settings(world, tmp_path / "runs", methods=("uml-init",)), cache=tmp_path / "feats")
    run = fine_tune(settings, _tuning(world, encoder=str(clip), ema=0.5))
    (cell,) = run.cells
    assert cell.cell.aligned
    assert (cell.normalize, cell.encoders["image"]) == ("l2", "clip@ema0.5")
    folder = run.path / "backbones" / cell.cell.key
    images = extract(resolve_data(world / "colours"), str(folder), out=tmp_path / "tuned", dtype="float32")
    features = open_features(images.store)
    tests = set(json.loads((run.path / "splits.json").read_text())["test"])
    index = [i for i, name in enumerate(features.id) if name in tests]
    head = load_head(cell.head_path)
    np.testing.assert_array_equal(head.predict(features.pooled[index].float()), cell.test_predictions)
    scratch = fine_tune(settings, _tuning(world, encoder=str(clip), start="random"))
    assert not scratch.cells[0].cell.aligned  # what starts anew shares no space


def test_methods_begin_alike_and_differ(world: Path, tmp_path: Path) -> None:
    run = fine_tune(_settings(world, tmp_path, methods=("unimodal-deep", "uml")), _tuning(world))
    deep, uml = (next(r for r in run.cells if r.cell.method == m) for m in ("unimodal-deep", "uml"))
    assert deep.history[0][0]["loss.image"] == pytest.approx(uml.history[0][0]["loss.image"])
    assert deep.history[0][-1]["loss.image"] != uml.history[0][-1]["loss.image"]
    assert (deep.cell.shared_width, uml.cell.shared_width) == (256, 256)


def test_pictures_changed_under_their_names_are_another_run(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(world / "colours", tmp_path / "colours")
    settings = _settings(world, tmp_path / "runs", methods=("unimodal",), seeds=(1, 2))
    tuning = _tuning(world, data=str(tmp_path / "colours"))
    old = fine_tune(settings, tuning)
    assert fine_tune(settings, tuning).path == old.path
    _exchange(tmp_path / "colours")
    new = fine_tune(settings, tuning)
    assert new.path != old.path
    assert len(old.cells) == len(new.cells) == 2
    with pytest.raises(InputError, match="image has changed since"):
        complete(old, shots=(1,))

    own = CellTuner.train

    def changing(*arguments: Any) -> Any:
        trained = own(*arguments)
        _exchange(tmp_path / "colours")
        return trained

    monkeypatch.setattr(CellTuner, "train", changing)
    with pytest.raises(WorkError, match="were changed while a run trained on them"):
        fine_tune(replace(settings, texts=1, seeds=(3,)), tuning)


def _exchange(folder: Path) -> None:
    """Let the first and the last picture of a folder swap their names."""
    files = sorted(folder.rglob("*.png"))
    contents = [file.read_bytes() for file in (files[0], files[-1])]
    for file, content in zip((files[-1], files[0]), contents, strict=True):
        file.write_bytes(content)


def test_starts_are_recorded_and_are_what_they_say(world: Path, tmp_path: Path) -> None:
    backbone = Backbone(load_trainable(str(world / "vit"), device="cpu"), kind="shuffled")
    loaded = {k: v.clone() for k, v in backbone.network.state_dict().items()}
    one, same, other = backbone.start(1), backbone.start(1), backbone.start(2)
    for name, value in loaded.items():
        assert torch.equal(one[name], same[name])
        torch.testing.assert_close(one[name].flatten().sort()[0], value.flatten().sort()[0])
    name = "blocks.0.mlp.fc1.weight"
    assert not torch.equal(one[name], loaded[name])
    assert not torch.equal(one[name], other[name])
    scratch = Backbone(load_trainable(str(world / "vit"), device="cpu"), kind="random")
    assert torch.equal(scratch.start(3)[name], scratch.start(3)[name])
    assert not torch.equal(scratch.start(3)[name], scratch.start(4)[name])
    seeing = load_trainable(f"patches:{world / 'bert'}", img_size=16, patch_size=8, device="cpu")
    layer = "layers.0.attention.self.query.weight"
    states = {kind: Backbone(seeing, kind=kind).start(1) for kind in ("pretrained", "random", "shuffled")}
    assert torch.equal(states["pretrained"][layer], seeing.network.state_dict()[layer])
    assert not torch.equal(states["random"][layer], states["pretrained"][layer])
    for state in states.values():  # what is new begins alike in every arm
        assert torch.equal(state["patch_embed.weight"], states["random"]["patch_embed.weight"])

    tuning = _tuning(
        world, encoder=f"patches:{world / 'bert'}", img_size=16, patch_size=8, freeze="all", unfreeze_at=4,
        start="shuffled",
    )  # fmt: skip
    run = fine_tune(_settings(world, tmp_path, methods=("unimodal", "uml")), tuning)
    assert {r.encoders["image"] for r in run.cells} == {"bert@shuffled-frozen-until4"}
    uml = next(r for r in run.cells if r.cell.method == "uml")
    again = load_trainable(str(run.path / "backbones" / uml.cell.key), device="cpu")
    assert again.spec.modality == "image"


def test_frozen_layers_stay_and_what_is_new_learns(world: Path) -> None:
    seeing = load_trainable(f"patches:{world / 'bert'}", img_size=16, patch_size=8, device="cpu")
    backbone = Backbone(seeing, freeze="all")
    backbone.set_frozen(True)
    trained = {n for n, p in backbone.network.named_parameters() if p.requires_grad}
    assert trained == {
        "cls_token", "pos_embed", "patch_embed.weight", "patch_embed.bias", "hidden.weight", "hidden.bias"
    }  # fmt: skip
    network: Any = backbone.network
    assert not network.layers[0].training
    assert network.drop.training
    backbone.set_frozen(False)
    assert all(p.requires_grad for p in backbone.network.parameters())
    assert network.layers[0].training


def test_an_auxiliarys_network_is_trained_too(world: Path, tmp_path: Path) -> None:
    tuning = _tuning(
        world, tune_aux=str(world / "bert"), aux_data=str(world / "texts.csv"), aux_lr=1e-4, views="flip"
    )
    settings = _settings(world, tmp_path, methods=("unimodal-deep", "uml-init"), controls=("permuted",))
    run = fine_tune(settings, tuning)
    uml = next(r for r in run.cells if r.cell.method == "uml-init" and r.cell.control is None)
    assert uml.cell.shared_width == 24
    assert uml.encoders["text"] == "bert@tuned"
    assert {"loss.image", "loss.text"} <= set(uml.history[0][0])
    tuned = load_trainable(str(run.path / "backbones" / f"{uml.cell.key}-text"), device="cpu")
    name = "encoder.layer.0.attention.self.query.weight"
    start = load_trainable(str(world / "bert"), device="cpu").network.state_dict()[name]
    assert not torch.equal(tuned.network.state_dict()[name], start)
    torch.testing.assert_close(tuned.network.state_dict()[name], start, rtol=1, atol=1e-3)


@pytest.mark.parametrize(("network", "data"), [("wav2vec", "tones"), ("bert", "texts.csv")])
def test_sounds_and_texts_are_targets_by_the_same_code(
    network: str, data: str, world: Path, tmp_path: Path
) -> None:
    extract(resolve_data(world / "colours"), "hog-color", out=tmp_path / "feats")
    name = None if data == "tones" else "texts"
    images = replace(resolve_data(world / "colours"), name="tones" if data == "tones" else "texts")
    extract(images, "hog-color", out=tmp_path / "feats")
    tuning = _tuning(world, encoder=str(world / network), data=str(world / data), name=name)
    settings = replace(
        _settings(world, tmp_path / "runs", methods=("unimodal", "uml"), shots=(1,)), cache=tmp_path / "feats"
    )
    run = fine_tune(settings, tuning)
    assert {r.target for r in run.cells} == {"audio" if data == "tones" else "text"}
    folder = run.path / "backbones" / next(r for r in run.cells if r.cell.method == "uml").cell.key
    done = extract(resolve_data(world / data), str(folder), out=tmp_path / "again")
    assert done.failed == 0


def test_unreadable_samples_are_left_out(world: Path, tmp_path: Path) -> None:
    put_pictures(tmp_path / "colours")
    (tmp_path / "colours" / "red" / "3.png").write_bytes(b"no picture")
    tuning = _tuning(world, data=str(tmp_path / "colours"))
    run = fine_tune(_settings(world, tmp_path / "runs", methods=("unimodal",)), tuning)
    store = run.config["stores"]["image"]
    assert (store["rows"], store["usable_rows"], store["failed_rows"]) == (36, 35, 1)
    (tmp_path / "colours" / "red" / "3.png").unlink()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--finetune", "VIT"], "needs the samples themselves"),
        (["--data", "colours"], "belongs to --finetune"),
        (["--views", "flip"], "belongs to --finetune"),
        (["--finetune", "VIT", "--data", "DATA", "--freeze", "9"], "has 3 layers"),
        (["--finetune", "VIT", "--data", "DATA", "--freeze", "some"], "a number of layers or `all`"),
        (["--finetune", "VIT", "--data", "DATA", "--start-from", "shufled"], "did you mean shuffled"),
        (["--finetune", "VIT", "--data", "DATA", "--unfreeze-at", "5"], "with --freeze"),
        (["--finetune", "VIT", "--data", "DATA", "--ema", "1.5"], "a decay between 0 and 1"),
        (["--finetune", "VIT", "--data", "DATA", "--normalize", "l2"], "is for cached features"),
        (["--finetune", "VIT", "--data", "DATA", "--tune-aux", "VIT"], "go together"),
        (["--finetune", "VIT", "--dry-run"], "needs the samples themselves"),
        (["--finetune", "VIT", "--data", "DATA", "--aux", "audio"], "unknown --aux modality 'audio'"),
        (["--finetune", "VIT", "--data", "DATA", "--grid", "demo"], "unknown grid 'demo'"),
        (["--finetune", "hog-color", "--data", "DATA"], "cannot be trained"),
    ],
)
def test_wrong_use_is_one_line(
    words: list[str], said: str, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"VIT": world / "vit", "DATA": world / "colours"}
    filled = [names.get(word, word) for word in words]
    common = ["--cache", world / "feats", "--out", tmp_path / "runs", "--loader-workers", "0", "--quiet"]
    if "--finetune" not in words:
        common = [word for word in common if word not in ("--loader-workers", "0")]
    _uml("train", *filled, *common, fails=said, capsys=capsys)


def test_settings_say_what_is_wrong(world: Path) -> None:
    with pytest.raises(InputError, match="unknown views"):
        _tuning(world, views="zoom")
    with pytest.raises(InputError, match="with --tune-aux"):
        _tuning(world, aux_lr=1e-4)
    local = _tuning(world, workers=3, recompute=True, keep=False).to_json()["local"]
    assert local == {"workers": 3, "recompute": True, "keep": False}
    assert "workers" not in _tuning(world).to_json()
    assert FinetuneSettings.from_json(_tuning(world, freeze="all").to_json()) == _tuning(world, freeze="all")


def _wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_run_ends_as_one_that_nobody_touched(world: Path, tmp_path: Path) -> None:
    grid = tmp_path / "long.toml"
    grid.write_text("lr = [0.003]\nsteps = 60\nwarmup = 2\neval_every = 2\npatience = 99\nbatch_size = [6]\n")
    settings = _settings(world, tmp_path / "whole", methods=("unimodal-deep", "uml"), grid=str(grid))
    whole = fine_tune(settings, _tuning(world))
    words = ["train", "--finetune", world / "vit", "--data", world / "colours", "--cache", world / "feats"]
    words += ["--shots", 2, "--seeds", "1", "--grid", grid, "--out", tmp_path / "part", "--loader-workers", 0]
    words += ["--method", "unimodal-deep,uml", "--device", "cpu"]
    command = [sys.executable, "-c", "from uml_cache.cli import main; main()", *map(str, words)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, **quiet)  # type: ignore[call-overload]
    _wait_for(lambda: bool(list((tmp_path / "part").glob("*/checkpoints/*.pt"))), process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (part,) = find_runs(tmp_path / "part")
    assert len(part.finished()) < 2
    again = fine_tune(replace(settings, out=tmp_path / "part"), _tuning(world))
    assert again.path == part.path
    _same(again, whole)


def _same(ours: Run, theirs: Run) -> None:
    for a, b in zip(ours.cells, theirs.cells, strict=True):
        assert a.cell == b.cell
        assert a.history == b.history
        assert a.head_path.read_bytes() == b.head_path.read_bytes()
        assert a.predictions_path.read_bytes() == b.predictions_path.read_bytes()
        folders = [run.path / "backbones" / a.cell.key / "model.safetensors" for run in (ours, theirs)]
        assert folders[0].read_bytes() == folders[1].read_bytes()
