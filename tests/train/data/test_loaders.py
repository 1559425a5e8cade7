"""Where features wait changes no number: the same heads from memory, from the map and from the stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from toy_stores import clusters, write_store
from uml_cache import FeatureSet, open_features
from uml_cache.command import QUIET
from uml_train import HeadBank, HeadModel, Samples, TrainSettings, load_grid, train
from uml_train.data.batches import batch_rows
from uml_train.data.normalize import Normalizer
from uml_train.data.placing import chosen_loader, placed, plain
from uml_train.data.rows import BLOCK, Held, Stored, block_bounds
from uml_train.runs.cells import prepare
from uml_train.runs.head_session import open_heads
from uml_train.runs.ranks import Ranks
from uml_train.runs.settled.combinations import cells_of

Settings = Callable[..., TrainSettings]
LOADERS = ("device", "host", "stream")


@pytest.fixture
def stored(tmp_path: Path) -> FeatureSet:
    labels = np.tile(np.arange(5), 30)
    generator = np.random.default_rng(0)
    tokens = [generator.standard_normal((generator.integers(1, 5), 7)) for _ in labels]
    path = write_store(tmp_path, "image", clusters(1, labels, 6, 1.0), labels, labels * 0, tokens=tokens)
    return open_features(path)


@pytest.mark.parametrize("part", ["pooled", "tokens"])
@pytest.mark.parametrize("loader", ["host", "stream"])
@pytest.mark.parametrize("balanced", [False, True])
def test_batches_from_a_store_are_those_of_memory(
    stored: FeatureSet, part: str, loader: str, balanced: bool
) -> None:
    chosen = np.random.default_rng(1).permutation(150)[:45]
    labels = torch.from_numpy(stored.label[chosen].astype(np.int64))
    rows = Stored(features=stored, rows=chosen, part=part, loader=loader)
    shift = torch.randn(5, rows.dim)
    normalize = Normalizer(mean=torch.randn(rows.dim), scale=torch.rand(rows.dim) + 0.5)
    rows = rows.shifted(shift, labels).normalized(normalize)
    held = rows.held()
    assert len(held) == len(rows) == 45
    index = batch_rows(
        seed=3, name="image", rows=45, batch=8, start=0, steps=12, labels=labels if balanced else None
    )
    feed = rows.batches(seed=3, name="image", batch=8, labels=labels if balanced else None)
    for expected, found in zip(index, islice(feed, 12), strict=True):  # more than two epochs
        there = held.take(expected)
        assert torch.equal(found.values, there.values)
        assert found.offsets is None or torch.equal(found.offsets, there.offsets)
    feed.close()
    before = Held(Stored(features=stored, rows=chosen, part=part).held().values)
    moved = torch.cat([b.values for _, b in rows.blocks()])
    assert torch.equal(held.values, moved)
    assert not torch.equal(before.values, moved)


def test_blocks_hold_every_sample_once_and_not_too_much() -> None:
    sizes = np.random.default_rng(0).integers(0, 50, 3000)
    for given in (sizes, np.full(3000, 7)):
        bounds = block_bounds(given, 384)
        assert [a for a, _ in bounds[1:]] == [b for _, b in bounds[:-1]]
        assert (bounds[0][0], bounds[-1][1]) == (0, 3000)
        assert len(bounds) > 1
        assert all(given[a:b].sum() * 384 <= BLOCK for a, b in bounds)
    assert block_bounds(np.array([10**6]), 384) == [(0, 1)]


def test_normalisation_in_blocks_is_that_of_the_whole() -> None:
    x = 3 + 2 * torch.randn(1000, 6)
    x[:, 2] = 0.1
    whole = Normalizer.fit("standard", x)
    parts = Normalizer.fit_blocks("standard", lambda: x.split(37))
    assert whole.scale is not None
    assert parts.scale is not None
    assert whole.scale[2] == parts.scale[2] == 1.0
    torch.testing.assert_close(whole.scale, parts.scale)
    torch.testing.assert_close(whole.scale[0], x[:, 0].double().std(correction=0).float())


@pytest.mark.parametrize(
    ("trunk", "normalize", "control", "ratio"),
    [("linear", "standard", "random", 0.5), ("mlp", "l2", "permuted", 2.0)],
)
def test_runs_are_equal_bit_for_bit(
    cache: Path,
    settings_for: Settings,
    tmp_path: Path,
    trunk: str,
    normalize: str,
    control: str,
    ratio: float,
) -> None:
    heads = []
    for loader in LOADERS:
        run = train(
            settings_for(
                cache, loader=loader, out=tmp_path / loader, shots=("all",), seeds=(1,), trunk=trunk,
                normalize=normalize, controls=(control,), auxiliaries=(("text", "audio"),),
                ratio=ratio, methods=("unimodal", "uml-init"),
                sampling="balanced" if trunk == "mlp" else "shuffled",
            )
        )  # fmt: skip
        heads.append({r.cell.key: (r.head_path.read_bytes(), r.history, r.test_acc) for r in run.cells})
        assert run.path.name == train(replace(run.settings, loader="auto")).path.name
    assert heads[0] == heads[1] == heads[2]


def test_runs_over_tokens_are_equal_too(tmp_path: Path, settings_for: Settings) -> None:
    feats = tmp_path / "feats"
    labels = np.tile(np.arange(5), 12)
    generator = np.random.default_rng(0)
    for modality, dim in (("image", 6), ("text", 7)):
        tokens = [generator.standard_normal((generator.integers(1, 5), dim)) for _ in labels]
        write_store(feats, modality, clusters(1, labels, 4, 1.0), labels, np.repeat([0, 1, 2], 20),
                    tokens=tokens)  # fmt: skip
    grid = tmp_path / "short.toml"
    grid.write_text("lr = [0.01]\nsteps = 12\nwarmup = 2\neval_every = 6\nbatch_size = [8]\nratio = [2.0]\n")
    heads = []
    for loader in LOADERS:
        settings = settings_for(
            feats, loader=loader, out=tmp_path / loader, shots=("all",), seeds=(1,), trunk="transformer",
            methods=("uml-init",), normalize="center", grid=str(grid),
        )  # fmt: skip
        heads.append([(r.head_path.read_bytes(), r.history) for r in train(settings).cells])
    assert heads[0] == heads[1] == heads[2]


def test_a_stack_gathers_from_stores_too(cache: Path, settings_for: Settings) -> None:
    found = []
    for loader in LOADERS:
        settings = settings_for(cache, loader=loader, shots=("all",), auxiliaries=(("text",),), trunk="mlp")
        session = open_heads(settings, Ranks(), QUIET)
        problem, resolved = session.problem, session.settings
        cell = next(c for c in cells_of(resolved, problem, ("all",)) if c.method == "uml")
        grid = load_grid(resolved.grid)
        models: list[HeadModel] = prepare(problem, cell, resolved, grid).models
        assert isinstance(models[0].target.features, torch.Tensor if loader == "device" else Stored)
        found.append(HeadBank(models, grid.schedule, stacked=True).fit())
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert torch.equal(a.weights.head, b.weights.head)
            assert a.history == b.history


def test_where_rows_wait_by_size(stored: FeatureSet, monkeypatch: pytest.MonkeyPatch) -> None:
    part = Stored(features=stored, rows=np.arange(150))
    assert chosen_loader([part], "stream", "cpu", 1) == "stream"
    assert chosen_loader([part], "auto", "cpu", 1) == "device"
    assert isinstance(plain(placed(part, "device")), torch.Tensor)
    stored.access = "mapped"
    monkeypatch.setattr("uml_train.data.placing.memory_bytes", lambda: 8_100)  # 3,600 are wanted
    assert chosen_loader([part], "auto", "cpu", 1) == "host"  # mapped: it needs no memory of its own
    assert chosen_loader([part], "auto", "cpu", 100) == "host"
    unmapped = Stored(features=open_features(stored.path, access="zarr"), rows=np.arange(150))
    assert chosen_loader([unmapped], "auto", "cpu", 1) == "host"
    assert chosen_loader([unmapped], "auto", "cpu", 100) == "stream"
    assert placed(unmapped, "stream").take(torch.tensor([3])).values.shape == (1, 6)


def test_sizes_of_samples_and_features_must_agree(stored: FeatureSet) -> None:
    with pytest.raises(ValueError, match=r"features \(150, 6\), labels \(2,\)"):
        Samples(
            name="image",
            features=Stored(features=stored, rows=np.arange(150)),
            labels=torch.tensor([0, 1]),
            projected=True,
        )
