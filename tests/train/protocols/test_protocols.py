"""Protocols: one file of values, what a run records of them, and the paper's baselines in plain torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch.nn.functional import cross_entropy, normalize

from toy_stores import clusters, write_store
from uml_cache import declared
from uml_cache.errors import InputError
from uml_train import FinetuneSettings, Run, TrainSettings, load_grid, load_run, train
from uml_train.commands import _under_protocol
from uml_train.data.batches import batch_rows
from uml_train.heads.weights import initial_weights
from uml_train.pretrain.searches import load_pretraining
from uml_train.protocols.protocols import (
    PROTOCOLS,
    protocol_defaults,
    protocol_grid,
    protocol_rows,
    rows_of,
    scope_of,
    settings_under,
)

GRID = """
lr = [0.01]
weight_decay = [0.1]
learnable_scale = [false]
batch_size = [6]
steps = 9
warmup = 2
eval_every = 4
patience = 9
"""
_RN50 = {"library": "open_clip", "model": "RN50-quickgelu/openai"}


@pytest.fixture
def grid(tmp_path: Path) -> str:
    (tmp_path / "small.toml").write_text(GRID)
    return str(tmp_path / "small.toml")


def _stores(folder: Path, **spaces: dict[str, Any]) -> Path:
    """A target `image` with splits and whatever else is named, each with its store's keywords."""
    labels = np.tile(np.arange(5), 16)
    for i, (modality, keywords) in enumerate(spaces.items()):
        splits = np.repeat([0, 1, 2], [40, 20, 20]) if i == 0 else np.full(80, 255)
        features = 3.0 * clusters(i, labels, 12, 1.0)
        write_store(folder, modality, features, labels, splits, **keywords)
    return folder


def test_every_row_is_a_setting_with_a_source() -> None:
    known = {**declared(TrainSettings), **declared(FinetuneSettings)}
    axes = {*json.loads(json.dumps(load_grid("quick").candidates[0].__dict__)), "steps", "warmup"}
    axes |= {"eval_every", "patience", *declared(type(load_pretraining("quick")))}
    for row in protocol_rows():
        assert row.source.endswith("."), row
        if row.scope in ("gaussian", "reproduce", "analyses"):
            assert None not in (row.fair, row.paper, row.authors)
        elif row.setting.startswith("grid."):
            assert row.setting.removeprefix("grid.") in axes, row
        else:
            for protocol in PROTOCOLS:
                known[row.setting].read(row.value(protocol), row.setting)
            # What is ours is declared where the setting is, and nowhere else.
            default = known[row.setting].default
            assert row.fair == (list(default) if isinstance(default, tuple) else default)
    assert len({(row.scope, row.setting) for row in protocol_rows()}) == len(protocol_rows())


def test_fair_changes_nothing_and_a_protocol_is_defaults() -> None:
    assert settings_under("fair") == TrainSettings()
    paper = settings_under("paper", seeds=(7,), normalize="standard")
    assert (paper.grid, paper.candidates, paper.seeds) == ("paper", "own", (7,))
    assert paper.normalize == "standard"  # given by hand
    assert settings_under("authors").aligned == "raw"
    with pytest.raises(InputError, match="did you mean paper"):
        protocol_defaults("papr", "heads")


def test_commands_put_the_protocol_below_what_is_typed() -> None:
    typed = _under_protocol({"protocol": "authors", "aligned": "off"})
    assert (typed["aligned"], typed["grid"], typed["texts"]) == ("off", "authors", "search")
    tuned = _under_protocol({"protocol": "authors", "encoder": "vit", "data": "d"})
    assert (tuned["batch_norm"], tuned["transform"], tuned["views"]) == ("until-evaluated", "paper", "crop")
    assert _under_protocol({"protocol": "paper", "objective": "ssl"})["probe"] == "raw"
    assert _under_protocol({"seeds": (1,)}) == {"seeds": (1,)}


