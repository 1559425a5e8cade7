"""`ridge` and `prior`: the closed form, what it does not depend on, and what a run makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from uml_cache.errors import InputError
from uml_train import (
    Candidate,
    Fitted,
    HeadModel,
    Point,
    Samples,
    UMLClassifier,
    load_grid,
    load_head,
    open_run_problem,
    train,
)
from uml_train.fullbatch.class_prior import class_kernel, cross_validated, folds, solve_prior
from uml_train.fullbatch.search import cross_validate, select, solve
from uml_train.settings import METHODS

Settings = Callable[..., Any]
CLASSES, WIDTH = 5, 7
GRID = load_grid("fair")


def _rows(key: int, n: int, width: int = WIDTH, classes: int = CLASSES, projected: bool = False) -> Samples:
    draw = np.random.default_rng(key)
    labels = np.tile(np.arange(classes), n)
    centres = np.random.default_rng(99).standard_normal((classes, width))
    features = centres[labels] + draw.standard_normal((len(labels), width))
    return Samples(
        name="rows",
        features=torch.tensor(features, dtype=torch.float32),
        labels=torch.from_numpy(labels),
        projected=projected,
    )


def _model(shots: int = 3, kernel: Tensor | None = None, **values: Any) -> HeadModel:
    held = _rows(2, 4)
    given: dict[str, Any] = {
        "target": _rows(1, shots), "validation": (held.features, held.labels), "classes": CLASSES,
        "width": WIDTH, "seed": 1, "candidate": Candidate(lr=0.0, weight_decay=0.0, batch_size=1),
        "kernel": kernel,
    }  # fmt: skip
    return HeadModel(**{**given, **values})


def _kernel(key: int = 5) -> Tensor:
    return class_kernel([_rows(key, 2, width=9)], CLASSES)


@given(rho=st.floats(0.0, 0.95), strength=st.floats(0.01, 100.0), shots=st.integers(1, 4))
def test_the_closed_form_solves_the_dense_system(rho: float, strength: float, shots: int) -> None:
    """(XᵀX ⊗ I + λ I ⊗ S⁻¹) vec(W) = vec(YᵀX)."""
    kernel = _kernel()
    model = _model(shots, kernel)
    head, _, _ = solve_prior(model, [Point(loss="squared", strength=strength, prior=rho)]).parts(0)
    x = model.target.rows.values.double()  # type: ignore[attr-defined]
    x = x - x.mean(0)
    y = torch.nn.functional.one_hot(model.target.labels, CLASSES).double()
    y = y - y.mean(0)
    penalty = float(x.square().sum(1).mean()) / strength
    s = (1.0 - rho) * torch.eye(CLASSES, dtype=torch.float64) + rho * kernel
    eye = torch.eye(CLASSES, dtype=torch.float64)
    # Times S from the left, which has no inverse at rho = 1.
    system = torch.kron(s, x.T @ x) + penalty * torch.kron(eye, torch.eye(WIDTH, dtype=torch.float64))
    dense = torch.linalg.solve(system, (s @ y.T @ x).flatten()).view(CLASSES, WIDTH)
    assert torch.allclose(head.double(), dense, atol=1e-5 * float(dense.abs().max()) + 1e-9)


def test_without_a_prior_it_is_ridge_regression() -> None:
    points = [Point(loss="squared", strength=s) for s in (0.1, 1.0, 10.0)]
    plain = solve(_model(), points)
    for kernel in (None, _kernel()):
        ours = solve(_model(kernel=kernel), [replace(p, prior=0.0) for p in points])
        for a, b in zip(plain, ours, strict=True):
            assert torch.allclose(a.weights.head, b.weights.head, rtol=1e-3, atol=1e-5)
            assert a.val_acc == b.val_acc


def test_classes_have_no_order() -> None:
    order = torch.tensor([3, 0, 4, 1, 2])
    point = [Point(loss="squared", strength=1.0, prior=0.8)]
    model = _model(kernel=_kernel())
    text = _rows(5, 2, width=9)
    other = class_kernel([replace(text, labels=order[text.labels])], CLASSES)
    moved = _model(kernel=other, target=replace(model.target, labels=order[model.target.labels]))
    assert model.kernel is not None
    assert torch.allclose(other[order][:, order], model.kernel)
    assert torch.allclose(
        solve_prior(moved, point).parts(0)[0][order], solve_prior(model, point).parts(0)[0], atol=1e-6
    )


def test_a_class_without_texts_is_independent() -> None:
    text = _rows(5, 2, width=9)
    some = text.labels != 2
    part = replace(text, features=text.rows.values[some], labels=text.labels[some])  # type: ignore[attr-defined]
    kernel = class_kernel([part], CLASSES)
    assert torch.equal(kernel[2], torch.eye(CLASSES, dtype=torch.float64)[2])
    assert torch.equal(kernel[:, 2], kernel[2])
    both = class_kernel([part, text], CLASSES)
    assert torch.allclose(both, (kernel + class_kernel([text], CLASSES)) / 2)
    for k in (kernel, both):
        assert float(torch.linalg.eigvalsh(k).min()) > -1e-12
        assert abs(float(k.diagonal().mean()) - 1.0) < 1e-12
    alike = replace(text, features=torch.ones(len(text.labels), 9))
    one = replace(text, features=text.rows.values[:1], labels=text.labels[:1])  # type: ignore[attr-defined]
    for nothing in (alike, one):
        assert torch.equal(class_kernel([nothing], CLASSES), torch.eye(CLASSES, dtype=torch.float64))


@given(counts=st.lists(st.integers(1, 8), min_size=2, max_size=6), seed=st.integers(0, 5))
def test_folds_hold_out_a_like_number_of_every_class(counts: list[int], seed: int) -> None:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    several = [c for c in range(len(counts)) if counts[c] > 1]
    found = list(folds(labels, seed))
    assert bool(found) == bool(several)
    times = torch.zeros(len(labels))
    parts = min(5, min((counts[c] for c in several), default=2))
    for held in found:
        times += held
        for c, n in enumerate(counts):
            some = int(held[labels == c].sum())
            assert n // parts <= some <= -(-n // parts) if n > 1 else some == 0
    for c in several:
        assert len(set(times[labels == c].tolist())) == 1  # every row as often


def test_cross_validation_is_that_of_refitted_heads() -> None:
    model = _model(2, _kernel())
    points = GRID.crossed_points(prior=True)
    crossed = cross_validated(model, points)
    assert crossed is not None
    logits, labels = crossed
    features = torch.cat([model.target.features, model.validation[0]])  # type: ignore[list-item]
    every = torch.cat([model.target.labels, model.validation[1]])
    at = 0
    for held in folds(every, model.seed):
        rows = replace(model.target, features=features[~held], labels=every[~held])
        solved = solve_prior(replace(model, target=rows), points)
        n = int(held.sum())
        for i, z in enumerate(logits):
            head, _, bias = solved.parts(i)
            share = torch.bincount(every[~held], minlength=CLASSES) / float((~held).sum())
            expected = features[held].double() @ head.double().T + bias - share
            assert torch.allclose(z[at : at + n], expected, atol=1e-4)
        assert torch.equal(labels[at : at + n], every[held])
        at += n
    assert at == len(labels)


def _searched(model: HeadModel, points: tuple[Point, ...]) -> list[Fitted]:
    fitted = solve(model, points)
    cross_validate(model, points, fitted)
    return fitted


def test_the_strength_is_chosen_before_the_prior() -> None:
    points = GRID.crossed_points(prior=True)
    fitted = _searched(_model(2, _kernel()), points)
    plain = GRID.crossed_points(prior=False)
    strength = plain[select(plain, _searched(_model(2), plain))].strength
    chosen = select(points, fitted)
    assert points[chosen].strength == strength
    rivals = [f.crossed for p, f in zip(points, fitted, strict=True) if p.strength == strength]
    assert fitted[chosen].crossed is not None
    assert fitted[chosen].crossed[0] == max(c[0] for c in rivals if c is not None)
    many = _searched(_model(20, _kernel()), points)
    assert all(f.crossed is None for f in many)  # validation selects


@pytest.mark.parametrize("method", ["ridge", "prior"])
def test_the_classifier_has_them(method: str) -> None:
    target, held, text = _rows(1, 4), _rows(2, 20), _rows(5, 3, width=9)
    x, y = target.features.numpy(), target.labels.numpy()  # type: ignore[union-attr]
    others = {"text": (text.features.numpy(), text.labels.numpy())}  # type: ignore[union-attr]
    made = UMLClassifier(method=method, random_state=0, controls=("permuted",))
    made.fit(x, y, auxiliaries=others)
    assert made.method_ == method
    assert set(made.point_) == {"loss", "strength", "prior"}
    assert set(made.control_scores_) == ({"permuted"} if method == "prior" else set())
    assert made.score(held.features.numpy(), held.labels.numpy()) > 0.5  # type: ignore[union-attr]


def test_what_the_texts_say_helps_and_others_do_little_harm() -> None:
    classes, width = 40, 30
    world = np.random.default_rng(0).standard_normal((classes, 4))
    labels, held = np.arange(classes), np.tile(np.arange(classes), 10)

    def seen(labels: np.ndarray, mixing: int, key: int, noise: float) -> Tensor:
        made = world[labels] @ np.random.default_rng(mixing).standard_normal((4, width))
        return torch.tensor(
            made + noise * np.random.default_rng(key).standard_normal(made.shape), dtype=torch.float32
        )

    def accuracy(rho: float, order: np.ndarray) -> float:
        words = Samples(
            name="text", features=seen(labels, 8, 9, 0.3), labels=torch.from_numpy(order), projected=False
        )
        hits = []
        for key in range(5):
            target = Samples(
                name="image", features=seen(labels, 7, key, 1.5), labels=torch.from_numpy(labels),
                projected=False,
            )  # fmt: skip
            model = _model(
                target=target, classes=classes, width=width, kernel=class_kernel([words], classes),
                validation=(seen(held, 7, 50 + key, 1.5), torch.from_numpy(held)),
            )  # fmt: skip
            hits.append(solve(model, [Point(loss="squared", strength=1.0, prior=rho)])[0].val_acc)
        return float(np.mean(hits))

    own, without, permuted = accuracy(0.75, labels), accuracy(0.0, labels), accuracy(0.75, np.roll(labels, 7))
    assert own > without + 1.0
    assert permuted < own
    assert permuted > without - 5.0


def test_a_run_has_them_with_controls_and_heads(cache: Path, settings_for: Settings) -> None:
    values = {"grid": "auto", "seeds": (1,), "methods": ("unimodal", "ridge", "prior", "auto")}
    run = train(settings_for(cache, controls=("permuted", "random"), **values))
    arms = {(r.cell.method, r.cell.control) for r in run.cells}
    assert arms >= {("ridge", None), ("prior", None), ("prior", "permuted"), ("prior", "random")}
    assert ("ridge", "permuted") not in arms
    problem = open_run_problem(run)
    for r in run.cells:
        if r.cell.method in ("ridge", "prior"):
            assert len(r.candidates) == (4 if r.cell.method == "ridge" else 16)
            assert {c["hyperparameters"]["prior"] for c in r.candidates} >= {0.0}
            found = load_head(r.head_path).predict(problem.target.values(problem.test))
            assert np.array_equal(found.numpy(), r.test_predictions)
    assert "prior" in (run.path / "results.csv").read_text()
    alone = train(settings_for(cache, out=run.path.parent / "alone", **{**values, "methods": ("prior",)}))
    same = {r.cell: r for r in run.cells}
    for r in alone.cells:  # whatever else is in the run
        assert r.head_path.read_bytes() == same[r.cell].head_path.read_bytes()


def test_adamw_has_no_closed_form(cache: Path, settings_for: Settings) -> None:
    run = train(settings_for(cache, seeds=(1,), auxiliaries=(("text",),)))
    assert {r.cell.method for r in run.cells} == set(METHODS) - {"ridge", "prior"}
    with pytest.raises(InputError, match="ridge is solved in closed form"):
        train(settings_for(cache, methods=("ridge", "uml")))
    with pytest.raises(InputError, match="controls need a method"):
        settings_for(cache, methods=("ridge",), controls=("random",))
