"""Every measure against scikit-learn where it has it, else against a case computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import davies_bouldin_score, silhouette_samples

from uml_evaluate.analyses import cluster_scores
from uml_evaluate.analyses.alignment.alignment_measures import (
    effective_rank,
    head_gradient,
    linear_cka,
    modality_gap,
    mutual_knn,
    separability,
)
from uml_evaluate.analyses.boundary.class_plane import class_plane
from uml_evaluate.analyses.cluster_scores import davies_bouldin, silhouette
from uml_evaluate.analyses.exchange.exchange_plane import constant_rate, fieller, fit_plane, rate_of
from uml_evaluate.analyses.margin import (
    class_averages,
    functional_margins,
    geometric_margins,
    runner_up_margins,
)
from uml_evaluate.analyses.prototypes import cosines, dominance
from uml_evaluate.analyses.reading import class_means, stratified


def _groups(seed: int, rows: int, dim: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=rows)
    return rng.standard_normal((classes, dim))[labels] + rng.standard_normal((rows, dim)), labels


def test_silhouette_is_scikit_learns() -> None:
    features, labels = _groups(0, 300, 9, 6)
    labels[labels == 5] = 4
    labels[17] = 5  # the only row of its class
    labels = labels * 3 - 1  # any integers
    mine = silhouette(features, labels)
    np.testing.assert_allclose(mine, silhouette_samples(features, labels), atol=1e-10)
    assert mine[17] == 0.0
    assert (silhouette(features[:4], np.arange(4)) == 0.0).all()  # every row a class of its own


@pytest.mark.parametrize("scale", [1.0, 1e-6])
@pytest.mark.parametrize("far", [1e4, 1e5])
def test_silhouette_and_davies_bouldin_keep_their_digits(far: float, scale: float) -> None:
    """Near classes beside a far one, all behind a common offset, in float32: as in double precision."""
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1, 2], 60)
    centres = np.zeros((3, 8))
    centres[1, 0], centres[2] = 0.5, far
    features = ((centres[labels] + 0.05 * rng.standard_normal((180, 8))) * scale).astype(np.float32)
    near = labels < 2
    # Direct differences, without any ‖x‖² + ‖y‖² − 2 x·y, of the two near classes, for which the far one
    # plays no part.
    x = features[near].astype(np.float64)
    apart = np.sqrt(((x[:, None] - x[None]) ** 2).sum(2))
    expected = silhouette_samples(apart, labels[near], metric="precomputed")
    np.testing.assert_allclose(silhouette(features, labels)[near], expected, atol=1e-4)
    assert davies_bouldin(features, labels) == pytest.approx(
        davies_bouldin_score(features.astype(np.float64), labels), rel=1e-9
    )


def test_silhouette_in_float32_survives_a_large_common_offset() -> None:
    features, labels = _groups(1, 200, 5, 3)
    shifted = (features + 300.0).astype(np.float32)
    expected = silhouette_samples(shifted.astype(np.float64), labels)
    np.testing.assert_allclose(silhouette(shifted, labels), expected, atol=1e-9)


@pytest.mark.parametrize(("offset", "sums"), [(0.0, 10**8), (300.0, 0)])
def test_the_fast_silhouette_is_that_of_double_precision(
    offset: float, sums: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each distance made once, or, where sums of all rows take too much memory, twice."""
    monkeypatch.setattr(cluster_scores, "_SUMS", sums)
    features, labels = _groups(3, 5_000, 70, 40)
    labels[labels == 39] = 38
    labels[17] = 39  # the only row of its class
    labels = labels * 2 + 1
    found = silhouette(features + offset, labels, fast=True)
    expected = silhouette_samples(features, labels)
    assert (found != expected).any()  # it is another way
    np.testing.assert_allclose(found, expected, atol=5e-3)  # one row's rounding, at its worst
    assert np.median(np.abs(found - expected)) < 3e-4
    assert found.mean() == pytest.approx(expected.mean(), abs=1e-4)
    assert found[17] == 0.0


@pytest.mark.parametrize("kind", ["a class far away", "a class of equal rows"])
def test_rows_that_rounding_moves_too_far_are_compared_in_double_precision(kind: str) -> None:
    features, labels = _groups(3, 400, 70, 4)
    features[labels == 0] += 1e3 * (kind == "a class far away")
    features[labels == 1] = (
        features[labels == 1][0] if kind == "a class of equal rows" else features[labels == 1]
    )
    found = silhouette(features, labels, fast=True)
    np.testing.assert_allclose(found, silhouette_samples(features, labels), atol=1e-9)


def test_silhouette_takes_two_classes() -> None:
    with pytest.raises(ValueError, match="two or more"):
        silhouette(np.ones((3, 2)), np.zeros(3, dtype=int))


