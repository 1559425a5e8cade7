"""Every probe against scikit-learn, a plain loop or a case worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from torch import Tensor

from uml_evaluate.comparing.rows import PROBES
from uml_evaluate.probes import aligned
from uml_evaluate.probes.discriminant import SHRINKAGES, shrinkage_lda
from uml_evaluate.probes.episode import Episode, Linear
from uml_evaluate.probes.logreg import STRENGTHS, logistic_regression, sklearn_logistic_regression
from uml_evaluate.probes.neighbours import NEIGHBOURS, nearest_class_mean, nearest_neighbours
from uml_evaluate.probes.registry import probe_named
from uml_evaluate.probes.ridge_text import MAP_PENALTIES, PRIOR_PENALTIES, ridge_text

C, D = 5, 16
CENTRES = np.random.default_rng(0).standard_normal((C, D))


def rows(seed: int, n: int, noise: float = 1.5, unit: bool = False) -> tuple[Tensor, Tensor]:
    labels = np.repeat(np.arange(C), n)
    features = CENTRES[labels] + noise * np.random.default_rng(seed).standard_normal((len(labels), D))
    found = torch.tensor(features, dtype=torch.float32)
    return (torch.nn.functional.normalize(found, dim=1) if unit else found), torch.tensor(labels)


def episode(seed: int = 1, n: int = 6, unit: bool = False) -> Episode:
    features, labels = rows(seed, n, unit=unit)
    text = rows(seed + 50, 3, noise=0.5, unit=unit)
    means = torch.stack([text[0][text[1] == c].mean(0) for c in range(C)])
    return Episode(
        features=features,
        labels=labels,
        validation=rows(seed + 100, 4, unit=unit),
        classes=C,
        seed=seed,
        text=text,
        class_means=torch.nn.functional.normalize(means, dim=1),
        scale=100.0,
    )


def test_every_probe_that_has_a_name_is_there() -> None:
    assert all(callable(probe_named(name).fit) for name in PROBES)


def test_neighbours_vote_as_scikit_learn_does() -> None:
    e = episode()
    queries, _ = rows(7, 30)

    def weights(distances: np.ndarray) -> np.ndarray:  # of unit vectors: d² = 2 − 2 cosine
        return np.exp((1 - distances**2 / 2) / 0.07)

    unit = torch.nn.functional.normalize
    (candidates,) = nearest_neighbours([e])
    assert [c.hyperparameters["neighbours"] for c in candidates] == [k for k in NEIGHBOURS if k <= 30]
    for candidate in candidates:
        k = candidate.hyperparameters["neighbours"]
        model = KNeighborsClassifier(k, weights=weights, algorithm="brute")
        model.fit(unit(e.features, dim=1).double().numpy(), e.labels.numpy())
        expected = model.predict_proba(unit(queries, dim=1).double().numpy())
        np.testing.assert_allclose(candidate.logits(queries).softmax(1).numpy(), expected, atol=1e-4)


def test_nearest_class_mean_equals_scikit_learn() -> None:
    e = episode()
    queries, _ = rows(8, 50)
    expected = NearestCentroid().fit(e.features.numpy(), e.labels.numpy()).predict(queries.numpy())
    ((candidate,),) = nearest_class_mean([e])
    assert candidate.logits(queries).argmax(1).tolist() == expected.tolist()


def test_lda_equals_scikit_learn_and_needs_two_rows_of_a_class() -> None:
    e = episode()
    queries, _ = rows(8, 50)
    (candidates,) = shrinkage_lda([e])
    assert [c.hyperparameters["shrinkage"] for c in candidates] == list(SHRINKAGES)
    for candidate in candidates:
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=candidate.hyperparameters["shrinkage"])
        expected = model.fit(e.features.numpy(), e.labels.numpy()).predict(queries.numpy())
        assert (candidate.logits(queries).argmax(1).numpy() == expected).mean() >= 0.99
    assert shrinkage_lda([episode(n=1)]) == [[]]


def test_both_logistic_regressions_agree() -> None:
    episodes = [episode(1), episode(2)]
    queries, truth = rows(9, 200)
    ours, theirs = logistic_regression(episodes), sklearn_logistic_regression(episodes[:1])
    assert [len(found) for found in ours] == [len(STRENGTHS)] * 2
    for one, other in zip(ours[0], theirs[0], strict=True):
        assert one.hyperparameters["C"] == pytest.approx(other.hyperparameters["C"], rel=1e-5)
        accuracies = [float((c.logits(queries).argmax(1) == truth).double().mean()) for c in (one, other)]
        assert abs(accuracies[0] - accuracies[1]) < 1e-3 + 1e-9


@pytest.mark.parametrize("fit", [sklearn_logistic_regression, shrinkage_lda])
def test_two_classes_and_a_class_without_rows(fit: object) -> None:
    """scikit-learn keeps one row of weights for two classes; the third class must never win."""
    x, y = rows(3, 6)
    keep = y < 2
    e = Episode(
        features=x[keep], labels=2 * y[keep], validation=(x[keep], 2 * y[keep]), classes=3, seed=1
    )  # classes 0 and 2
    queries, truth = rows(4, 40)
    queries, truth = queries[truth < 2], 2 * truth[truth < 2]
    for candidate in fit([e])[0]:  # type: ignore[operator]
        predicted = candidate.logits(queries).argmax(1)
        assert set(predicted.tolist()) <= {0, 2}
        if fit is sklearn_logistic_regression:
            model = LogisticRegression(C=candidate.hyperparameters["C"], max_iter=5_000, tol=1e-8)
            model.fit(e.features.double().numpy(), e.labels.numpy())
            agree = (model.predict(queries.double().numpy()) == predicted.numpy()).mean()
            assert agree >= 0.98


def test_zero_shot_is_the_cosine_with_the_class_means_times_100() -> None:
    e = episode(unit=True)
    queries, _ = rows(8, 4, unit=True)
    ((candidate,),) = aligned.zero_shot([e])
    for q, found in zip(queries, candidate.logits(queries), strict=True):
        for c in range(C):
            mean = e.text[0][e.text[1] == c].mean(0)  # type: ignore[index]
            assert float(found[c]) == pytest.approx(100 * float(q @ mean / mean.norm()), abs=1e-3)


def test_cross_modal_is_logistic_regression_on_both_with_equal_weight() -> None:
    e = episode(unit=True)
    queries, _ = rows(8, 100, unit=True)
    text, text_labels, _ = e.auxiliary()
    both = torch.cat([e.features, text]).double().numpy()
    labels = torch.cat([e.labels, text_labels]).numpy()
    n, m = len(e.labels), len(text_labels)
    weight = np.r_[np.full(n, (n + m) / (2 * n)), np.full(m, (n + m) / (2 * m))]
    for candidate in aligned.cross_modal_probe([e])[0][::5]:
        model = LogisticRegression(C=candidate.hyperparameters["C"], max_iter=5_000, tol=1e-8)
        expected = model.fit(both, labels, sample_weight=weight).predict(queries.double().numpy())
        assert (candidate.logits(queries).argmax(1).numpy() == expected).mean() >= 0.99


def test_tip_adapter_by_hand() -> None:
    """Two classes in the plane: the key's affinity is exp(−b (1 − cosine)), its label takes it times a."""
    angle = math.radians(60)
    e = Episode(
        features=torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
        labels=torch.tensor([0, 1]),
        validation=(torch.eye(2), torch.tensor([0, 1])),
        classes=2,
        seed=1,
        text=(torch.eye(2), torch.tensor([0, 1])),
        class_means=torch.eye(2),
        scale=100.0,
    )
    query = torch.tensor([[math.cos(angle), math.sin(angle)]])
    for candidate in aligned.tip_adapter([e])[0]:
        a, b = candidate.hyperparameters["blend"], candidate.hyperparameters["sharpness"]
        expected = [
            100 * math.cos(angle) + a * math.exp(-b * (1 - math.cos(angle))),
            100 * math.sin(angle) + a * math.exp(-b * (1 - math.sin(angle))),
        ]
        torch.testing.assert_close(candidate.logits(query), torch.tensor([expected]))


