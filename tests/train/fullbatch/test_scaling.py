"""`--normalize validated`: which normalisation a draw gets, and that nothing but the draw decides it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from toy_stores import write_store
from uml_cache import InputError
from uml_train import TrainSettings, load_grid, load_head, train
from uml_train.data.normalize import Normalizer
from uml_train.fullbatch.scaling import LabelledParts, validated_normalization, validation_of
from uml_train.runs.refit import head_bytes

Settings = Callable[..., TrainSettings]
POINTS = load_grid("fair").points_for(auxiliary_loss=False)


def _rows(seed: int, labels: np.ndarray, loud: str) -> np.ndarray:
    """Rows (n, 400) of 5 classes: 8 features that tell them apart and 392 of noise, either the louder."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((5, 8))
    x = rng.standard_normal((len(labels), 400))
    x[:, :8] += 1.5 * centres[labels]
    scale = np.ones(400)
    scale[:8] = 8.0 if loud == "signal" else 1.0 / 8.0
    return (x * scale).astype(np.float32)


def _parts(loud: str, per_class: int = 6, held: int = 8) -> LabelledParts:
    y, yv = np.tile(np.arange(5), per_class), np.tile(np.arange(5), held)
    x, xv = (torch.from_numpy(_rows(s, labels, loud)) for s, labels in ((1, y), (2, yv)))
    return LabelledParts(x, torch.from_numpy(y), xv, torch.from_numpy(yv), 5)


def test_scales_stay_where_they_mean_something() -> None:
    assert validated_normalization(_parts("signal"), POINTS) == "center-l2"
    assert validated_normalization(_parts("noise"), POINTS) == "shrunk"


def test_rows_that_say_nothing_leave_the_usual_one() -> None:
    """Without classes in the features both are as likely, up to accidents; one row alone has no spread."""
    parts, random = _parts("signal"), torch.Generator().manual_seed(0)
    chosen = []
    for _ in range(8):
        order = torch.randperm(len(parts.y), generator=random)
        chosen.append(validated_normalization(replace(parts, y=parts.y[order]), POINTS))
    assert chosen.count("shrunk") >= 6
    alone = replace(parts, held=parts.held[:1], answers=parts.answers[:1])
    assert validated_normalization(alone, POINTS) == "shrunk"


