"""`self-training`: what it guesses, what it never sees, and what a run makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from toy_stores import clusters, write_store
from uml_cache import InputError
from uml_train import Candidate, HeadModel, Point, Samples, TrainSettings, load_head, train
from uml_train.data.unlabelled import made_up, pool_rows
from uml_train.fullbatch.search import solve
from uml_train.fullbatch.self_training import ridge_logits, self_trained, surest
from uml_train.runs.drawn import draw_rows
from uml_train.runs.refit import head_bytes
from uml_train.runs.settled.reopening import open_run_problem

Settings = Callable[..., TrainSettings]
POINT = Point(loss="squared", strength=10.0, alpha=None, ratio=None, prior=0.0)
TRAIN, VAL, TEST, NONE = 0, 1, 2, 255


def _model(x: torch.Tensor, y: torch.Tensor, xv: torch.Tensor, yv: torch.Tensor) -> HeadModel:
    return HeadModel(
        target=Samples(name="image", features=x, labels=y, projected=False),
        validation=(xv, yv), classes=5, width=x.shape[1], seed=1,
        candidate=Candidate(lr=0.0, weight_decay=0.0, batch_size=1),
    )  # fmt: skip


def _rows(seed: int, labels: np.ndarray, noise: float = 1.0) -> torch.Tensor:
    return torch.from_numpy(clusters(seed, labels, 12, noise).astype(np.float32))


def test_the_surest_rows_of_every_guessed_class() -> None:
    logits = torch.randn(200, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits[:, 4] -= 10.0  # a class that nothing is guessed to be
    chosen, classes = surest(logits, 7)
    sure, guess = logits.softmax(1).max(1)
    for c in range(5):
        own = [i for i in range(200) if guess[i] == c]
        best = sorted(own, key=lambda i: -float(sure[i]))[:7]
        assert sorted(chosen[classes == c].tolist()) == sorted(best)
    assert len(chosen) == 28


@pytest.mark.parametrize("rows", [8, 40])
def test_heads_in_between_are_ridge_regression(rows: int) -> None:
    """With fewer rows than features and with more."""
    y = torch.arange(rows) % 5
    x, queries = _rows(1, y.numpy()), _rows(2, np.tile(np.arange(5), 6))
    found = ridge_logits(x, y, 5, 3.0)(queries)
    centred = x.double() - x.double().mean(0)
    theirs = Ridge(alpha=float(centred.square().sum(1).mean()) / 3.0).fit(x.double(), np.eye(5)[y])
    np.testing.assert_allclose(found, theirs.predict(queries.double()), atol=1e-9)
    (head,) = solve(_model(x, y, queries, torch.zeros(30).long()), [POINT], [1.0])
    ours = ridge_logits(x, y, 5, POINT.strength)(queries)
    np.testing.assert_allclose(head.weights.logits(queries), ours, atol=1e-4)


def test_rows_without_labels_help_and_swapped_ones_do_not() -> None:
    plain, guessed, swapped = [], [], []
    for seed in range(6):
        y, yv, yp = np.tile(np.arange(5), 1), np.tile(np.arange(5), 40), np.tile(np.arange(5), 40)
        order = np.random.default_rng(seed)
        every = _rows(7, np.concatenate([y, yv, yp]), 1.1)
        shift = torch.from_numpy(order.standard_normal((5, 12)).astype(np.float32))
        x, xv, pool = every[:5] + 0.7 * shift, every[5:205], every[205:]
        model = _model(x, torch.from_numpy(y), xv, torch.from_numpy(yv))
        plain.append(solve(model, [POINT])[0].val_acc)
        guessed.append(self_trained(model, POINT, pool).val_acc)
        swapped.append(self_trained(model, POINT, pool, "permuted").val_acc)
    assert np.mean(guessed) > np.mean(plain) + 3.0
    assert np.mean(swapped) < np.mean(plain) - 10.0


def test_made_up_rows_keep_mean_and_scatter_and_no_sample() -> None:
    rows = _rows(1, np.tile(np.arange(5), 400)) @ torch.randn(
        12, 12, generator=torch.Generator().manual_seed(1)
    )
    rows = rows + 3.0
    found = made_up(rows, 4)
    assert found.shape == rows.shape
    spread = rows.T.cov().diagonal().sqrt().mean()
    assert float((found.mean(0) - rows.mean(0)).abs().max()) < 0.1 * spread
    assert float((found.T.cov() - rows.T.cov()).abs().max()) < 0.2 * spread**2
    assert float(torch.cdist(found, rows).min()) > 1e-3
    assert torch.equal(found, made_up(rows, 4))
    assert not torch.equal(found, made_up(rows, 5))


@pytest.fixture
def partly(tmp_path: Path) -> Path:
    """150 pictures with labels in three parts, and 30 without in the training, test and no part; texts."""
    return _partly(tmp_path / "partly")


def _partly(feats: Path, test_noise: int | None = None) -> Path:
    labels = np.tile(np.arange(5), 36)
    x = clusters(1, labels, 12, 1.5)
    labels = labels.copy()
    labels[150:] = -1
    splits = np.repeat([TRAIN, VAL, TEST, TRAIN, TEST, NONE], [40, 20, 90, 10, 10, 10])
    if test_noise is not None:
        of_test = splits == TEST
        x[of_test] = np.random.default_rng(test_noise).standard_normal((of_test.sum(), 12))
    write_store(feats, "image", x, labels, splits)
    words = np.tile(np.arange(5), 10)
    write_store(feats, "text", clusters(2, words, 16, 0.5), words, np.full(50, NONE))
    return feats


VALUES: dict[str, Any] = {
    "grid": "auto",
    "seeds": (1, 2),
    "shots": (2,),
    "methods": ("ridge", "self-training"),
}


def test_the_pool_is_what_nobody_labelled(partly: Path, settings_for: Settings) -> None:
    """Training rows outside the draw, and rows without labels in the training part: no others."""
    run = train(settings_for(partly, **VALUES))
    problem = open_run_problem(run)
    assert problem.unlabelled.tolist() == list(range(150, 160))
    draw = draw_rows(problem, 2, 1)
    labelled = np.concatenate([draw.train, draw.val])
    pool = pool_rows(problem, labelled, 1)
    rows = [r for r in range(40) if r not in draw.train.tolist()] + list(range(150, 160))
    expected = torch.as_tensor(problem.target.features.pooled[rows]).float()
    assert torch.equal(pool, expected)


def test_views_and_groups_of_test_rows_are_not_guessed(tmp_path: Path, settings_for: Settings) -> None:
    labels = np.concatenate([np.tile(np.arange(5), 20), np.full(12, -1)])
    x = clusters(1, np.maximum(labels, 0), 12, 1.5)
    splits = np.repeat([TRAIN, VAL, TEST, TRAIN], [40, 20, 40, 12])
    groups = [f"g{i}" for i in range(100)] + ["g99", "g50", "", "new", "g3", *[f"n{i}" for i in range(7)]]
    write_store(tmp_path / "feats", "image", x, labels, splits, groups=groups)
    words = np.tile(np.arange(5), 10)
    write_store(tmp_path / "feats", "text", clusters(2, words, 16, 0.5), words, np.full(50, NONE))
    run = train(settings_for(tmp_path / "feats", **VALUES))
    # g99 tests and g50 validates; nobody's group, a new one and one that trains are free.
    assert open_run_problem(run).unlabelled.tolist() == list(range(102, 112))


def test_no_bit_of_a_head_depends_on_test_rows(tmp_path: Path, settings_for: Settings) -> None:
    """Heads are the same whatever stands in the test rows, labelled or not."""
    settings = {**VALUES, "controls": ("permuted", "random")}
    heads = []
    for name, noise in (("a", None), ("b", 5)):
        feats = _partly(tmp_path / name, noise)
        run = train(settings_for(feats, out=tmp_path / f"runs-{name}", **settings))
        heads.append({r.cell: load_head(r.head_path) for r in run.cells})
    assert len(heads[0]) == 2 * 4
    for cell, head in heads[0].items():
        assert np.array_equal(head.weight, heads[1][cell].weight), cell


def test_a_run_has_it_with_controls_and_heads(partly: Path, settings_for: Settings) -> None:
    values = {**VALUES, "methods": ("unimodal", "ridge", "self-training", "prior", "auto")}
    run = train(settings_for(partly, controls=("permuted", "random"), **values))
    by = {(r.cell.method, r.cell.control, r.cell.seed): r for r in run.cells}
    problem = open_run_problem(run)
    guessed = 0
    for seed in (1, 2):
        ridge, own = by["ridge", None, seed], by["self-training", None, seed]
        assert own.label_budget == ridge.label_budget
        assert len(own.candidates) == 5
        assert own.val_acc >= ridge.val_acc
        assert own.candidates[4]["hyperparameters"]["guesses"] > 0
        guessed += own.selected == 4
        for control in (None, "permuted", "random"):
            r = by["self-training", control, seed]
            found = load_head(r.head_path).predict(problem.target.values(problem.test))
            assert np.array_equal(found.numpy(), r.test_predictions)
        if own.selected != 4:  # guesses that validate worse are not kept
            assert own.candidates[4]["val_acc"] < own.val_acc
            assert load_head(own.head_path).weight.tolist() == load_head(ridge.head_path).weight.tolist()
    assert guessed
    alone = train(
        settings_for(partly, out=run.path.parent / "alone", **{**VALUES, "methods": ("self-training",)})
    )
    for r in alone.cells:  # whatever else is in the run
        same = by["self-training", None, r.cell.seed]
        assert r.head_path.read_bytes() == same.head_path.read_bytes()


def test_a_head_for_new_samples_guesses_again(partly: Path, settings_for: Settings) -> None:
    """Refitted on validation rows too, from the same pool; `--refit` gives the same head."""
    run = train(settings_for(partly, **VALUES))
    refit = train(settings_for(partly, refit=True, out=run.path.parent / "refit", **VALUES))
    changed = 0
    for a, b in zip(run.cells, refit.cells, strict=True):
        file = run.path / "again.safetensors"
        file.write_bytes(head_bytes(run, a))
        again, first, theirs = load_head(file), load_head(a.head_path), load_head(b.head_path)
        assert np.array_equal(again.weight, theirs.weight)
        assert not np.array_equal(again.weight, first.weight)
        changed += a.cell.method == "self-training" and a.selected == 4
    assert changed


def test_where_there_is_nothing_to_guess(cache: Path, partly: Path, settings_for: Settings) -> None:
    with pytest.raises(InputError, match="--shots all there are none"):
        train(settings_for(cache, **{**VALUES, "shots": ("all",), "auxiliaries": (("text",),)}))
    with pytest.raises(InputError, match="self-training is solved in closed form"):
        train(settings_for(cache, **{**VALUES, "grid": "quick", "methods": ("self-training",)}))
    run = train(settings_for(partly, **{**VALUES, "shots": ("all",)}))
    own = next(r for r in run.cells if r.cell.method == "self-training")
    assert own.candidates[-1]["hyperparameters"]["guesses"] == 10  # all of them, of whatever class
