"""The estimators behind the advice, against brute force and cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from added_information import information_gain
from closed_form_head import RATIOS, Ridge, class_prior, gain
from uml_evaluate.advice.evidence import compare_geometry, gather
from uml_evaluate.advice.geometry import agreement
from uml_evaluate.advice.pilot import pilot
from uml_evaluate.advice.training_rows import (
    Rows,
    capped,
    held_out_per_class,
    reduced,
    rows_per_class,
    shots,
    splits,
)


def _world(
    classes: int, per_class: int, dim: int, noise: float, seed: int, geometry: np.ndarray | None = None
) -> Rows:
    """Rows around class means that are a random rotation of `geometry` (C, 3)."""
    rng = np.random.default_rng(seed)
    geometry = np.random.default_rng(99).standard_normal((classes, 3)) if geometry is None else geometry
    basis = np.linalg.qr(rng.standard_normal((dim, 3)))[0]
    labels = np.repeat(np.arange(classes), per_class)
    features = (geometry @ basis.T)[labels] + noise * rng.standard_normal((len(labels), dim))
    return Rows(features.astype(np.float32), labels, classes)


def test_capped_takes_at_most_so_many_of_each_class() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [2, 5, 9]))
    kept = capped(labels, 4, np.random.default_rng(1))
    assert np.bincount(labels[kept]).tolist() == [2, 4, 4]
    assert len(set(kept.tolist())) == len(kept)
    assert (np.diff(kept) > 0).all()
    assert (rows_per_class(10), rows_per_class(60), rows_per_class(1000)) == (64, 50, 32)
    assert (held_out_per_class(50), held_out_per_class(100), held_out_per_class(1000)) == (16, 8, 4)


def test_reducing_keeps_the_class_means_exactly() -> None:
    rng = np.random.default_rng(2)
    features, labels = rng.standard_normal((60, 700)), np.repeat(np.arange(6), 10)
    rows = reduced(features, labels, 6, rng)
    assert rows.features.shape == (60, 128)
    full, _ = Rows(features, labels, 6).means()
    short, _ = rows.means()
    np.testing.assert_allclose(short @ short.T, full @ full.T, rtol=1e-3, atol=1e-3)
    narrow = rng.standard_normal((60, 20)).astype(np.float32)
    np.testing.assert_array_equal(reduced(narrow, labels, 6, rng).features, narrow)


@pytest.mark.parametrize(("k", "pairs", "trained", "held"), [(2, 4, 2, 3), (5, 4, 4, 1), (1, 4, 1, 4)])
def test_splits_hold_rows_out(k: int, pairs: int, trained: int, held: int) -> None:
    rows = _world(3, 5, 4, 1.0, 0)
    found = list(splits(rows, k, 4, np.random.default_rng(0)))
    assert len(found) == pairs
    for train, held_out in found:
        assert not set(train.tolist()) & set(held_out.tolist())
        assert np.bincount(rows.labels[train]).tolist() == [trained] * 3
        assert np.bincount(rows.labels[held_out]).tolist() == [held] * 3
    if k == 5:
        assert sorted(r for _, held_out in found for r in held_out.tolist()) == sorted(
            {r for _, held_out in found for r in held_out.tolist()}
        )
    assert shots(rows) == 5


def test_one_row_per_class_leaves_nothing_to_hold_out() -> None:
    rows = _world(3, 1, 4, 1.0, 0)
    assert list(splits(rows, 1, 4, np.random.default_rng(0))) == []
    others, rng = [_world(3, 4, 5, 0.1, 1)], np.random.default_rng(0)
    evidence = gather(rows, others, compare_geometry(rows, others, rng), 1, rng)[0]
    assert evidence.pilot_late is evidence.pilot_best is None
    assert evidence.agreement is None  # three classes


def test_agreement_sees_a_rotated_world_and_not_a_permuted_one() -> None:
    target, other = _world(12, 4, 30, 0.3, 1), _world(12, 6, 50, 0.3, 2)
    found = agreement(target, other, np.random.default_rng(0))
    assert found is not None
    assert found.alignment > 0.8
    assert found.p < 0.01
    order = np.roll(np.arange(12), 5)
    swapped = Rows(other.features, order[other.labels], 12)
    wrong = agreement(target, swapped, np.random.default_rng(0))
    assert wrong is not None
    assert wrong.z < 3 < found.z


def test_agreement_equals_its_definition() -> None:
    """Bias-corrected (U-centred) inner products over pairs of classes, written out in loops."""
    target, other = _world(6, 3, 8, 0.5, 3), _world(6, 3, 9, 0.5, 4)
    matrices = []
    for rows in (target, other):
        means = np.stack([rows.features[rows.labels == c].mean(0) for c in range(6)]).astype(float)
        means -= means.mean(0)
        gram = [[0.0 if i == j else float(means[i] @ means[j]) for j in range(6)] for i in range(6)]
        total = sum(map(sum, gram))
        centred = [
            [
                0.0 if i == j else gram[i][j] - sum(gram[i]) / 4 - sum(gram[j]) / 4 + total / 20
                for j in range(6)
            ]
            for i in range(6)
        ]
        matrices.append(np.array(centred))
    a, b = matrices
    expected = (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
    found = agreement(target, other, np.random.default_rng(0))
    assert found is not None
    assert found.alignment == pytest.approx(expected, abs=1e-6)


def test_the_null_is_uniform_where_nothing_is_shared() -> None:
    values = []
    for seed in range(60):
        geometry = np.random.default_rng((seed, 5)).standard_normal((8, 3))
        found = agreement(
            _world(8, 2, 10, 1.0, seed), _world(8, 2, 10, 1.0, seed + 100, geometry), np.random.default_rng(0)
        )
        assert found is not None
        values.append(found.p)
    assert 0.35 < np.mean(values) < 0.65
    assert np.mean(np.array(values) < 0.1) < 0.25


def test_the_closed_form_equals_a_gaussian_process_written_out() -> None:
    """The full covariance over all (row, class) pairs, solved without any eigenbasis."""
    train, held = _world(3, 3, 5, 0.8, 6), _world(3, 4, 5, 0.8, 7)
    prior = np.array([[1.0, 0.7, 0.0], [0.7, 1.0, 0.2], [0.0, 0.2, 1.0]])
    model, evidence = Ridge(train).best(prior)
    x = train.features.astype(float) - train.features.astype(float).mean(0)
    kernel = x @ x.T
    rank = np.linalg.matrix_rank(kernel)
    scale = np.trace(kernel) / rank
    y = (np.eye(3)[train.labels] - 1 / 3).reshape(-1)
    best, wanted = -np.inf, None
    new = (held.features - train.features.astype(float).mean(0)) @ x.T / scale
    for ratio in RATIOS:
        covariance = np.kron(kernel / scale, prior) + ratio * np.eye(len(y))
        solved = np.linalg.solve(covariance, y)
        found = -0.5 * (len(y) * np.log(y @ solved / len(y)) + np.linalg.slogdet(covariance)[1])
        if found > best:
            best, wanted = found, (np.kron(new, prior) @ solved).reshape(-1, 3)
    assert evidence == pytest.approx(best, rel=1e-6)
    np.testing.assert_allclose((held.features - model.mean) @ model.weights, wanted, rtol=1e-5, atol=1e-8)


def test_a_prior_that_is_right_gains_and_a_permuted_one_does_not() -> None:
    geometry = np.repeat(np.random.default_rng(8).standard_normal((4, 3)), 3, axis=0)
    geometry += 0.25 * np.random.default_rng(9).standard_normal(geometry.shape)
    gains = {"right": [], "permuted": []}
    for seed in range(6):
        target = _world(12, 18, 40, 0.5, seed, geometry)
        other = _world(12, 10, 30, 0.1, 50 + seed, geometry)
        prior = class_prior(other)
        train, held_out = next(iter(splits(target, 2, 1, np.random.default_rng(seed))))
        order = np.random.default_rng(seed).permutation(12)
        solver = Ridge(target.taken(train))
        gains["right"].append(gain(solver, target.taken(held_out), prior))
        gains["permuted"].append(gain(solver, target.taken(held_out), prior[np.ix_(order, order)]))
    for measure in ("accuracy", "evidence"):
        means = {name: np.mean([getattr(g, measure) for g in found]) for name, found in gains.items()}
        assert means["right"] > max(means["permuted"], 0.0), measure


def test_a_class_without_auxiliary_rows_is_independent_of_the_others() -> None:
    rows = _world(5, 4, 6, 0.1, 10)
    some = rows.taken(np.flatnonzero(rows.labels != 2))
    prior = class_prior(some)
    assert prior[2].tolist() == [0, 0, 1, 0, 0]
    assert prior.diagonal()[[0, 1, 3, 4]].mean() == pytest.approx(1.0)
    assert np.linalg.eigvalsh(prior)[0] > -1e-9


def test_the_pilot_equals_the_head_bank_run_by_hand_and_tells_right_from_wrong() -> None:
    geometry = np.repeat(np.random.default_rng(8).standard_normal((4, 3)), 3, axis=0)
    geometry += 0.4 * np.random.default_rng(9).standard_normal(geometry.shape)
    target, right = _world(12, 14, 30, 0.8, 1, geometry), _world(12, 10, 20, 0.1, 2, geometry)
    wrong = Rows(right.features, np.roll(np.arange(12), 5)[right.labels], 12)
    train, held = next(iter(splits(target, 2, 1, np.random.default_rng(0))))
    both = pilot(target.taken(train), target.taken(held), [right, wrong], seed=3)
    assert both.widths == (20, 20)
    assert len(both.alone) == 1  # one network without auxiliary serves both
    assert both.gains(0)[0] > both.gains(0)[1] + 2
    alone = pilot(target.taken(train), target.taken(held), [right], seed=3)
    assert alone.together[0] == both.together[0]
    assert alone.gains(1)[0] == alone.together[0][1] - alone.alone[20][1]


def test_added_information_is_never_negative_and_small_where_nothing_is_shared() -> None:
    target = _world(10, 8, 20, 0.3, 1)
    right = information_gain(target, _world(10, 8, 25, 0.3, 2), np.random.default_rng(0))
    other = np.random.default_rng(3).standard_normal((10, 3))
    wrong = information_gain(target, _world(10, 8, 25, 0.3, 2, other), np.random.default_rng(0))
    assert right is not None
    assert wrong is not None
    assert right > wrong >= 0
    few = _world(3, 8, 20, 0.3, 1)
    assert information_gain(few, few, np.random.default_rng(0)) is None
