"""Heads that are solved on all rows at once: the minimum, what does not change it, and what is selected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor

from toy_stores import clusters
from uml_cache.errors import InputError
from uml_train import (
    Candidate,
    Fitted,
    HeadModel,
    Normalizer,
    Point,
    Samples,
    load_grid,
    load_head,
    open_run_problem,
    train,
)
from uml_train.fullbatch import axes
from uml_train.fullbatch.search import select, solve
from uml_train.heads.weights import class_mean_rows

Settings = Callable[..., Any]
NOT_STEPPED = Candidate(lr=0.0, weight_decay=0.0, batch_size=1)
FAIR = load_grid("fair").points


def _tensor(values: Any) -> Tensor:
    return torch.tensor(np.asarray(values), dtype=torch.float32)


def _model(
    *, shots: int = 4, classes: int = 5, deep: bool = True, text: Tensor | None = None, **values: Any
) -> HeadModel:
    """Clusters 12 wide; texts, where there are some, 16 wide."""
    labels, held = np.tile(np.arange(classes), shots), np.tile(np.arange(classes), 20)
    words = torch.arange(classes).repeat(6) if text is None else text
    auxiliaries = (
        Samples(
            name="text", features=_tensor(clusters(2, words.numpy(), 16, 0.5)), labels=words, projected=False
        ),
    )
    given: dict[str, Any] = {
        "target": Samples(
            name="image",
            features=_tensor(clusters(1, labels, 12, 1.5)),
            labels=torch.from_numpy(labels),
            projected=deep,
        ),
        "auxiliaries": auxiliaries if deep else (),
        "validation": (_tensor(clusters(1, np.tile(held, 2), 12, 1.5))[len(held) :], torch.from_numpy(held)),
        "classes": classes,
        "width": 16 if deep else 12,
        "seed": 1,
        "candidate": NOT_STEPPED,
    }
    return HeadModel(**{**given, **values})


def test_a_linear_layer_is_scikit_learns() -> None:
    model = _model(deep=False)
    x = model.target.rows.values.double().numpy()  # type: ignore[attr-defined]
    y = model.target.labels.numpy()
    centred = x - x.mean(0)
    spread = np.square(centred).sum(1).mean()
    points = [Point(loss="cross-entropy", strength=0.3), Point(loss="squared", strength=3.0)]
    likely, squared = solve(model, points)
    queries = model.validation[0].double().numpy() - x.mean(0)  # type: ignore[union-attr]
    rival = LogisticRegression(C=0.3 / spread, tol=1e-8, max_iter=10_000).fit(centred, y)
    expected = rival.predict_log_proba(queries)
    found = likely.weights.logits(model.validation[0]).log_softmax(1).numpy()  # type: ignore[arg-type]
    assert np.abs(found - expected).max() < 0.05  # solved to a hundredth of what training brings
    ridge = Ridge(alpha=spread / 3.0).fit(centred, np.eye(5)[y])
    ours = squared.weights.logits(model.validation[0]).double().numpy()  # type: ignore[arg-type]
    theirs = ridge.predict(queries)
    factor = (ours * theirs).sum() / np.square(theirs).sum()
    assert np.abs(ours - factor * theirs).max() < 1e-4 * np.abs(ours).max()


def _objective(model: HeadModel, fitted: Fitted, strength: float) -> float:
    """The objective of `shared` without auxiliaries."""
    x = model.target.rows.values  # type: ignore[attr-defined]
    spread = float((x - x.mean(0)).square().sum(1).mean())
    projection, head = fitted.weights.projections[0], fitted.weights.head
    assert projection is not None
    penalty = spread / strength * float(head.square().sum() * projection.square().sum()) / (2 * model.classes)
    logits = fitted.weights.logits(x)
    return float(torch.nn.functional.cross_entropy(logits, model.target.labels, reduction="sum")) + penalty


def test_a_projection_only_improves_on_one_linear_layer() -> None:
    deep = replace(_model(), auxiliaries=())
    for strength in (1.0, 30.0):
        point = [Point(loss="cross-entropy", strength=strength)]
        (shared,) = solve(deep, point)
        (alone,) = solve(_model(deep=False), point)
        w = alone.weights.head
        x = deep.target.rows.values  # type: ignore[attr-defined]
        spread = float((x - x.mean(0)).square().sum(1).mean())
        loss = torch.nn.functional.cross_entropy(alone.weights.logits(x), deep.target.labels, reduction="sum")
        linear = float(loss) + spread / strength / 2 * float(w.square().sum())
        assert _objective(deep, shared, strength) < linear


@pytest.mark.parametrize("method", ["uml", "init", "joint", "joint init", "linear"])
def test_what_was_solved_before_changes_no_bit(method: str) -> None:
    def model() -> HeadModel:
        made = _model(deep=method != "linear")
        if "init" in method:
            text = made.auxiliaries[0]
            rows, _ = class_mean_rows(text.features, text.labels, 5, 1)
            made = replace(made, head=rows if "joint" not in method else rows[:, :12])
        if "joint" in method:
            text = made.auxiliaries[0]
            short = replace(text, features=text.rows.values[:, :12])  # type: ignore[attr-defined]
            target = replace(made.target, projected=False, logit_scale=100.0)
            made = replace(made, target=target, auxiliaries=(short,), width=12)
        return made

    axes._known.clear()
    first = solve(model(), FAIR)
    solve(replace(_model(shots=3), seed=2), FAIR)
    again = solve(model(), FAIR)
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.weights.head, b.weights.head)
        assert a.weights.bias is not None
        assert b.weights.bias is not None
        assert torch.equal(a.weights.bias, b.weights.bias)
        assert (a.val_acc, a.val_loss) == (b.val_acc, b.val_loss)


def test_texts_that_know_the_classes_help_and_others_do_little_harm() -> None:
    """The class means of texts lie to each other as those of pictures do."""
    generator = np.random.default_rng(0)
    world = generator.standard_normal((20, 6))  # classes by hidden factors

    def seen(labels: np.ndarray, width: int, noise: float, key: int) -> Tensor:
        own = np.random.default_rng(key)
        mixing = np.random.default_rng(key % 10).standard_normal((6, width))
        return _tensor(world[labels] @ mixing + noise * own.standard_normal((len(labels), width)))

    words, rows, held = (np.tile(np.arange(20), n) for n in (10, 1, 15))
    scores = {}
    for name, order in (("none", None), ("own", np.arange(20)), ("permuted", np.roll(np.arange(20), 7))):
        text = Samples(
            name="text", features=seen(words, 24, 0.3, 12), projected=False,
            labels=torch.from_numpy(words if order is None else order[words]),
        )  # fmt: skip
        model = _model(
            classes=20,
            target=Samples(
                name="image", features=seen(rows, 40, 2.0, 21), labels=torch.from_numpy(rows), projected=True
            ),
            auxiliaries=() if order is None else (text,),
            validation=(seen(held, 40, 2.0, 31), torch.from_numpy(held)),
            width=24,
        )
        fitted = solve(model, FAIR)
        scores[name] = fitted[select(FAIR, fitted)].val_acc
    assert scores["own"] > scores["none"] + 3
    assert scores["own"] > scores["permuted"]


def test_a_class_without_texts_is_learnt_all_the_same() -> None:
    words = torch.arange(3).repeat(6)  # of five classes
    model = _model(shots=8, text=words)
    fitted = solve(model, FAIR)
    chosen = fitted[select(FAIR, fitted)]
    found = chosen.weights.logits(model.validation[0]).argmax(1)  # type: ignore[arg-type]
    for c in range(5):
        assert float((found[model.validation[1] == c] == c).float().mean()) > 0.5


def test_more_classes_than_the_space_is_wide() -> None:
    words = torch.arange(5).repeat(6)
    narrow = Samples(
        name="text", features=_tensor(clusters(2, words.numpy(), 3, 0.2)), labels=words, projected=False
    )
    for auxiliaries in ((narrow,), ()):
        model = _model(shots=8, auxiliaries=auxiliaries, width=3)
        fitted = solve(model, FAIR)
        assert fitted[select(FAIR, fitted)].val_acc > 60
        assert fitted[0].weights.head.shape == (5, 3)


def test_rows_that_are_all_alike_are_no_error() -> None:
    labels = torch.arange(5)
    same = Samples(name="image", features=torch.ones(5, 12), labels=labels, projected=True)
    for fitted in solve(_model(target=same), FAIR):
        assert torch.isfinite(fitted.weights.head).all()


def test_ties_go_to_the_likelier_cross_entropy() -> None:
    def fitted(accuracy: float, loss: float) -> Any:
        return Fitted(made=None, val_acc=accuracy, val_loss=loss, best_step=1, steps=1)  # type: ignore[arg-type]

    points = [Point(loss=kind, strength=1.0) for kind in ("cross-entropy", "cross-entropy", "squared")]
    assert select(points, [fitted(50, 2.0), fitted(50, 1.0), fitted(50, 0.5)]) == 1
    assert select(points, [fitted(50, 2.0), fitted(50, 1.0), fitted(60, 9.0)]) == 2
    assert select(points, [fitted(70, 2.0), fitted(50, 1.0), fitted(60, 0.1)]) == 0


def test_nearly_dead_features_are_not_blown_up() -> None:
    x = _tensor(np.random.default_rng(0).standard_normal((6, 8)))
    x[:, 0] = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 1e-4])
    query = torch.zeros(1, 8)
    query[0, 0] = 1.0  # alive elsewhere
    assert Normalizer.fit("standard", x)(query)[0, 0] > 100
    mapped = Normalizer.fit("shrunk", x)
    assert abs(float(mapped(query)[0, 0])) < 1
    assert torch.allclose(mapped(x).norm(dim=1), torch.ones(6))
    assert not torch.equal(mapped(x * 2 + 3), mapped(x))
    assert torch.allclose(Normalizer.fit("shrunk", x * 2 + 3)(x * 2 + 3), mapped(x), atol=1e-5)


def test_a_run_is_solved_by_default(cache: Path, settings_for: Settings) -> None:
    values = {
        "grid": "auto",
        "methods": ("unimodal", "unimodal-deep", "init-only", "uml", "uml-init", "auto"),
    }
    settings = settings_for(cache, controls=("permuted", "random"), seeds=(1,), **values)
    run = train(settings)
    assert {(r.solver, r.normalize, r.grid) for r in run.cells} == {("full batch", "validated", "fair")}
    heads = [r for r in run.cells if r.chosen is None]
    assert {len(r.candidates) for r in heads} == {len(FAIR)}
    results = (run.path / "results.csv").read_text()
    assert "full batch" in results
    assert "strength" in results
    problem = open_run_problem(run)
    for result in heads:
        assert result.test_acc > 20  # chance
        head = load_head(result.head_path)
        found = head.predict(problem.target.values(problem.test))
        assert np.array_equal(found.numpy(), result.test_predictions)
    again = train(replace(settings, out=run.path.parent / "again"))
    for a, b in zip(run.cells, again.cells, strict=True):
        assert a.head_path.read_bytes() == b.head_path.read_bytes()


def test_validation_rows_are_trained_on_when_asked(cache: Path, settings_for: Settings) -> None:
    values = {"grid": "auto", "methods": ("unimodal", "uml"), "seeds": (1,), "auxiliaries": (("text",),)}
    plain, refit = (train(settings_for(cache, refit=flag, **values)) for flag in (False, True))
    for a, b in zip(plain.cells, refit.cells, strict=True):
        assert (a.label_budget, a.val_acc, a.selected) == (b.label_budget, b.val_acc, b.selected)
        assert a.head_path.read_bytes() != b.head_path.read_bytes()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"grid": "fair", "trunk": "mlp"}, "--trunk mlp"),
        ({"grid": "fair", "loader": "stream"}, "streamed"),
        ({"grid": "quick", "refit": True}, "--grid fair"),
    ],
)
def test_what_cannot_be_solved_is_refused(
    cache: Path, settings_for: Settings, values: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        train(settings_for(cache, **values))


def test_a_weight_is_a_weight(cache: Path, settings_for: Settings) -> None:
    """Twice the batches of an auxiliary are twice its weight."""
    values = {"grid": "auto", "methods": ("uml",), "seeds": (1,), "auxiliaries": (("text",),)}
    twice = train(settings_for(cache, ratio=(2.0,), **values)).cells[0]
    weight = train(settings_for(cache, alpha=(2.0,), **values)).cells[0]
    assert twice.head_path.read_bytes() == weight.head_path.read_bytes()
    once = train(settings_for(cache, **values)).cells[0]
    assert once.head_path.read_bytes() != weight.head_path.read_bytes()
