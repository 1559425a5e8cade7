"""The batched logistic regression against scikit-learn, and against gradients by autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from uml_train.fullbatch.softmax import fit_softmax

C = 6


def rows(seed: int, n: int, dim: int) -> tuple[Tensor, Tensor]:
    """Features with a mean far from 0 and axes of very different lengths, as encoders give them."""
    centres = np.random.default_rng(0).standard_normal((C, dim))
    lengths = np.random.default_rng(1).gamma(1.0, 1.0, dim)
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(C), n)
    features = 5 + lengths * (centres[labels] + 2.0 * generator.standard_normal((len(labels), dim)))
    return torch.tensor(features, dtype=torch.float32), torch.tensor(labels)


def reference(features: Tensor, labels: Tensor, penalty: float) -> LogisticRegression:
    model = LogisticRegression(C=1.0 / penalty, max_iter=10_000, tol=1e-8)
    return model.fit(features.double().numpy(), labels.numpy())


@pytest.mark.parametrize(("n", "dim"), [(4, 40), (30, 12)])  # fewer rows than features, and more
def test_equals_scikit_learn(n: int, dim: int) -> None:
    draws = [rows(seed, n, dim) for seed in (2, 3)]
    features, labels = (torch.stack(parts) for parts in zip(*draws, strict=True))
    penalties = torch.tensor([[3000.0, 30.0, 1.0], [1000.0, 10.0, 0.5]])
    test, truth = rows(9, 200, dim)
    mean = features.mean((0, 1))
    found = fit_softmax(features, labels, penalties, C)
    exact = fit_softmax(features, labels, penalties, C, tolerance=1e-5)
    assert bool(found.converged.all())
    for g in range(2):
        for r in range(3):
            model = reference(features[g] - mean, labels[g], float(penalties[g, r]))
            ours = ((test - found.means[g]).float() @ found.weight[g, r].T + found.bias[g, r]).numpy()
            closer = (
                ((test - exact.means[g]).float() @ exact.weight[g, r].T + exact.bias[g, r]).softmax(1).numpy()
            )
            theirs = model.predict_proba((test - mean).double().numpy())
            np.testing.assert_allclose(closer, theirs, atol=0.02)
            ours_acc = (ours.argmax(1) == truth.numpy()).mean()
            assert abs(ours_acc - (theirs.argmax(1) == truth.numpy()).mean()) <= 1e-3


def test_batching_changes_nothing() -> None:
    draws = [rows(seed, 4, 30) for seed in (2, 3)]
    features, labels = (torch.stack(parts) for parts in zip(*draws, strict=True))
    penalties = torch.tensor([[10.0, 0.1], [10.0, 0.1]])
    together = fit_softmax(features, labels, penalties, C, tolerance=1e-4)
    alone = fit_softmax(features[1:], labels[1:], penalties[1:, 1:], C, tolerance=1e-4)
    torch.testing.assert_close(together.weight[1, 1], alone.weight[0, 0], atol=2e-3, rtol=1e-2)


def test_weighted_and_blended_problems_end_where_the_gradient_is_zero() -> None:
    x, y = rows(4, 10, 8)
    generator = torch.Generator().manual_seed(0)
    importance = 0.5 + torch.rand(len(y), generator=generator)
    offsets = torch.randn(len(y), C, generator=generator) + 2 * torch.nn.functional.one_hot(y, C)
    penalty = 2.0
    found = fit_softmax(
        x[None], y[None], torch.tensor([[penalty]]), C, importance=importance[None], offsets=offsets[None],
        tolerance=1e-5,
    )  # fmt: skip
    assert found.blend is not None
    weight, bias, blend = (t[0, 0].double().requires_grad_() for t in (found.weight, found.bias, found.blend))

    def loss(w: Tensor, b: Tensor, a: Tensor) -> Tensor:
        z = (x - found.means[0]) @ w.T + b + a * offsets.double()
        fit = (importance * torch.nn.functional.cross_entropy(z, y, reduction="none")).sum()
        return fit + penalty / 2 * (w.square().sum() + (a - 1).square().sum())

    gradients = torch.autograd.grad(loss(weight, bias, blend), (weight, bias, blend))
    start = [t.double().requires_grad_() for t in (torch.zeros(C, 8), torch.zeros(C), torch.ones(C))]
    before = torch.autograd.grad(loss(*start), start)
    for after, first in zip(gradients, before, strict=True):
        assert float(after.abs().max()) < 1e-3 * float(first.abs().max())


def test_a_weight_of_two_is_a_row_twice() -> None:
    x, y = rows(5, 5, 8)
    importance = torch.ones(len(y))
    importance[:3] = 2.0
    twice = torch.cat([x, x[:3]])[None], torch.cat([y, y[:3]])[None]
    penalty = torch.tensor([[1.0]])
    once = fit_softmax(x[None], y[None], penalty, C, importance=importance[None], tolerance=1e-5)
    both = fit_softmax(*twice, penalty, C, tolerance=1e-5)
    torch.testing.assert_close(once.weight, both.weight, atol=1e-3, rtol=1e-2)


def test_a_strong_penalty_leaves_the_offsets() -> None:
    """With an endless penalty the classifier is the offsets' own, up to a bias."""
    x, y = rows(6, 5, 8)
    offsets = 3.0 * torch.nn.functional.one_hot(y, C).float()
    found = fit_softmax(x[None], y[None], torch.tensor([[1e9]]), C, offsets=offsets[None])
    assert found.blend is not None
    assert float(found.weight.abs().max()) < 1e-5
    torch.testing.assert_close(found.blend, torch.ones(1, 1, C), atol=1e-4, rtol=0)


def test_refuses_what_does_not_fit() -> None:
    x, y = rows(7, 2, 4)
    with pytest.raises(ValueError, match=r"expected \(G, N, D\)"):
        fit_softmax(x[None], y, torch.ones(1, 1), C)
    with pytest.raises(ValueError, match="positive"):
        fit_softmax(x[None], y[None], torch.zeros(1, 1), C)