def test_grids_are_those_of_the_file() -> None:
    assert protocol_grid("authors", "heads")["batch_size"] == [32]
    paper = load_grid("paper")
    assert len(paper.candidates) == 24
    assert load_grid("paper-joint").schedule.patience == 10
    assert load_grid("authors-joint").schedule.patience == 5
    esc = load_grid("paper-esc").candidates
    assert {c.batch_size for c in esc} == {8}
    assert len(esc) == 12
    tuned = load_grid("paper", family="finetune-").candidates
    assert [(c.lr, c.weight_decay, c.batch_size) for c in tuned] == [(5e-5, 0.0, 64)]
    searched = load_grid("authors", texts="search").candidates
    assert {(c.alpha, c.texts) for c in searched} == {
        (a, t) for a in (0.2, 0.5, 0.7, 1.0, 1.5) for t in ("mean", 15)
    }
    assert {c.texts for c in load_grid("authors").candidates} == {None}
    assert load_pretraining("multibench-authors").step == (-1, 10, 15, 20)
    with pytest.raises(InputError, match="did you mean paper-joint"):
        load_grid("paper-jont")


def test_own_candidates_are_one_for_each_combination() -> None:
    grid = load_grid("authors", texts="search")
    assert len(grid.candidates_for(auxiliary_loss=False)) == len(grid.candidates) == 60
    alone = grid.candidates_for(auxiliary_loss=False, equal=False)
    assert len(alone) == 6
    assert {c.repeat for c in alone} == {0}
    # A head that begins at the class means sees the texts, without a loss on them.
    begun = grid.candidates_for(auxiliary_loss=False, sees_texts=True, equal=False)
    assert {c.texts for c in begun} == {"mean", 15}
    search = load_pretraining("multibench")
    assert len(search.candidates_for(auxiliaries=True, equal=False)) == 48
    assert len(search.candidates_for(auxiliaries=False, equal=False)) == 12


def test_scopes_are_told_by_grid_space_and_objective() -> None:
    assert scope_of(TrainSettings(grid="x-esc.toml")) == "esc"
    assert scope_of(TrainSettings(), joint=True) == "joint"
    assert scope_of(TrainSettings(), finetune=True) == "finetune"
    assert scope_of(TrainSettings(objective="ssl", grid="multibench-large-authors")) == "multibench-large"
    assert scope_of(TrainSettings(objective="ssl", grid="multibench", probe="liblinear")) == "mosi"
    assert rows_of("mosi")["grid.width"].paper == [10, 40, 150, 300]


def test_a_run_records_its_protocol_and_what_deviates(tmp_path: Path, grid: str) -> None:
    feats = _stores(tmp_path / "feats", image={}, text={})
    settings = settings_under(
        "paper", cache=feats, auxiliaries=(("text",),), shots=(2,), seeds=(1,), grid=grid, alpha=(0.5,),
        out=tmp_path / "runs",
    )  # fmt: skip
    record = train(settings).config["protocol"]
    assert (record["name"], record["scope"]) == ("paper", "heads")
    assert record["deviations"] == {
        "grid": {"run": grid, "protocol": "paper"},
        "grid.alpha": {"run": [0.5], "protocol": [1.0]},
    }


def test_lambda_and_texts_are_searched_together(tmp_path: Path) -> None:
    file = tmp_path / "axes.toml"
    file.write_text(GRID + 'alpha = [0.5, 1.5]\ntexts = ["mean", 2]\n')
    feats = _stores(tmp_path / "feats", image={}, text={})
    run = train(
        settings_under(
            "authors", cache=feats, auxiliaries=(("text",),), shots=(2,), seeds=(1,), grid=str(file),
            out=tmp_path / "runs",
        )
    )  # fmt: skip
    found = {
        r.cell.method: {(c["alpha"], c["texts"]) for c in r.candidates} for r in load_run(run.path).cells
    }
    assert found["uml"] == found["uml-init"] == {(a, t) for a in (0.5, 1.5) for t in ("mean", 2)}
    assert found["unimodal"] == {(None, None)}
    assert {r.texts for r in run.cells} == {"search"}


def _head(run: Run, method: str) -> dict[str, np.ndarray]:
    (result,) = [r for r in run.cells if r.cell.method == method]
    return load_file(result.head_path)


