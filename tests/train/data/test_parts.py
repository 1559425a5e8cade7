"""Batch order, initial heads, controls, normalisation, grids and settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from uml_cache.errors import InputError
from uml_cache.settings import declared
from uml_train.data.batches import BatchOrder, batch_rows
from uml_train.data.controls import permuted_labels, random_class_vectors
from uml_train.data.normalize import Normalizer
from uml_train.heads.weights import class_mean_rows, initial_weights
from uml_train.protocols.grid import Schedule
from uml_train.protocols.named_grids import load_grid
from uml_train.settings import TrainSettings


@given(rows=st.integers(1, 60), batch=st.integers(1, 60), start=st.integers(0, 40), steps=st.integers(1, 30))
def test_batches_are_whole_permutations_wherever_one_starts(
    rows: int, batch: int, start: int, steps: int
) -> None:
    batch = min(rows, batch)
    every = batch_rows(seed=3, name="image", rows=rows, batch=batch, start=0, steps=start + steps)
    some = batch_rows(seed=3, name="image", rows=rows, batch=batch, start=start, steps=steps)
    assert torch.equal(every[start:], some)
    per_epoch = rows // batch
    for first in range(0, start + steps, per_epoch):
        epoch = every[first : first + per_epoch].flatten()
        assert len(set(epoch.tolist())) == len(epoch)
        assert 0 <= int(epoch.min()) <= int(epoch.max()) < rows


def test_batches_depend_on_seed_and_modality() -> None:
    def order(seed: int, name: str) -> list[int]:
        return batch_rows(seed=seed, name=name, rows=50, batch=8, start=0, steps=6).flatten().tolist()

    assert order(1, "image") == order(1, "image")
    assert len({tuple(order(s, n)) for s in (1, 2) for n in ("image", "text")}) == 4


def test_remembered_chunks_are_the_drawn_ones() -> None:
    orders = BatchOrder()
    for chunk in (0, 3, 0):
        drawn = batch_rows(seed=1, name="a", rows=20, batch=8, start=chunk * 5, steps=5)
        assert torch.equal(orders.chunk(seed=1, name="a", rows=20, batch=8, steps=5, chunk=chunk), drawn)


def test_initial_weights_do_not_depend_on_the_other_modalities() -> None:
    alone = initial_weights([("image", 5, True, 1.0)], classes=3, width=4, seed=7)
    beside = initial_weights([("image", 5, True, 1.0), ("text", 4, False, 1.0)], classes=3, width=4, seed=7)
    assert torch.equal(alone.head, beside.head)
    assert torch.equal(alone.projections[0], beside.projections[0])
    assert float(alone.head.abs().max()) <= 0.5
    other = initial_weights([("image", 5, True, 1.0)], classes=3, width=4, seed=8)
    assert not torch.equal(alone.head, other.head)


def test_effective_map_gives_the_logits() -> None:
    weights = initial_weights([("image", 5, True, 2.0)], classes=3, width=4, seed=7)
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(weights.logits(x), x @ weights.effective().T)


def test_class_mean_rows_are_unit_means_and_list_the_missing() -> None:
    features = torch.tensor([[2.0, 0.0], [4.0, 0.0], [0.0, -3.0]])
    rows, missing = class_mean_rows(features, torch.tensor([0, 0, 2]), 3, seed=1)
    torch.testing.assert_close(rows[[0, 2]], torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
    assert missing == [1]
    assert float(rows[1].norm()) == pytest.approx(1.0)


@given(st.integers(2, 30), st.integers(0, 50))
def test_permuted_classes_are_a_derangement(classes: int, seed: int) -> None:
    labels = torch.arange(classes).repeat(2) + 3
    permuted = permuted_labels(labels, seed)
    assert not (permuted == labels).any()
    assert torch.equal(permuted[:classes], permuted[classes:])
    assert sorted(permuted[:classes].tolist()) == labels[:classes].tolist()


def test_one_class_cannot_be_permuted() -> None:
    with pytest.raises(InputError, match="two classes"):
        permuted_labels(torch.zeros(4, dtype=torch.int64), 1)


def test_random_class_vectors_keep_scale_scatter_and_mean_but_not_geometry() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(10).repeat(20)
    centres = torch.randn(10, 64, generator=generator) * 3 + 5
    features = centres[labels] + torch.randn(200, 64, generator=generator)
    drawn = random_class_vectors(features, labels, "text", 1)

    def split(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        means = torch.stack([x[labels == c].mean(0) for c in range(10)])
        return x.mean(0), means - x.mean(0), x - means[labels]

    grand, offsets, scatter = split(features)
    grand2, offsets2, scatter2 = split(drawn)
    torch.testing.assert_close(scatter, scatter2, atol=1e-4, rtol=1e-4)
    # The new offsets need not sum to zero: the grand mean may move by their mean.
    moved = grand2 - grand
    torch.testing.assert_close((offsets2 + moved).norm(dim=1), offsets.norm(dim=1), atol=1e-3, rtol=1e-3)
    cosine = torch.nn.functional.cosine_similarity(offsets, offsets2 + moved, dim=1)
    assert float(cosine.abs().max()) < 0.5


@pytest.mark.parametrize("kind", ["none", "center", "l2", "standard"])
def test_normalisation(kind: str) -> None:
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) * 3 + 2
    x[:, 3] = 1.5  # a feature that does not vary
    y = Normalizer.fit(kind, x)(x)
    if kind == "none":
        assert torch.equal(x, y)
    elif kind == "l2":
        torch.testing.assert_close(y.norm(dim=1), torch.ones(50))
    else:
        torch.testing.assert_close(y.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
        std = y.std(0, correction=0)
        expected = x.std(0, correction=0) if kind == "center" else torch.tensor([1.0, 1.0, 1.0, 0.0])
        torch.testing.assert_close(std, expected)


def test_paper_grid_is_the_reference_one() -> None:
    grid = load_grid("paper")
    assert len(grid.candidates) == 24
    assert {c.lr for c in grid.candidates} == {1e-3, 1e-4}
    assert {c.weight_decay for c in grid.candidates} == {0.0, 0.01, 0.001}
    assert grid.schedule == Schedule(steps=12_800, warmup=50, eval_every=100, patience=10)
    schedule = grid.schedule
    assert schedule.lr(1e-3, 0) == 1e-5
    assert schedule.lr(1e-3, 25) == pytest.approx(5e-4)
    assert schedule.lr(1e-3, 50) == pytest.approx(1e-3)
    assert schedule.lr(1e-3, 50 + 6_400) == pytest.approx(5e-4)


def test_grid_file_changes_only_what_it_names(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("lr = [0.1, 1]\nsteps = 40\n")
    grid = load_grid(str(file))
    assert grid.name == "mine"
    assert [c.lr for c in grid.candidates] == [0.1, 1.0]
    assert grid.schedule == Schedule(steps=40, warmup=50, eval_every=50, patience=5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("lr = [", "not TOML"),
        ("lr = ['fast']", "lr is fast; it takes numbers above 0"),
        ("lr = [-1.0]", "lr is -1; it takes numbers above 0"),
        ("lr = []", "lr is none; it takes numbers above 0"),
        ("batch_size = [true]", "batch_size is True; it takes whole numbers from 1 on"),
        ("steps = 2.5", "whole number"),
        ("steps = 0", "at least 1"),
        ("learning_rate = [0.1]", "learning_rate"),
    ],
)
def test_wrong_grid_files_are_one_clear_error(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "grid.toml"
    file.write_text(content)
    with pytest.raises(InputError, match=message):
        load_grid(str(file))


def test_unknown_grid_offers_the_closest() -> None:
    with pytest.raises(InputError, match="quick"):
        load_grid("quik")
    with pytest.raises(InputError, match="does not exist"):
        load_grid("absent.toml")


def test_settings_round_trip_as_json() -> None:
    settings = TrainSettings(
        cache=Path("feats"), auxiliaries=(("text",), ("text", "audio")), shots=(1, "all"), texts=3
    )
    assert TrainSettings.from_json(settings.to_json()) == settings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"methods": ("umll",)}, "did you mean uml"),
        ({"methods": ()}, "no method"),
        ({"controls": ("shuffled",)}, "unknown control"),
        ({"methods": ("unimodal",), "controls": ("permuted",)}, "need a method"),
        ({"normalize": "l3"}, "did you mean l2"),
        ({"shots": (0,)}, "at least 1"),
        ({"shots": ()}, "shots are none; it takes numbers of at least 1"),
        ({"seeds": ()}, "different whole numbers"),
        ({"seeds": (1, 1)}, "different whole numbers"),
        ({"alpha": -1.0}, "from 0 to 1,000,000"),
        ({"alpha": float("nan")}, "from 0 to 1,000,000"),
        ({"texts": 0}, "at least 1"),
    ],
)
def test_wrong_settings_are_one_clear_error(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainSettings(cache=Path("feats"), **values)


def test_numbers_on_the_command_line() -> None:
    known = declared(TrainSettings)
    assert known["seeds"].read("1-3,2,7", "--seeds") == (1, 2, 3, 7)
    assert TrainSettings(shots="4,all,1").shots == (4, 1, "all")
    assert known["shots"].read("all", "--shots") == ("all",)
    assert [known["texts"].read(t, "--texts") for t in ("all", "mean", "12")] == ["all", "mean", 12]
    for wrong in ("", "a", "1-", "-3", "1,,2", "3-1"):
        with pytest.raises(InputError, match="--seeds"):
            known["seeds"].read(wrong, "--seeds")
    with pytest.raises(InputError, match="--texts"):
        known["texts"].read("some", "--texts")


def test_schedule_is_finite_past_its_end() -> None:
    schedule = Schedule(steps=10, warmup=4, eval_every=3, patience=1)
    rates = np.array([schedule.lr(1.0, step) for step in range(10)])
    assert (np.diff(rates[1:5]) > 0).all()
    assert (np.diff(rates[4:]) < 0).all()
    assert [step for step in range(10) if schedule.evaluates(step)] == [0, 3, 6, 9]
