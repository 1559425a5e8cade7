"""The linear theory: against brute force, hand-computed cases, random and degenerate designs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uml_evaluate.theory import (
    Design,
    adding_never_hurts,
    blind_direction_as_printed,
    blind_direction_corrected,
    common_eigenvector_contracts,
    exchange_rates,
    fitted_design,
    identifiable,
    identifiable_direction_as_printed,
    information,
    information_adds,
    is_fisher_orthogonal,
    monotone_pseudo_inverse,
    one_sample_worth_more,
    samples_replaced,
    shared_information,
    strict_order_as_printed,
    strictly_better,
    variance,
    variance_of_copies,
)

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 5)


def _information(rng: np.random.Generator, size: int, rank: int) -> np.ndarray:
    """A semi-definite matrix of a given rank, half of the time in small whole numbers."""
    factor = rng.standard_normal((rank, size)) if rng.random() < 0.5 else rng.integers(-2, 3, (rank, size))
    return np.asarray(factor.T @ factor, dtype=float)


def _direction(rng: np.random.Generator, matrix: np.ndarray) -> np.ndarray:
    """A direction inside the range, anywhere, or along an axis."""
    v = rng.standard_normal(len(matrix))
    kind = rng.integers(3)
    v = matrix @ v if kind == 0 else np.eye(len(matrix))[rng.integers(len(matrix))] if kind == 1 else v
    return v if np.linalg.norm(v) > 1e-3 else np.ones(len(matrix))


def _draw(seed: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = _information(rng, size, int(rng.integers(0, size + 1)))
    y = _information(rng, size, int(rng.integers(0, size + 1)))
    return x, y, _direction(rng, x + y if rng.random() < 0.5 else x)


def test_variance_by_hand() -> None:
    m = np.diag([4.0, 0.0])
    assert variance(m, [1, 0]) == pytest.approx(0.25)
    assert variance(m, [2, 0]) == pytest.approx(1.0)
    assert variance(m, [1, 1e-3]) == np.inf
    assert variance(np.zeros((2, 2)), [1, 0]) == np.inf
    assert identifiable(np.zeros((2, 2)), [0, 0])
    assert variance([[2.0, 1.0], [1.0, 2.0]], [1, 0]) == pytest.approx(2 / 3)


def test_noise_counts_squared_and_rows_can_differ_in_it() -> None:
    a = np.array([[1.0], [1.0]])
    assert shared_information(Design(a, noise=0.5))[0, 0] == pytest.approx(8.0)
    assert shared_information(Design(a, noise=np.array([1.0, 2.0])))[0, 0] == pytest.approx(1.25)


def test_a_modality_whose_private_factors_span_the_shared_ones_says_nothing() -> None:
    b = np.random.default_rng(0).standard_normal((6, 2))
    design = Design(b, b)
    assert not is_fisher_orthogonal(design)
    assert np.abs(shared_information(design)).max() == 0
    assert variance(shared_information(design, private_known=True), [1, 0]) < np.inf
    assert variance(shared_information(design), [1, 0]) == np.inf


def test_fisher_orthogonal_designs_lose_nothing() -> None:
    q = np.linalg.qr(np.random.default_rng(1).standard_normal((7, 5)))[0]
    design = Design(q[:, :2], q[:, 2:], noise=0.3)
    assert is_fisher_orthogonal(design)
    np.testing.assert_allclose(
        shared_information(design), shared_information(design, private_known=True), atol=1e-12
    )


@settings(max_examples=50, deadline=None)
@given(seeds, sizes, st.integers(0, 3), st.integers(0, 3))
def test_the_schur_complement_is_the_shared_block_of_the_full_inverse(
    seed: int, p: int, q: int, extra: int
) -> None:
    rng = np.random.default_rng(seed)
    design = Design(
        rng.standard_normal((p + q + extra + 1, p)), rng.standard_normal((p + q + extra + 1, q)), noise=0.7
    )
    block = np.linalg.inv(information(design))[:p, :p]
    np.testing.assert_allclose(np.linalg.inv(shared_information(design)), block, rtol=1e-5, atol=1e-8)


@settings(max_examples=50, deadline=None)
@given(seeds, sizes)
def test_information_adds_also_without_fisher_orthogonality(seed: int, p: int) -> None:
    rng = np.random.default_rng(seed)
    designs = []
    for _ in range(2):
        n, q = int(rng.integers(1, 9)), int(rng.integers(0, 4))
        private = rng.standard_normal((n, q))
        if q > 1 and rng.random() < 0.3:
            private[:, 1] = private[:, 0]  # degenerate
        designs.append(Design(rng.standard_normal((n, p)), private, noise=float(rng.uniform(0.2, 2))))
    assert information_adds(*designs).holds
    v = rng.standard_normal(p)
    x, y = (shared_information(d) for d in designs)
    assert adding_never_hurts(x, y, v).holds
    assert variance_of_copies(designs[0], v, 3).holds


@settings(max_examples=120, deadline=None)
@given(seeds, sizes)
def test_statements_that_hold_on_every_design(seed: int, size: int) -> None:
    x, y, v = _draw(seed, size)
    assert not adding_never_hurts(x, y, v).refuted
    assert not strictly_better(x, y, v).refuted
    assert not blind_direction_corrected(x, y, v).refuted
    assert not one_sample_worth_more(x, y).refuted
    assert not monotone_pseudo_inverse(x, x + y, v).refuted


def test_the_printed_statement_on_blind_directions_has_a_counterexample() -> None:
    m_y = np.array([[1.0, 0.0]]).T @ np.array([[1.0, 0.0]])
    printed = blind_direction_as_printed(np.zeros((2, 2)), m_y, [1, 1])
    assert printed.premise
    assert printed.refuted
    assert printed.left == np.inf
    assert not blind_direction_corrected(np.zeros((2, 2)), m_y, [1, 1]).refuted
    assert not blind_direction_as_printed(np.zeros((2, 2)), np.eye(2), [1, 1]).refuted


def test_a_direction_in_the_null_space_is_no_exception() -> None:
    """Corollary 2: v in null(M_X) with vᵀM_Y v > 0, and still unknown."""
    m_x = np.diag([0.0, 0.0, 1.0])
    m_y = np.diag([1.0, 0.0, 0.0])
    check = blind_direction_as_printed(m_x, m_y, [1, 1, 0])
    assert np.abs(m_x @ [1, 1, 0]).max() == 0
    assert check.refuted


def test_full_rank_is_not_enough_for_a_strict_order() -> None:
    """Theorem 1: private factors that span the shared ones take all of it; orthogonal ones take nothing."""
    rng = np.random.default_rng(4)
    b = rng.standard_normal((6, 2))
    x = Design(rng.standard_normal((5, 2)))
    spanned = strict_order_as_printed(x, Design(b, b))
    assert spanned.refuted
    assert spanned.left == pytest.approx(0)
    v = [1.0, -1.0]
    total = shared_information(x) + shared_information(Design(b, b))
    assert variance(total, v) == pytest.approx(variance(shared_information(x), v))
    q = np.linalg.qr(rng.standard_normal((7, 4)))[0]
    for y in (Design(q[:, :2], q[:, 2:]), Design(b)):
        check = strict_order_as_printed(x, y)
        assert check.premise
        assert check.holds
        assert variance(shared_information(x) + shared_information(y), v) < variance(shared_information(x), v)
    assert not strict_order_as_printed(x, Design(np.array([[1.0, 0.0]]))).premise


def test_an_eigenvector_of_m_x_may_gain_nothing() -> None:
    """Theorem 2 (2) inside the range, Corollary 3: what Y says of v is spent on what X does not know."""
    m_x, m_y, v = np.diag([1.0, 0.0]), np.ones((2, 2)), np.array([1.0, 0.0])
    assert v @ m_y @ v > 0
    check = identifiable_direction_as_printed(m_x, m_y, v)
    assert check.refuted
    assert (check.left, check.right) == (pytest.approx(1.0), 1.0)
    assert strictly_better(m_x, m_y, v).holds
    rng = np.random.default_rng(7)
    refuted = {"invertible": 0, "footnote": 0, "any": 0}
    met = dict.fromkeys(refuted, 0)
    for _ in range(300):
        x, y = _information(rng, 3, int(rng.integers(1, 4))), _information(rng, 3, int(rng.integers(1, 4)))
        values, vectors = np.linalg.eigh(x)
        inside = vectors[:, values > 1e-9]
        project = inside @ inside.T
        if rng.random() < 0.5:
            y = project @ y @ project + (np.eye(3) - project) @ y @ (np.eye(3) - project)
        check = identifiable_direction_as_printed(x, y, x @ rng.standard_normal(3))
        cases = {"any": True, "invertible": inside.shape[1] == 3}
        cases["footnote"] = bool(np.abs(project @ y @ (np.eye(3) - project)).max() < 1e-9)
        for name, applies in cases.items():
            met[name] += applies and check.premise
            refuted[name] += applies and check.refuted
    assert min(met.values()) > 30
    assert refuted["invertible"] == refuted["footnote"] == 0
    assert 0 < refuted["any"] < met["any"]


@settings(max_examples=50, deadline=None)
@given(seeds, sizes)
def test_along_a_common_eigenvector_the_variance_contracts_by_a_known_factor(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    q = np.linalg.qr(rng.standard_normal((size, size)))[0]
    x, y = ((q * rng.uniform(0.1, 2, size)) @ q.T for _ in range(2))
    check = common_eigenvector_contracts(x, y, 3 * q[:, 0])
    assert check.premise
    assert check.holds
    assert check.left < 1
    if size > 1:
        assert not common_eigenvector_contracts(np.diag(np.arange(1.0, size + 1)), y, np.ones(size)).premise


def test_where_the_printed_statement_holds_and_where_it_fails() -> None:
    """Counted over random designs: never refuted where M_Y has full rank or X is blind to v alone."""
    rng = np.random.default_rng(3)
    refuted = {"full rank": 0, "blind to v alone": 0, "any": 0}
    met = dict.fromkeys(refuted, 0)
    for _ in range(300):
        x, y = _information(rng, 3, int(rng.integers(0, 3))), _information(rng, 3, int(rng.integers(1, 4)))
        values, vectors = np.linalg.eigh(x)
        alone = (values < 1e-9).sum() == 1
        v = vectors[:, 0] if alone and rng.random() < 0.5 else rng.standard_normal(3)
        check = blind_direction_as_printed(x, y, v)
        cases = {"any": True, "full rank": np.linalg.matrix_rank(y) == 3}
        cases["blind to v alone"] = alone and v is not None and np.allclose(x @ v, 0)
        for name, applies in cases.items():
            met[name] += applies and check.premise
            refuted[name] += applies and check.refuted
    assert min(met.values()) > 10
    assert refuted["full rank"] == refuted["blind to v alone"] == 0
    assert 0 < refuted["any"] < met["any"]


def test_strictness_is_not_about_m_y_v() -> None:
    """M_Y v ≠ 0 without any gain, and M_Y v = 0 with one."""
    x = np.array([[2.0, 1.0], [1.0, 2.0]])
    v = np.array([1.0, 0.0])
    u = np.linalg.solve(x, v)
    blind = np.array([-u[1], u[0]])
    y = np.outer(blind, blind)
    assert np.abs(y @ v).max() > 0.1
    assert variance(x + y, v) == pytest.approx(variance(x, v))
    other = np.outer([0.0, 1.0], [0.0, 1.0])
    assert np.abs(other @ v).max() == 0
    assert variance(x + other, v) < variance(x, v) - 0.01
    assert strictly_better(x, y, v).holds
    assert strictly_better(x, other, v).holds


def test_pseudo_inverses_are_not_ordered_outside_the_range() -> None:
    outside = monotone_pseudo_inverse(np.zeros((1, 1)), np.eye(1), [1.0])
    assert not outside.premise
    assert not outside.holds


def test_exchange_rates_by_hand() -> None:
    rates = exchange_rates(np.diag([1.0, 4.0, 0.0, 0.0]), np.diag([3.0, 2.0, 1.0, 0.0]))
    np.testing.assert_allclose(rates.rates, [np.inf, 3.0, 0.5])
    np.testing.assert_allclose(np.abs(rates.directions), np.eye(4)[:, [2, 0, 1]], atol=1e-12)
    per_sample = exchange_rates(np.eye(1) * 10, np.eye(1) * 10, samples=(10, 2))
    assert per_sample.rates[0] == pytest.approx(5.0)


@settings(max_examples=50, deadline=None)
@given(seeds, sizes)
def test_exchange_rates_bound_every_direction(seed: int, size: int) -> None:
    x, y, _ = _draw(seed, size)
    found = exchange_rates(x, y)
    for rate, u in zip(found.rates, found.directions.T, strict=True):
        if np.isfinite(rate):
            assert u @ y @ u == pytest.approx(
                rate * (u @ x @ u), rel=1e-3, abs=1e-6 * np.abs(y).max(initial=1)
            )
    u = np.random.default_rng(seed).standard_normal(size)
    if len(found.rates) and np.isfinite(found.rates[0]):
        assert u @ y @ u <= found.rates[0] * (u @ x @ u) * (1 + 1e-6) + 1e-6 * np.abs(y).max(initial=0)


def test_samples_replaced() -> None:
    start, x = np.eye(1) * 10, np.eye(1)
    assert samples_replaced(start, x, 3 * np.eye(1), [1.0]) == pytest.approx(3.0)
    assert samples_replaced(start, x, np.zeros((1, 1)), [1.0]) == 0.0
    assert samples_replaced(np.eye(1), np.zeros((1, 1)), np.eye(1), [1.0]) == np.inf
    # Coupled directions: what Y says of the second factor helps the first one, as a part of an X would.
    start = np.array([[2.0, 1.0], [1.0, 2.0]])
    replaced = samples_replaced(start, np.diag([1.0, 0.0]), np.diag([0.0, 1.0]), [1.0, 0.0])
    after = variance(start + np.diag([0.0, 1.0]), [1, 0])
    assert variance(start + replaced * np.diag([1.0, 0.0]), [1, 0]) == pytest.approx(after)
    assert 0 < replaced < 1


def test_least_squares_has_the_variance_that_the_information_says() -> None:
    """Monte Carlo: 4,000 data sets of both modalities, all private factors unknown."""
    rng = np.random.default_rng(5)
    p, qx, qy = 2, 2, 1
    x = Design(rng.standard_normal((8, p)), rng.standard_normal((8, qx)), noise=0.5)
    y = Design(rng.standard_normal((5, p)), rng.standard_normal((5, qy)), noise=1.5)
    assert not is_fisher_orthogonal(x)
    assert x.private is not None
    assert y.private is not None
    joint = np.zeros((13, p + qx + qy))
    joint[:8, :p], joint[:8, p : p + qx] = x.shared, x.private
    joint[8:, :p], joint[8:, p + qx :] = y.shared, y.private
    noise = np.repeat([0.5, 1.5], [8, 5])
    truth = rng.standard_normal(p + qx + qy)
    observed = joint @ truth + noise * rng.standard_normal((4000, 13))
    weighted = np.linalg.pinv(joint / noise[:, None]) / noise
    shared = (observed @ weighted.T)[:, :p]
    total = shared_information(x) + shared_information(y)
    for v in ([1.0, 0.0], [0.0, 1.0], [1.0, -1.0]):
        measured = np.var(shared @ v)
        assert measured == pytest.approx(variance(total, v), rel=0.08)  # 3.5 standard errors of a variance
        assert measured < 0.9 * variance(shared_information(x), v)
    ignoring = shared_information(x, private_known=True) + shared_information(y, private_known=True)
    assert np.var(shared[:, 0]) > 1.2 * variance(ignoring, [1.0, 0.0])


def test_a_fitted_design_finds_the_noise() -> None:
    rng = np.random.default_rng(6)
    features, private = rng.standard_normal((400, 3)), rng.standard_normal((400, 2))
    responses = features @ rng.standard_normal((3, 4)) + private @ rng.standard_normal((2, 4))
    design = fitted_design(features, responses + 0.5 * rng.standard_normal((400, 4)), private=private)
    assert design.noise == pytest.approx(0.5, rel=0.05)
    with pytest.raises(ValueError, match="no residual"):
        fitted_design(features[:3], responses[:3])


def test_designs_are_checked() -> None:
    with pytest.raises(ValueError, match="expected"):
        Design(np.ones((3, 2)), np.ones((2, 2)))
    with pytest.raises(ValueError, match="noise"):
        Design(np.ones((3, 2)), noise=0.0)
    with pytest.raises(ValueError, match="finite"):
        Design(np.full((1, 1), np.nan))
    with pytest.raises(ValueError, match="P, P"):
        variance(np.ones((2, 3)), [1, 1])