def test_davies_bouldin_is_scikit_learns() -> None:
    features, labels = _groups(2, 250, 7, 5)
    assert davies_bouldin(features, labels) == pytest.approx(
        davies_bouldin_score(features, labels), rel=1e-12
    )


def test_margins_by_hand() -> None:
    weight = np.array([[2.0, 0.0], [0.0, 2.0], [-2.0, 0.0]])
    x = np.array([[3.0, 1.0], [1.0, 3.0]])
    labels = np.array([0, 0])
    logits = x @ weight.T
    np.testing.assert_allclose(functional_margins(logits, labels), [4.0, -4.0])
    # The boundary between classes 0 and 1 is the diagonal: (3, 1) and (1, 3) lie √2 from it.
    np.testing.assert_allclose(geometric_margins(logits, labels, weight), [np.sqrt(2), -np.sqrt(2)])
    # Ten times the weights: ten times the functional margins, the same distances.
    np.testing.assert_allclose(functional_margins(10 * logits, labels), [40.0, -40.0])
    np.testing.assert_allclose(geometric_margins(10 * logits, labels, 10 * weight), [np.sqrt(2), -np.sqrt(2)])
    np.testing.assert_allclose(
        class_averages(np.array([1.0, 3.0]), np.array([1, 1]), 3), [np.nan, 2.0, np.nan]
    )


def test_the_margin_of_eq_5_takes_the_runner_up_whose_boundary_need_not_be_the_nearest() -> None:
    weight = np.array([[0.0, 0.0], [-4.0, 0.0], [-1.0, -1.0]])
    x = np.array([[1.0, 2.0], [1.0, -0.5]])
    labels = np.array([0, 1])
    logits = x @ weight.T  # rows 0, -4, -3 and 0, -4, -0.5
    printed = runner_up_margins(logits, labels, weight)
    np.testing.assert_allclose(printed, [3 / np.sqrt(2), -4 / 4])
    np.testing.assert_allclose(geometric_margins(logits, labels, weight), [1.0, -3.5 / np.sqrt(10)])
    np.testing.assert_allclose(runner_up_margins(10 * logits, labels, 10 * weight), printed)
    equal = np.array([[1.0, 0.0], [1.0, 0.0]])
    np.testing.assert_allclose(runner_up_margins(x @ equal.T, np.array([0, 1]), equal), [0.0, 0.0])