def test_tip_adapter_f_learns_its_keys_and_repeats() -> None:
    e = episode(unit=True)
    keys = [c.logits.args[1] for c in (aligned.tip_adapter([e])[0][0], aligned.tip_adapter_f([e])[0][0])]  # type: ignore[attr-defined]
    again = aligned.tip_adapter_f([e])[0][0].logits.args[1]  # type: ignore[attr-defined]
    head, values = (
        Linear(100 * e.class_means, torch.zeros(C)),
        torch.nn.functional.one_hot(e.labels, C).float(),
    )  # type: ignore[operator]
    losses = [
        float(
            torch.nn.functional.cross_entropy(
                aligned.tip_logits(head, k, values, 1.0, 1.0, e.features), e.labels
            )
        )
        for k in keys
    ]
    assert losses[1] < losses[0]
    torch.testing.assert_close(keys[1], again, atol=0, rtol=0)


def test_lp_plus_begins_at_zero_shot_and_fits_better_the_weaker_its_penalty() -> None:
    e = episode(unit=True)
    zero = aligned.zero_shot([e])[0][0].logits(e.features)
    losses = [
        float(torch.nn.functional.cross_entropy(c.logits(e.features), e.labels))
        for c in aligned.lp_plus([e])[0]
    ]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] <= float(torch.nn.functional.cross_entropy(zero, e.labels))


