"""`uml train --objective ssl` and `joint`: run folders and controls; `uml embed`: what was learnt."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.linear_model import LogisticRegression

from token_stores import write_ids, write_sequences
from toy_stores import write_store
from uml_cache import find_stores, open_features, verify
from uml_cache.errors import InputError
from uml_train import Run, TrainSettings, complete, newest_run, train
from uml_train.commands import train as train_command
from uml_train.data.selection import select_stores
from uml_train.pretrain.embed import embed
from uml_train.pretrain.network.network_file import load_network
from uml_train.pretrain.network.packing import Layout, TokenBatch
from uml_train.pretrain.network.sequences import sequences
from uml_train.runs.costs import Estimate

_GRID = (
    "steps = 4\nwidth = [8]\nlayers = 1\nheads = 2\nfeedforward = 8\nlr = [0.01, 0.001]\nbatch_size = 16\n"
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with splits, unlabelled texts, and the pictures of another data set."""
    feats = tmp_path_factory.mktemp("tokens") / "feats"
    write_sequences(feats, "image", 6, 90, splits=np.repeat([0, 1, 2], [45, 21, 24]))
    write_sequences(feats, "text", 4, 30, labelled=False, empty=(3,))
    write_sequences(feats, "text", 4, 12, dataset="other")
    return feats


@pytest.fixture(scope="module")
def settings(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainSettings:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "small.toml").write_text(_GRID)
    values: dict[str, Any] = {
        "cache": cache,
        "dataset": "toy",
        "target": "image",
        "auxiliaries": (("text",), ("other/text",)),
        "controls": ("random", "unrelated:other"),
        "seeds": (1,),
        "grid": str(folder / "small.toml"),
        "objective": "ssl",
        "normalize": "standard",
        "out": folder / "runs",
    }
    return TrainSettings(**values)


@pytest.fixture(scope="module")
def run(settings: TrainSettings) -> Run:
    return train(replace(settings, auxiliaries=(("text",),)))


def test_a_run_has_rows_in_the_usual_format(run: Run) -> None:
    rows = list(csv.DictReader((run.path / "results.csv").read_text().splitlines()))
    arms = {(r["method"], r["control"], r["auxiliaries"]) for r in rows}
    assert arms == {
        ("unimodal", "", ""),
        ("uml", "", "text"),
        ("uml", "random", "text"),
        ("uml", "unrelated:other", "text"),
    }
    assert len(rows) == 4 * 2
    for row in rows:
        assert (row["objective"], row["trunk"], row["width"], row["shots"]) == (
            "ssl",
            "transformer",
            "8",
            "all",
        )
        assert (row["test_acc"] != "") == (row["selected"] == "1")
        assert row["label_budget"] == str(45 + 21)
    assert not list((run.path / "checkpoints").iterdir())
    losses = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert {"loss.image", "loss.text"} <= {key for line in losses for key in line}


def test_the_score_is_that_of_scikit_learn_on_the_network_s_embeddings(run: Run) -> None:
    result = next(r for r in run.cells if r.cell.method == "uml" and r.cell.control is None)
    network = load_network(result.head_path)
    features = open_features(run.config["stores"]["image"]["path"])
    mean, scale = network.moments["image"]

    def embedded(split: int) -> tuple[np.ndarray, np.ndarray]:
        rows = np.flatnonzero(features.split == split)
        vectors = []
        for row in rows:
            values, _ = features.tokens.packed(np.array([row]))
            batch = TokenBatch((values - mean) / scale, Layout(np.array([len(values)])))
            vectors.append(network.model(batch, "image").mean(0).detach().numpy())
        return np.stack(vectors), features.label[rows]

    (x, y), (test, truth) = embedded(0), embedded(2)
    probe = LogisticRegression(max_iter=1000).fit((x - x.mean(0)) / x.std(0), y)
    expected = probe.predict((test - x.mean(0)) / x.std(0))
    assert (result.test_predictions == expected).mean() > 0.95
    assert result.test_acc == pytest.approx(100 * (result.test_predictions == truth).mean())


