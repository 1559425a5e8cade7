"""Fisher information that adds, and that of a softmax head: against enumeration and autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from uml_evaluate.theory import (
    HeadBatch,
    class_directions,
    fisher_adds,
    fisher_adds_beside_private,
    fisher_information,
    head_fisher,
)


def _model(seed: int, outcomes: int, parameters: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and scores of a softmax over a nonlinear function of shared parameters."""
    rng = np.random.default_rng(seed)
    theta = torch.tensor(rng.standard_normal(parameters), requires_grad=True)
    inner = torch.tensor(rng.standard_normal((7, parameters)))
    outer = torch.tensor(rng.standard_normal((outcomes, 7)))
    logs = (outer @ torch.tanh(inner @ theta)).log_softmax(0)
    scores = [torch.autograd.grad(one, theta, retain_graph=True)[0].numpy() for one in logs]
    return logs.exp().detach().numpy(), np.stack(scores)


@pytest.mark.parametrize("seed", range(4))
def test_information_of_two_modalities_adds_on_shared_parameters(seed: int) -> None:
    first, second = _model(seed, 5, 3), _model(100 + seed, 4, 3)
    check = fisher_adds(first, second)
    assert check.premise
    assert check.holds
    # By sampling, too: the mean square of a pair's score is what was enumerated.
    rng = np.random.default_rng(seed)
    i, j = (rng.choice(len(p), 200_000, p=p / p.sum()) for p, _ in (first, second))
    scores = first[1][i] + second[1][j]
    total = fisher_information(*first) + fisher_information(*second)
    np.testing.assert_allclose(scores.T @ scores / len(scores), total, atol=0.02 * np.abs(total).max())


@pytest.mark.parametrize(("of_first", "of_second"), [(5, 4), (3, 5), (3, 3)])
def test_information_adds_beside_private_parameters(of_first: int, of_second: int) -> None:
    first, second = _model(of_first, 9, of_first), _model(100 + of_second, 8, of_second)
    check = fisher_adds_beside_private(first, second, shared=3)
    assert check.premise
    assert check.holds
    # With private parameters known, more would be left: the complement is not the block itself.
    alone = fisher_information(*first)
    lost = alone[:3, 3:] @ np.linalg.inv(alone[3:, 3:]) @ alone[3:, :3]
    assert np.trace(lost) > 0 or of_first == 3
    wrong = tuple((np.roll(p, 1), s) for p, s in (first, second))
    check = fisher_adds_beside_private(*wrong, shared=3)
    assert not check.premise
    assert not check.holds


def test_a_private_parameter_shared_by_both_is_what_breaks_the_sum() -> None:
    """The premise that private parameters belong to one modality alone, by the sum that it gives up."""
    first, second = _model(5, 9, 5), _model(6, 8, 5)
    whole = fisher_information(*first) + fisher_information(*second)  # all five are shared
    left = whole[:3, :3] - whole[:3, 3:] @ np.linalg.inv(whole[3:, 3:]) @ whole[3:, :3]
    own = [fisher_information(*one) for one in (first, second)]
    parts = [f[:3, :3] - f[:3, 3:] @ np.linalg.inv(f[3:, 3:]) @ f[3:, :3] for f in own]
    assert np.linalg.eigvalsh(left - sum(parts)).min() > -1e-9  # never less
    assert np.trace(left - sum(parts)) > 1e-3  # and here more: each tells of the other's private ones


def test_labels_that_the_model_does_not_believe_in_do_not_add() -> None:
    first, second = _model(1, 5, 3), _model(2, 4, 3)
    wrong = tuple((np.roll(p, 1), s) for p, s in (first, second))
    check = fisher_adds(*wrong)
    assert not check.premise
    assert not check.holds
    assert check.left > 0


def test_the_head_s_information_is_that_of_autograd() -> None:
    """The empirical Fisher of 30 lines: one gradient per row, along one direction of the head's weights."""
    rng = np.random.default_rng(0)
    rows, space = rng.standard_normal((4, 6)), rng.standard_normal((25, 6))
    labels = rng.integers(0, 4, 25)
    batch = HeadBatch(space=space, labels=labels, scale=1.7)
    means = np.stack([space[labels == c].mean(0) for c in range(4)])
    pairs = np.array([[0, 1], [1, 3], [0, 2]])
    directions = class_directions(means, pairs)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1.0)
    empirical, model = head_fisher(rows, batch, pairs, directions)
    head = torch.tensor(rows, requires_grad=True)
    for d, (a, b) in enumerate(pairs):
        along = torch.zeros(4, 6, dtype=torch.float64)
        along[a], along[b] = (torch.tensor(sign * directions[d] / np.sqrt(2)) for sign in (1, -1))
        squares, expected = [], []
        for z, label in zip(torch.tensor(space), labels, strict=True):
            logs = (1.7 * head @ z).log_softmax(0)
            each = [
                float((torch.autograd.grad(logs[c], head, retain_graph=True)[0] * along).sum()) ** 2
                for c in range(4)
            ]
            squares.append(each[label])
            expected.append(float((logs.exp().detach() * torch.tensor(each, dtype=torch.float64)).sum()))
        assert empirical[d] == pytest.approx(np.mean(squares), rel=1e-9)
        assert model[d] == pytest.approx(np.mean(expected), rel=1e-9)
