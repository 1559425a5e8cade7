"""The textbook rival: as good as scikit-learn's ridge and logistic regression on the same rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from toy_stores import clusters
from uml_evaluate.probes.episode import Candidate, Episode
from uml_evaluate.probes.textbook import RIDGES, textbook, ties


@pytest.mark.parametrize(("rows", "dim"), [(20, 40), (60, 12)])
def test_ridge_is_scikit_learns(rows: int, dim: int) -> None:
    labels = np.arange(rows) % 4
    x = clusters(1, labels, dim, 1.0).astype(np.float32) + 3.0
    episode = Episode(
        features=torch.from_numpy(x), labels=torch.from_numpy(labels),
        validation=(torch.from_numpy(x), torch.from_numpy(labels)), classes=4, seed=1,
    )  # fmt: skip
    found = [c for c in textbook([episode])[0] if "ridge" in c.hyperparameters]
    assert len(found) == len(RIDGES)
    for candidate in found:
        model = Ridge(alpha=candidate.hyperparameters["ridge"], solver="svd")
        model.fit(x.astype(np.float64), np.eye(4)[labels])
        np.testing.assert_allclose(
            candidate.logits(torch.from_numpy(x)).numpy(), model.predict(x.astype(np.float64)), atol=1e-5
        )


def test_equally_accurate_ones_are_told_apart_by_their_loss() -> None:
    labels = torch.tensor([0, 1])
    sure, unsure = torch.tensor([[4.0, 0.0], [0.0, 4.0]]), torch.tensor([[0.1, 0.0], [0.0, 0.1]])
    likely = Candidate({"C": 1.0}, lambda x: x)
    squared = Candidate({"ridge": 1.0}, lambda x: x)
    assert ties(likely, sure, labels) < ties(likely, unsure, labels) < ties(squared, sure, labels)
    assert ties(squared, torch.eye(2), labels) < ties(squared, sure, labels)