def test_the_same_command_trains_nothing_again_and_other_shots_only_probe(run: Run) -> None:
    models = {p: p.stat().st_mtime_ns for p in (run.path / "models").iterdir()}
    again = train(run.settings)
    assert again.path == run.path
    added = complete(run, shots=[2])
    assert {(c.method, c.control) for c in added} == {
        ("unimodal", None),
        ("uml", None),
        ("uml", "random"),
        ("uml", "unrelated:other"),
    }
    assert {p: p.stat().st_mtime_ns for p in (run.path / "models").iterdir()} == models
    assert complete(run, shots=[2]) == []
    drawn = json.loads((run.path / "splits.json").read_text())["draws"]["k2-s1"]
    assert len(drawn["train"]) == 6


def test_what_was_learnt_is_a_store_like_any_other(run: Run, tmp_path: Path) -> None:
    done = embed(run, out=tmp_path / "learnt")
    assert [(one.modality, one.rows, one.failed) for one in done] == [("image", 90, 0), ("text", 30, 1)]
    for one in done:
        assert verify(one.store).ok
    features, source = open_features(done[0].store), open_features(run.config["stores"]["image"]["path"])
    assert features.encoder["library"] == "uml"
    assert len(features.encoder["weights_digest"]) == 64
    assert features.pooled.shape == (90, 8)
    np.testing.assert_array_equal(features.label, source.label)
    np.testing.assert_array_equal(features.split, source.split)
    assert features.id == source.id
    assert open_features(done[1].store).valid.sum() == 29
    grid = tmp_path / "heads.toml"
    grid.write_text("lr = [0.01]\nsteps = 5\n")
    heads = train(
        TrainSettings(
            cache=tmp_path / "learnt",
            target="image",
            auxiliaries=(),
            methods=("unimodal",),
            shots=(2,),
            seeds=(1,),
            grid=str(grid),
            out=tmp_path / "runs",
        )
    )
    assert heads.cells[0].encoders == {"image": features.encoder["name"]}
    assert len(find_stores(tmp_path / "learnt")) == 2
    with pytest.raises(InputError, match="did you mean image"):
        embed(run, modalities=["imag"], out=tmp_path / "learnt")
    with pytest.raises(InputError, match="unknown cell"):
        embed(run, cell="nothing", out=tmp_path / "learnt")


def test_labels_beside_it(settings: TrainSettings) -> None:
    run = train(
        replace(
            settings, objective="joint", methods=("unimodal", "self-supervised", "uml"), shots=(2,),
            controls=(), auxiliaries=(("other/text",),), alpha=(0.5,),
        )
    )  # fmt: skip
    by_method = {r.cell.method: r for r in run.cells}
    assert set(by_method) == {"unimodal", "self-supervised", "uml"}
    losses = {m: set(r.history[0][-1]) - {"step"} for m, r in by_method.items()}
    assert losses == {
        "unimodal": {"loss.classes"},
        "self-supervised": {"loss.image", "loss.other/text"},
        "uml": {"loss.classes", "loss.image", "loss.other/text"},
    }
    assert all(r.label_budget == 3 * (2 + 2) for r in run.cells)


@pytest.mark.parametrize("objective", ["ssl", "joint"])
def test_dry_run_counts_what_the_run_then_leaves(
    settings: TrainSettings, tmp_path: Path, objective: str
) -> None:
    more = 'curriculum = "auxiliary-before"\nstep = [0, 2]\n' if objective == "ssl" else ""
    grid = tmp_path / "own.toml"
    grid.write_text(_GRID.replace("[0.01, 0.001]", "[0.01]") + more)
    words = ["--cache", settings.cache, "--dataset", "toy", "--target", "image", "--aux", "text"]
    words += ["--seeds", "1", "--shots", "2,all" if objective == "ssl" else "2", "--grid", grid]
    command = [str(word) for word in [*words, "--objective", objective, "--out", tmp_path / "r"]]
    dry = CliRunner().invoke(train_command, [*command, "--dry-run", "--json"], catch_exceptions=False)
    text = CliRunner().invoke(train_command, [*command, "--dry-run"], catch_exceptions=False).stdout
    assert not (tmp_path / "r").exists()
    said = json.loads(dry.stdout)
    answer = CliRunner().invoke(train_command, [*command, "--json"], catch_exceptions=False)
    run = newest_run(tmp_path / "r")
    networks = [load_network(path) for path in (run.path / "models").glob("*.safetensors")]
    files = [*networks, *(load_network(result.head_path) for result in run.cells)]
    assert said["objective"] == objective
    assert (said["cells"], said["models"]) == (len(run.cells), len(networks))
    assert said["model_steps"] == sum(network.about["steps"] for network in networks)
    assert said["head_bytes"] == 4 * sum(p.numel() for file in files for p in file.model.parameters())
    assert said["seconds"] > 0
    trained = json.loads(answer.stdout)
    assert (trained["models"], trained["model_steps"]) == (said["models"], said["model_steps"])
    text = Estimate(**said).text()
    assert f"{len(networks)} models, {said['model_steps']} steps" in text
    assert "of networks to write" in text