def _loud(per_class: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of 5 classes (5 · n, 20), each class with a direction in common and a loudness of its own."""
    rng = np.random.default_rng(seed)
    y = np.tile(np.arange(5), per_class)
    direction = np.random.default_rng(0).standard_normal(20)
    x = (1.0 + y[:, None]) * direction * 3 + rng.standard_normal((len(y), 20))
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y)


def test_loudness_tells_classes_apart_where_lengths_are_kept() -> None:
    (x, y), (held, answers), (test, truth) = (_loud(4, seed) for seed in (1, 2, 3))
    parts = LabelledParts(x, y, held, answers, 5)
    kept = validated_normalization(parts, POINTS, choice="validated-lengths")
    assert kept in ("scaled", "center", "standard")
    right = {}
    for kind in (kept, validated_normalization(parts, POINTS)):
        normalize = Normalizer.fit(kind, x)
        head = LogisticRegression(C=100.0, max_iter=1000).fit(normalize(x), y)
        right[kind] = float((head.predict(normalize(test)) == truth.numpy()).mean())
    assert right.pop(kept) > max(right.values()) + 0.1


def test_which_choice_goes_with_an_encoder() -> None:
    assert validation_of("log-mel") == "validated-lengths"
    assert validation_of("dinov2_vits14") == "validated"


def test_scaled_rows_keep_their_lengths() -> None:
    x = torch.from_numpy(_rows(0, np.tile(np.arange(5), 9), "signal"))
    scaled, shrunk = Normalizer.fit("scaled", x)(x), Normalizer.fit("shrunk", x)(x)
    assert float(scaled.square().sum(1).mean()) == pytest.approx(1.0, rel=1e-5)
    torch.testing.assert_close(torch.nn.functional.normalize(scaled, dim=1), shrunk)
    weighted = Normalizer.fit_weighted("scaled", x, torch.ones(len(x)).index_fill(0, torch.tensor([3]), 2.0))
    twice = Normalizer.fit("scaled", torch.cat([x, x[3:4]]))
    torch.testing.assert_close(weighted(x), twice(x), rtol=1e-4, atol=1e-5)


def test_what_was_asked_before_changes_nothing() -> None:
    """The answer is remembered by content: draws that differ in validation rows alone are two."""
    parts = _parts("signal")
    wrong = replace(parts, answers=parts.answers.roll(1))
    assert validated_normalization(parts, POINTS) == "center-l2"
    first = validated_normalization(wrong, POINTS)
    validated_normalization(_parts("noise"), POINTS)
    assert validated_normalization(wrong, POINTS) == first
    assert validated_normalization(parts, POINTS) == "center-l2"


@pytest.fixture
def scaled(tmp_path: Path) -> Path:
    """A store whose scales mean something, in its 40 training, 40 validation and 100 test rows."""
    feats = tmp_path / "feats"
    labels = np.tile(np.arange(5), 36)
    write_store(feats, "image", _rows(3, labels, "signal"), labels, np.repeat([0, 1, 2], [40, 40, 100]))
    words = np.tile(np.arange(5), 10)
    write_store(feats, "text", _rows(4, words, "noise"), words, np.full(50, 255))
    return feats


def _kinds(run: Any) -> set[str]:
    return {c["normalize"] for r in run.cells for c in r.candidates}


def test_every_method_of_a_draw_has_the_chosen_one(scaled: Path, settings_for: Settings) -> None:
    values = {"grid": "auto", "seeds": (1,), "shots": (8,), "methods": ("unimodal", "ridge", "uml")}
    run = train(settings_for(scaled, **values))
    assert {r.normalize for r in run.cells} == {"validated"}
    assert _kinds(run) == {"center-l2"}
    fixed = train(settings_for(scaled, normalize="center-l2", **{**values, "methods": ("unimodal", "ridge")}))
    by = {r.cell.method: r for r in run.cells}
    for cell in fixed.cells:  # the target's normalisation; auxiliaries keep the usual one
        mine, theirs = load_head(by[cell.cell.method].head_path), load_head(cell.head_path)
        assert mine.bias.tolist() == theirs.bias.tolist()
    alone = train(settings_for(scaled, **{**values, "methods": ("uml",), "out": run.path.parent / "alone"}))
    assert alone.cells[0].head_path.read_bytes() == by["uml"].head_path.read_bytes()


def test_a_refit_keeps_the_normalisation_of_its_draw(scaled: Path, settings_for: Settings) -> None:
    """A head for new samples is fitted on validation rows, too; those then cannot choose."""
    run = train(settings_for(scaled, grid="auto", seeds=(1,), shots=(8,), methods=("unimodal",)))
    file = run.path / "refitted.safetensors"
    file.write_bytes(head_bytes(run, run.cells[0]))
    head, first = load_head(file), load_head(run.cells[0].head_path)
    assert head.scale is None  # `shrunk` has one
    assert head.mean is not None
    assert first.mean is not None
    assert head.mean.tolist() != first.mean.tolist()


def test_the_pool_is_what_both_are_fitted_on(scaled: Path, settings_for: Settings) -> None:
    values = {"grid": "auto", "seeds": (1,), "shots": (2,), "methods": ("unimodal",), "normalize_on": "pool"}
    run = train(settings_for(scaled, **values))
    head = load_head(run.cells[0].head_path)
    labels = np.tile(np.arange(5), 36)
    pool = Normalizer.fit("center-l2", torch.from_numpy(_rows(3, labels, "signal")[:40]))
    assert _kinds(run) == {"center-l2"}
    assert head.mean is not None
    assert pool.mean is not None
    np.testing.assert_allclose(head.mean, pool.mean.numpy(), atol=0.02)  # stored as float16


def test_heads_that_are_trained_by_steps_have_no_validated_one(scaled: Path, settings_for: Settings) -> None:
    with pytest.raises(InputError, match="--normalize validated"):
        train(settings_for(scaled, normalize="validated", grid="quick", methods=("unimodal",)))