def test_ridge_without_belief_in_the_prior_is_ridge() -> None:
    """With the prior's factor at its smallest penalty the weights are those of the normal equations."""
    e = episode(n=20)
    (candidates,) = ridge_text([e])
    assert len(candidates) == len(MAP_PENALTIES) * len(PRIOR_PENALTIES)
    x = e.features.double()
    y = torch.nn.functional.one_hot(e.labels, C).double()
    x, y = x - x.mean(0), y - y.mean(0)
    penalty = PRIOR_PENALTIES[-1] * x.square().sum(1).mean()
    plain = torch.linalg.solve(x.T @ x + penalty * torch.eye(D, dtype=x.dtype), x.T @ y).T
    last = candidates[-1]
    assert last.hyperparameters == {"map": MAP_PENALTIES[-1], "prior": PRIOR_PENALTIES[-1]}
    weight = last.logits.weight.double()  # type: ignore[attr-defined]
    # The prior lies in the span of the class means, so what it changes at this penalty is small.
    assert float((weight - plain).norm() / plain.norm()) < 0.05


def test_a_strong_prior_knows_a_class_by_its_text() -> None:
    """Five classes, one picture each and much noise: with the prior trusted, texts that lie as the pictures'
    centres do classify better than ridge alone."""
    scores = []
    for seed in range(6):
        x, y = rows(seed, 1, noise=2.0)
        text = torch.tensor(CENTRES, dtype=torch.float32)
        e = Episode(
            features=x, labels=y, validation=(x, y), classes=C, seed=seed, text=(text, torch.arange(C)),
            class_means=torch.nn.functional.normalize(text, dim=1),
        )  # fmt: skip
        queries, truth = rows(seed + 40, 100, noise=2.0)
        found = {tuple(c.hyperparameters.values()): c for c in ridge_text([e])[0]}
        scores.append(
            [
                float((found[key].logits(queries).argmax(1) == truth).float().mean())
                for key in ((1.0, 100.0), (1.0, 0.01))
            ]
        )
    strong, weak = np.mean(scores, axis=0)
    assert strong >= weak - 0.02
    assert strong > 0.4
