"""Rivals do not change with what cannot tell classes apart: an offset, a column that does not vary, the
scale.

The shifts are powers of two and the features multiples of 2⁻¹⁰, so that float32 holds shifted features
exactly and every prediction must stay as it is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from uml_evaluate.probes.episode import Episode
from uml_evaluate.probes.nearest import Keys
from uml_evaluate.probes.neighbours import nearest_class_mean
from uml_evaluate.probes.registry import probe_named

C, D, SHOTS = 6, 16, 4
OFFSET_BLIND = ("ncm", "lda", "logreg", "logreg-sklearn", "ridge-text")
"""Not those that look at angles (knn and what needs a joint space), whose answers an offset changes."""


def _rows(seed: int, n: int) -> tuple[Tensor, Tensor]:
    centres = np.random.default_rng(0).standard_normal((C, D))
    labels = np.tile(np.arange(C), n)
    values = centres[labels] + np.random.default_rng(seed).standard_normal((len(labels), D))
    return torch.tensor(np.round(values * 1024) / 1024, dtype=torch.float32), torch.tensor(labels)


def _offset(x: Tensor) -> Tensor:
    return x + 2.0**12 * (1.0 + torch.arange(x.shape[1]) % 3)


def _column(x: Tensor) -> Tensor:
    return torch.cat([x, torch.full((len(x), 1), 2.0e4)], dim=1)


def _small(x: Tensor) -> Tensor:
    return x * 2.0**-20


def _large(x: Tensor) -> Tensor:
    return x * 2.0**12


def _predictions(name: str, change: Callable[[Tensor], Tensor]) -> list[list[int]]:
    features, labels = _rows(1, SHOTS)
    text, text_labels = _rows(2, 3)
    means = torch.stack([text[text_labels == c].mean(0) for c in range(C)])
    episode = Episode(
        features=change(features), labels=labels, validation=(change(features), labels), classes=C, seed=0,
        text=(text, text_labels), class_means=torch.nn.functional.normalize(means, dim=1),
    )  # fmt: skip
    (candidates,) = probe_named(name).fit([episode])
    queries, _ = _rows(3, 40)
    return [c.logits(change(queries)).argmax(1).tolist() for c in candidates]


@pytest.mark.parametrize("change", [_offset, _column, _small, _large])
@pytest.mark.parametrize("name", OFFSET_BLIND)
def test_predictions_stay(name: str, change: Callable[[Tensor], Tensor]) -> None:
    """At most 2 of 240 queries of a candidate may lie so close to a boundary that a solver's tolerance
    decides."""
    plain, changed = _predictions(name, lambda x: x), _predictions(name, change)
    assert len(plain) == len(changed)
    for before, after in zip(plain, changed, strict=True):
        assert sum(a != b for a, b in zip(before, after, strict=True)) <= 2


@pytest.mark.parametrize("name", ["ncm", "lda"])
def test_near_classes_are_told_apart_beside_a_far_one(name: str) -> None:
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1, 2], 40)
    centres = np.zeros((3, 8))
    centres[1, 0], centres[2] = 0.5, 1e4
    values = torch.tensor(centres[labels] + 0.05 * rng.standard_normal((120, 8)), dtype=torch.float32)
    codes = torch.tensor(labels)
    episode = Episode(
        features=values[:60], labels=codes[:60], validation=(values[:60], codes[:60]), classes=3, seed=0
    )
    for candidate in probe_named(name).fit([episode])[0]:
        assert (candidate.logits(values[60:]).argmax(1) == codes[60:]).all()


def test_the_head_file_of_a_probe_says_what_the_probe_says() -> None:
    features, labels = _rows(1, SHOTS)
    x = _offset(features)
    episode = Episode(features=x, labels=labels, validation=(x, labels), classes=C, seed=0)
    ((candidate,),) = nearest_class_mean([episode])
    weight, bias = candidate.logits.plain()
    assert bias.dtype == torch.float64
    queries = _offset(_rows(3, 40)[0])
    torch.testing.assert_close(
        queries.double() @ weight.T + bias, candidate.logits(queries), atol=1e-6, rtol=0
    )


def test_neighbours_are_those_of_double_precision_behind_an_offset() -> None:
    keys = _rows(1, 20)[0] + 2.0**12
    queries = _rows(2, 20)[0] + 2.0**12
    unit = torch.nn.functional.normalize
    exact = unit(queries.double(), dim=1) @ unit(keys.double(), dim=1).T
    found = Keys.of(keys).relative(queries)
    apart = found.double() - exact
    apart = apart - apart.mean(1, keepdim=True)
    assert float(apart.abs().max()) < 1e-4 * float((exact.max(1).values - exact.min(1).values).min())