def test_a_geometric_margin_is_how_far_a_row_can_move() -> None:
    rng = np.random.default_rng(3)
    weight, x = rng.standard_normal((5, 4)), rng.standard_normal((40, 4))
    labels = (x @ weight.T).argmax(1)
    margins = geometric_margins(x @ weight.T, labels, weight)
    assert (margins > 0).all()
    steps = rng.standard_normal((2000, 4))
    steps /= np.linalg.norm(steps, axis=1, keepdims=True)
    for row, label, margin in zip(x, labels, margins, strict=True):
        assert ((row + 0.999 * margin * steps) @ weight.T).argmax(1).tolist() == [label] * len(steps)
        rivals = weight - weight[label]
        lengths = np.linalg.norm(rivals, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            nearest = int(np.nanargmax((row @ rivals.T) / lengths))
        assert (row + 1.001 * margin * rivals[nearest] / lengths[nearest]) @ rivals[nearest] > 0


def test_classes_with_equal_weights_have_no_boundary() -> None:
    weight = np.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    x = np.array([[2.0, 5.0]])
    np.testing.assert_allclose(geometric_margins(x @ weight.T, np.array([0]), weight), [2.0])


def _cka_of_features(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(0), y - y.mean(0)
    return float(
        np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
    )  # Kornblith et al. 2019, the feature form


def test_cka() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((30, 6)), rng.standard_normal((30, 8))
    assert linear_cka(x, y) == pytest.approx(_cka_of_features(x, y), rel=1e-10)
    turn, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    assert linear_cka(x, 3 * x @ turn + 1) == pytest.approx(1.0)
    assert linear_cka(x, 3 * x @ turn + 1, debiased=True) == pytest.approx(1.0)
    assert np.isnan(linear_cka(x, np.ones((30, 2))))


def test_debiased_cka_has_no_bias() -> None:
    rng = np.random.default_rng(5)
    draws = [(rng.standard_normal((20, 50)), rng.standard_normal((20, 50))) for _ in range(200)]
    biased = np.mean([linear_cka(x, y) for x, y in draws])
    debiased = np.mean([linear_cka(x, y, debiased=True) for x, y in draws])
    assert biased > 0.6
    assert abs(debiased) < 0.02


def test_the_unbiased_estimator_is_the_sum_over_distinct_points() -> None:
    """Song et al. 2012: the average over all quadruples of distinct points, here by brute force."""
    from itertools import permutations

    from uml_evaluate.analyses.alignment.alignment_measures import _unbiased_hsic

    rng = np.random.default_rng(6)
    x, y = rng.standard_normal((6, 3)), rng.standard_normal((6, 4))
    k, m = x @ x.T, y @ y.T
    total = [
        k[i, j] * m[i, j] + k[i, j] * m[q, r] - 2 * k[i, j] * m[i, q]
        for i, j, q, r in permutations(range(6), 4)
    ]
    assert _unbiased_hsic(k, m) == pytest.approx(np.mean(total), rel=1e-10)


def test_mutual_neighbours() -> None:
    angles = np.deg2rad([0, 10, 25, 90, 100, 115])
    x = np.column_stack([np.cos(angles), np.sin(angles)])
    assert mutual_knn(x, 5 * x, 2) == 1.0
    y = x[[3, 4, 5, 0, 1, 2]]  # the two groups change places: neighbours stay
    assert mutual_knn(x, y, 2) == 1.0
    y = x[[0, 3, 1, 4, 2, 5]]  # neighbours by cosine: {1,2}→{2,4}, …
    near = [{1, 2}, {0, 2}, {0, 1}, {4, 5}, {3, 5}, {3, 4}]
    place = [0, 3, 1, 4, 2, 5]
    other = [{place.index(j) for j in near[place[i]]} for i in range(6)]
    assert mutual_knn(x, y, 2) == pytest.approx(
        np.mean([len(a & b) / 2 for a, b in zip(near, other, strict=True)])
    )
    rng = np.random.default_rng(7)
    chance = np.mean(
        [mutual_knn(rng.standard_normal((21, 5)), rng.standard_normal((21, 5)), 5) for _ in range(60)]
    )
    assert chance == pytest.approx(5 / 20, abs=0.02)


def test_effective_rank() -> None:
    corners = np.concatenate([np.eye(4), -np.eye(4)])
    assert effective_rank(corners) == pytest.approx(4.0)
    assert effective_rank(np.outer(np.arange(5.0), np.ones(3))) == pytest.approx(1.0)


def test_separability_and_gap() -> None:
    rng = np.random.default_rng(8)
    x, y = rng.standard_normal((300, 10)), rng.standard_normal((150, 10))
    assert separability(x, y) == pytest.approx(50.0, abs=8.0)
    assert separability(x, y + 10.0) == 100.0
    assert modality_gap(x, y) < 0.3
    far = np.zeros(10)
    far[0] = 30.0
    spread = (x.var(0).sum() + y.var(0).sum()) / 2
    assert modality_gap(x - x.mean(0), y - y.mean(0) + far) == pytest.approx(30.0 / np.sqrt(spread))


def test_the_gradient_is_autograds() -> None:
    import torch

    rng = np.random.default_rng(9)
    space, rows, labels = rng.standard_normal((12, 5)), rng.standard_normal((4, 5)), rng.integers(4, size=12)
    head = torch.tensor(rows, requires_grad=True)
    torch.nn.functional.cross_entropy(2.5 * torch.tensor(space) @ head.T, torch.tensor(labels)).backward()
    assert head.grad is not None
    np.testing.assert_allclose(head_gradient(space, labels, rows, 2.5), head.grad.numpy(), atol=1e-12)


def test_the_plane_of_two_classes() -> None:
    rng = np.random.default_rng(10)
    a = np.column_stack([rng.normal(0, 0.1, 200), rng.normal(0, 3.0, 200), rng.normal(0, 1.0, 200)])
    b = a + np.array([4.0, 0.0, 0.0])
    plane = class_plane(a, b)
    np.testing.assert_allclose(plane.axes @ plane.axes.T, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(plane.axes[0], [1, 0, 0], atol=1e-12)
    assert abs(plane.axes[1][1]) > 0.99
    np.testing.assert_allclose(plane.coordinates(a).mean(0)[0], -2.0)
    at = np.array([[1.0, -2.0], [0.0, 0.5]])
    np.testing.assert_allclose(plane.coordinates(plane.points(at)), at, atol=1e-12)
    rows = np.concatenate([a, b]) - np.concatenate([a, b]).mean(0)
    assert plane.variance == pytest.approx(((rows @ plane.axes.T) ** 2).sum() / (rows**2).sum())
    with pytest.raises(ValueError, match="same mean"):
        class_plane(a, a)


def test_dominance_by_hand_and_its_chance() -> None:
    table = np.full((4, 4), 0.1)
    np.fill_diagonal(table, 0.7)
    found = dominance(table, np.random.default_rng(0))
    assert found.value == pytest.approx(0.6)
    assert found.nearest == 1.0
    rng = np.random.default_rng(11)
    above = nearest = 0
    for _ in range(100):
        noise = cosines(rng.standard_normal((20, 30)), rng.standard_normal((20, 30)))
        found = dominance(noise, rng, 200)
        above += found.value > found.chance
        nearest += found.nearest
    assert above <= 12  # 5 % by chance
    assert nearest / 100 == pytest.approx(1 / 20, abs=0.02)


def test_cosines_are_centred() -> None:
    rng = np.random.default_rng(12)
    x, y = rng.standard_normal((5, 4)), rng.standard_normal((5, 4))
    np.testing.assert_allclose(cosines(x + 9.0, 2 * y - 5.0), cosines(x, y), atol=1e-12)
    plain = cosines(x, y, centred=False)
    assert plain[1, 2] == pytest.approx(x[1] @ y[2] / np.linalg.norm(x[1]) / np.linalg.norm(y[2]))


def test_class_means_and_thinning() -> None:
    features, labels = np.arange(12.0).reshape(6, 2), np.array([2, 0, 2, 0, 2, 2])
    means = class_means(features, labels, 4)
    np.testing.assert_allclose(means[0], features[[1, 3]].mean(0))
    np.testing.assert_allclose(means[2], features[[0, 2, 4, 5]].mean(0))
    assert np.isnan(means[[1, 3]]).all()
    many = np.repeat([0, 1, 2], [600, 300, 100])
    kept = stratified(many, 100, np.random.default_rng(0))
    assert len(set(kept)) == 100
    assert np.abs(np.bincount(many[kept]) - [60, 30, 10]).max() <= 1
    assert stratified(many, 1000, np.random.default_rng(0)).tolist() == list(range(1000))


SHOTS, TEXTS = [1, 2, 4, 8], [1, 2, 4, 8, 16]


def _grid(slope_k: float, slope_n: float, *, noise: float = 0.0, seeds: int = 5, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    plane = 20 + slope_k * np.log2(SHOTS)[:, None] + slope_n * np.log2(TEXTS)[None]
    shifts = rng.normal(0, 1, (seeds, 1, 1))  # a draw's luck moves its whole grid
    return plane + shifts + rng.normal(0, noise, (seeds, 4, 5))


def test_the_fit_gives_back_a_plane() -> None:
    fit = fit_plane(SHOTS, TEXTS, _grid(6.0, 1.5))
    assert (fit.slope_k, fit.slope_n, fit.r2) == (pytest.approx(6.0), pytest.approx(1.5), pytest.approx(1.0))
    rate = rate_of(fit, SHOTS, TEXTS)
    assert rate.refusal is None
    assert rate.ratio == pytest.approx(4.0)
    assert (rate.k, rate.n) == (pytest.approx(2**1.5), pytest.approx(4.0))
    # By hand: at k = 2^1.5 and n = 4 the slopes are 6 / k and 1.5 / n per sample (both over ln 2).
    value = rate.times(10.0)
    assert value is not None
    assert value[0] == pytest.approx(10 * (6 / 2**1.5) / (1.5 / 4))


def test_a_plane_over_the_numbers_themselves_has_one_rate() -> None:
    accuracy = 20 + 3.0 * np.array(SHOTS)[None, :, None] + 0.25 * np.array(TEXTS)[None, None]
    assert constant_rate(fit_plane(SHOTS, TEXTS, accuracy, logs=False)) == pytest.approx(12.0)
    assert constant_rate(fit_plane(SHOTS, TEXTS, -accuracy, logs=False)) is None


def test_a_fit_that_supports_no_rate_says_so() -> None:
    def refusal(grid: np.ndarray) -> str:
        found = rate_of(fit_plane(SHOTS, TEXTS, grid), SHOTS, TEXTS)
        assert found.times() is None
        return str(found.refusal)

    assert "did not help" in refusal(_grid(6.0, -0.5))
    assert "did not help" in refusal(_grid(-1.0, 5.0))
    assert "seeds" in refusal(_grid(6.0, 1.0, seeds=2))
    unsure = np.concatenate([_grid(6.0, slope, seeds=1) for slope in (2.0, -1.5, 1.0, -0.5, 0.5)])
    assert "not beyond chance" in refusal(unsure)
    bent = _grid(0.0, 0.0, seeds=5)
    bent[:, 1:3, 1:3] += 20.0  # a hill is no plane
    assert "explains" in refusal(bent)


def test_fieller_holds_the_ratio_as_often_as_it_says() -> None:
    rng = np.random.default_rng(13)
    held = unbounded = 0
    for _ in range(1000):
        pairs = rng.multivariate_normal([6.0, 1.5], [[0.5, 0.1], [0.1, 0.3]], size=5)
        bounds = fieller(pairs[:, 0], pairs[:, 1])
        if bounds is None:
            unbounded += 1
        else:
            held += bounds[0] <= 4.0 <= bounds[1]
    assert unbounded < 100
    assert held / (1000 - unbounded) == pytest.approx(0.95, abs=0.02)
    exact = np.full(5, 3.0)
    assert fieller(exact, exact / 2) == (pytest.approx(2.0), pytest.approx(2.0))