def test_discrete_tokens_are_learnt_from_and_embedded(tmp_path: Path) -> None:
    feats = tmp_path / "feats"
    write_sequences(feats, "image", 6, 90, splits=np.repeat([0, 1, 2], [45, 21, 24]))
    write_ids(feats, 12, 40)
    grid = tmp_path / "own.toml"
    grid.write_text(_GRID.replace("[0.01, 0.001]", "[0.01]").replace("steps = 4", "steps = 60"))
    run = train(
        TrainSettings(
            cache=feats, target="image", auxiliaries=(("text",),), controls=("random",), seeds=(1,),
            grid=str(grid), objective="ssl", normalize="standard", out=tmp_path / "runs",
        )
    )  # fmt: skip
    losses = {r.cell.control: [h["loss.text"] for h in r.history[0]] for r in run.cells if r.cell.auxiliaries}
    # Counting can be learnt, draws of ids only by heart.
    assert losses[None][-1] < 0.5 * losses[None][0]
    assert losses["random"][-1] > 2 * losses[None][-1]
    network = load_network(next(r for r in run.cells if r.cell.method == "uml").head_path)
    assert (network.model.dims, network.model.discrete) == ({"image": 6, "text": 12}, ["text"])
    store = embed(run, modalities=["text"], out=tmp_path / "learnt")[0].store
    assert open_features(store).pooled.shape == (40, 8)


def test_ids_are_no_features(tmp_path: Path) -> None:
    """A store of ids stands in no head's way, and cannot be one's features."""
    feats = tmp_path / "feats"
    write_ids(feats, 12, 40)
    write_sequences(feats, "image", 6, 90, splits=np.repeat([0, 1, 2], [45, 21, 24]))
    write_sequences(feats, "text", 4, 30)
    chosen = select_stores(feats, None, "image", [["text"]])
    assert chosen.auxiliaries[0].store.encoder_name == "made-up"
    with pytest.raises(InputError, match="several stores fit --aux text"):
        select_stores(feats, None, "image", [["text"]], only_tokens=True)
    with pytest.raises(InputError, match="unknown encoder in --aux text:ids"):
        select_stores(feats, None, "image", [["text:ids"]])


def test_noise_in_place_of_ids_has_their_lengths_and_shares(tmp_path: Path) -> None:
    features = open_features(write_ids(tmp_path, 5, 400))
    real = sequences("text", features, np.arange(400))
    noise = real.as_noise(3)
    assert real.standardised() is real
    a, b = real.batch(np.arange(400)), noise.batch(np.arange(400))
    assert a.layout.lengths.tolist() == b.layout.lengths.tolist()
    shares = [np.bincount(one.values.numpy(), minlength=5) / len(one.values) for one in (a, b)]
    np.testing.assert_allclose(shares[1], shares[0], atol=0.05)
    steps = (b.values[1:] - b.values[:-1]) % 5 == 1  # the real ones count upwards
    assert steps.float().mean() < 0.4


def test_what_has_no_meaning_is_refused(settings: TrainSettings, tmp_path: Path) -> None:
    for values, words in (
        ({"controls": ("permuted",)}, "swaps classes"),
        ({"normalize": "l2"}, "none or standard"),
        ({"texts": "mean"}, "--texts means nothing"),
        ({"methods": ("uml-init",)}, "unknown method of the objective ssl"),
        ({"objective": "sll"}, "did you mean ssl"),
        ({"checkpoint_minutes": -1.0}, "from 0 on"),
    ):
        with pytest.raises(InputError, match=words):
            replace(settings, **values)
    with pytest.raises(InputError, match="did you mean text"):
        train(replace(settings, auxiliaries=(("tex",),)))
    write_store(tmp_path / "feats", "image", np.zeros((3, 2)), [0, 1, 2], [0, 1, 2])
    with pytest.raises(InputError, match="holds no store with tokens"):
        train(replace(settings, cache=tmp_path / "feats"))