def _plain(
    streams: list[tuple[str, torch.Tensor, torch.Tensor]],
    val: tuple[torch.Tensor, torch.Tensor],
    head: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """A shared head, logits scale · x · headᵀ, losses summed: the state that validates best."""
    head = torch.nn.Parameter(head.clone())
    optimizer = torch.optim.AdamW([head], lr=0.01, weight_decay=0.1)
    best, kept = -1.0, head.detach().clone()
    for step in range(9):
        rate = 1e-5 if step == 0 else 0.01 * step / 2 if step <= 2 else 0.0
        if step > 2:
            rate = 0.01 * (1 + np.cos(np.pi * (step - 2) / 9)) / 2
        loss = torch.zeros(())
        for name, x, y in streams:
            rows = batch_rows(seed=1, name=name, rows=len(x), batch=6, start=step, steps=1)[0]
            loss = loss + cross_entropy(scale * x[rows] @ head.T, y[rows])
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 4 == 0:
            accuracy = float(((val[0] @ head.T).argmax(1) == val[1]).float().mean())
            if accuracy > best:
                best, kept = accuracy, head.detach().clone()
    return kept


def _rows(path: Path, modality: str, part: slice, space: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    labels = np.tile(np.arange(5), 16)
    at = {"image": 0, "text": 1, "audio": 0, "picture": 1}[modality]
    values = torch.from_numpy((3.0 * clusters(at, labels, 12, 1.0)).astype(np.float16).astype(np.float32))
    return space(values[part]), torch.from_numpy(labels[part])


@pytest.mark.parametrize(("protocol", "unit"), [("paper", True), ("authors", False)])
def test_clip_s_unimodal_row_is_the_shared_head_on_pictures_alone(
    tmp_path: Path, grid: str, protocol: str, unit: bool
) -> None:
    """`UMLClip` without texts: one head, logits times 100, of unit vectors or (public code) raw ones."""
    space = {"joint_space": "clip"}
    feats = _stores(tmp_path / "feats", image=space, text=space)
    settings = settings_under(
        protocol, cache=feats, auxiliaries=(("text",),), methods=("unimodal", "uml"), shots=("all",),
        seeds=(1,), grid=grid, texts="all", out=tmp_path / "runs",
    )  # fmt: skip
    run = train(settings)

    def mapped(x: torch.Tensor) -> torch.Tensor:
        return normalize(x, dim=1) if unit else x

    x, y = _rows(feats, "image", slice(0, 40), mapped)
    val = _rows(feats, "image", slice(40, 60), mapped)
    words, classes = _rows(feats, "text", slice(0, 80), mapped)
    start = initial_weights([("image", 12, False, 100.0)], classes=5, width=12, seed=1)
    for method, streams in (
        ("unimodal", [("image", x, y)]),
        ("uml", [("image", x, y), ("text", words, classes)]),
    ):
        own = _head(run, method)
        assert own["scales"][0] == 100.0
        assert not [name for name in own if name.startswith("projection")]
        expected = _plain(streams, val, start.head, 100.0)
        np.testing.assert_allclose(own["head"], expected.numpy(), rtol=1e-4, atol=1e-5)


def test_audioclip_meets_clip_rn50_without_a_projection(tmp_path: Path, grid: str) -> None:
    """One head for sounds and pictures: a space that is named by a model is that of the model's stores."""
    feats = _stores(
        tmp_path / "feats",
        audio={"joint_space": "open_clip:RN50-quickgelu/openai"},
        picture={"joint_space": "open_clip:0123456789abcdef", "spec": _RN50},
    )
    settings = settings_under(
        "paper", cache=feats, target="audio", auxiliaries=(("picture",),), methods=("unimodal", "uml"),
        shots=("all",), seeds=(1,), grid=grid, out=tmp_path / "runs",
    )  # fmt: skip
    run = train(settings)
    assert run.config["protocol"]["scope"] == "joint"

    def unit(x: torch.Tensor) -> torch.Tensor:
        return normalize(x, dim=1)

    x, y = _rows(feats, "audio", slice(0, 40), unit)
    pictures, classes = _rows(feats, "picture", slice(0, 80), unit)
    start = initial_weights([("audio", 12, False, 100.0)], classes=5, width=12, seed=1)
    val = _rows(feats, "audio", slice(40, 60), unit)
    expected = _plain([("audio", x, y), ("picture", pictures, classes)], val, start.head, 100.0)
    own = _head(run, "uml")
    assert not [name for name in own if name.startswith("projection")]
    np.testing.assert_allclose(own["head"], expected.numpy(), rtol=1e-4, atol=1e-5)


def test_the_language_to_vision_head_is_a_two_layer_mlp() -> None:
    from transformers import BertConfig

    from uml_evaluate.reproduce.recipe.items import list_recipes
    from uml_evaluate.reproduce.recipe.settings import train_settings
    from uml_extract.encoders.patches.seeing_network import LanguagePatches

    for setting in list_recipes()["language-to-vision"].variants.values():
        settings = train_settings(setting, "finetune", (), protocol="paper")
        assert (settings.methods, settings.trunk) == (("unimodal",), "linear")
    config = BertConfig(
        vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    torch.manual_seed(0)
    network = LanguagePatches(config, img_size=8, patch_size=4).eval()
    pictures, head = torch.randn(3, 3, 8, 8), torch.randn(5, 8)
    with torch.no_grad():
        # 4 patches and a class token, through the one layer; then linear, GELU, linear.
        weight = network.patch_embed.weight.reshape(8, -1)
        cut = pictures.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(3, 4, -1)
        tokens = torch.cat([network.cls_token.expand(3, 1, 8), cut @ weight.T + network.patch_embed.bias], 1)
        out = network.layers[0](tokens + network.pos_embed)
        out = out[0] if isinstance(out, tuple) else out
        hidden = torch.nn.functional.gelu(out[:, 0] @ network.hidden.weight.T + network.hidden.bias)
        torch.testing.assert_close(network(pictures) @ head.T, hidden @ head.T, rtol=1e-4, atol=1e-5)


def test_the_gaussian_error_is_that_of_plain_torch_at_steps_0_and_400() -> None:
    """The protocol `paper`: the error starts where the axis of Figure 3 does."""
    from uml_train.gaussian.autoencoder import Autoencoder, Training
    from uml_train.gaussian.world import World, draw

    values = {name: row.paper for name, row in rows_of("gaussian").items()}
    world = World(projection=values["projection"])
    drawn = draw(world, 1, x=4_000, y=2_000, held_out=1_000)
    training = Training(hidden=10, lr=values["lr"], steps=values["steps"], batch_size=256)
    found = {}
    for arm, data in (("x", {"x": drawn.x}), ("uml", {"x": drawn.x[:2_000], "y": drawn.y})):
        network = Autoencoder(list(data), 50, 10, 1)
        parts = {
            name: [torch.nn.Parameter(p.clone()) for p in pair] for name, pair in network._values.items()
        }

        def out(x: torch.Tensor, m: str, parts: Any = parts) -> torch.Tensor:
            for name in (f"into.{m}", "encode1", "relu", "encode2", "decode1", "relu", "decode2", f"out.{m}"):
                x = x.relu() if name == "relu" else x @ parts[name][0] + parts[name][1]
            return x

        optimizer = torch.optim.Adam([p for pair in parts.values() for p in pair], lr=training.lr)
        errors = [(out(drawn.held_out, "x") - drawn.held_out).square().mean().item()]
        assert errors[0] == pytest.approx(network.error(drawn.held_out, "x"), rel=1e-4)
        for step in range(training.steps):
            loss = torch.zeros(())
            for name, rows in data.items():
                at = batch_rows(seed=1, name=name, rows=len(rows), batch=256, start=step, steps=1)[0]
                loss = loss + (out(rows[at], name) - rows[at]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        errors.append((out(drawn.held_out, "x") - drawn.held_out).square().mean().item())
        network.fit(data, training, 1)
        # 400 steps of float32 in another order of sums.
        assert network.error(drawn.held_out, "x") == pytest.approx(errors[1], rel=0.02)
        found[arm] = errors
    assert 3.4 < found["x"][0] < 4.2
    assert found["x"][1] < 0.65 * found["x"][0]
