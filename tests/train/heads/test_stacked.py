"""The stacked bank, whose code is CUDA's, on the CPU: against one model at a time, and against itself."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from uml_train import HeadBank, HeadModel, Samples, TrainSettings, train
from uml_train.heads.adamw import adamw
from uml_train.heads.models import Fitted
from uml_train.heads.stacks import bytes_of, stacks
from uml_train.heads.weights import class_mean_rows
from uml_train.protocols.grid import Candidate, Schedule
from uml_train.runs.workers import run_grid, train_together
from uml_train.training import open_run_problem

C, W = 5, 12
SCHEDULE = Schedule(steps=45, warmup=5, eval_every=7, patience=100)
# Sums in another order: relative to the size of the weights, after 45 steps.
TOLERANCE = 2e-4


def _cloud(seed: int, n: int, dim: int) -> tuple[Tensor, Tensor]:
    centres = np.random.default_rng(dim).standard_normal((C, dim))
    labels = np.arange(n) % C
    features = centres[labels] + np.random.default_rng(seed).standard_normal((n, dim))
    return torch.tensor(features, dtype=torch.float32), torch.tensor(labels)


_TEXT = _cloud(2, 40, W)
_SOUND = _cloud(3, 21, 7)
_DRAWS = {shots: (_cloud(10 + shots, shots * C, 9), _cloud(20 + shots, shots * C, 9)) for shots in (3, 6)}


def _model(kind: str, shots: int = 3, seed: int = 1, **options: Any) -> HeadModel:
    (features, labels), validation = _DRAWS[shots]
    text = Samples(name="text", features=_TEXT[0], labels=_TEXT[1], projected=False)
    sound = Samples(name="audio", features=_SOUND[0], labels=_SOUND[1], projected=True)
    names = {"alpha": 0.7, "ratio": 1.0, "hidden": 0, "balanced": False}
    candidate = {"lr": 3e-3, "weight_decay": 0.01, "batch_size": 8}
    for key, value in options.items():
        (names if key in names else candidate)[key] = value
    head = class_mean_rows(*_TEXT, C, seed)[0] if kind == "uml-init" else None
    return HeadModel(
        target=Samples(name="image", features=features, labels=labels, projected=kind != "unimodal"),
        auxiliaries={"uml": (text,), "uml-init": (text,), "uml3": (text, sound)}.get(kind, ()),
        validation=validation,
        classes=C,
        width=9 if kind == "unimodal" else W,
        seed=seed,
        candidate=Candidate(**candidate),
        head=head,
        **names,
    )


def _mixed_bank() -> list[HeadModel]:
    """Methods, draws, rates, decays, alphas, ratios, trunks and learnt scales, as a sweep has them."""
    models = []
    for shots in (3, 6):
        for kind in ("unimodal", "unimodal-deep", "uml", "uml-init", "uml3"):
            models += [
                _model(kind, shots, lr=1e-2, weight_decay=0.1),
                _model(kind, shots, 2, batch_size=4, alpha=0.2),
                _model(kind, shots, learnable_scale=True),
            ]
        models += [
            _model("uml3", shots, ratio=0.5),
            _model("uml", shots, ratio=2.0, learnable_scale=True),
            _model("uml3", shots, hidden=6, balanced=True),
        ]
    return models


def _same(a: Fitted, b: Fitted, tolerance: float) -> None:
    assert (a.best_step, a.steps) == (b.best_step, b.steps)
    assert a.val_acc == pytest.approx(b.val_acc)
    for x, y in zip(_tensors(a), _tensors(b), strict=True):
        assert float((x - y).norm()) <= tolerance * float(y.norm()) + 1e-7
    for ours, theirs in zip(a.history, b.history, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-3)


def _tensors(fitted: Fitted) -> list[Tensor]:
    w = fitted.weights
    return [w.head, w.scales, *(p for p in w.projections if p is not None), *(w.trunk or ())]


def test_equals_one_model_at_a_time() -> None:
    models = _mixed_bank()
    alone = HeadBank(models, SCHEDULE).fit()
    together = HeadBank(models, SCHEDULE, stacked=True).fit()
    for a, b in zip(together, alone, strict=True):
        _same(a, b, TOLERANCE)


def test_finished_models_leave_and_the_rest_goes_on_unchanged() -> None:
    schedule = Schedule(steps=200, warmup=5, eval_every=5, patience=2)
    models = [_model("uml", 6, seed, lr=lr) for seed in (1, 2, 3) for lr in (3e-2, 3e-3, 3e-4)]
    order: list[int] = []
    together = HeadBank(models, schedule, stacked=True).fit(lambda i, _: order.append(i))
    alone = HeadBank(models, schedule).fit()
    assert len({f.steps for f in together}) > 1  # they did not leave all at once
    assert [together[i].steps for i in order] == sorted(f.steps for f in together)
    for a, b in zip(together, alone, strict=True):
        _same(a, b, 1e-3)


def test_a_bank_larger_than_memory_is_cut_and_gives_the_same() -> None:
    models = [_model("uml", 6, seed, lr=lr) for seed in (1, 2) for lr in (1e-2, 1e-3, 1e-4)]
    memory = 2 * bytes_of(models[0])
    assert sorted(map(len, stacks(models, [SCHEDULE] * 6, memory))) == [2, 2, 2]
    assert stacks(models, [SCHEDULE] * 6, 1) == [[i] for i in range(6)]  # too small for one: one all the same
    cut = HeadBank(models, SCHEDULE, stacked=True, memory=memory).fit()
    for a, b in zip(cut, HeadBank(models, SCHEDULE, stacked=True).fit(), strict=True):
        _same(a, b, TOLERANCE)


def test_bytes_count_what_a_model_holds() -> None:
    model = _model("uml", learnable_scale=True)
    weights = model.start()
    assert model.parameters == len(weights.flatten(scales=True))
    assert _model("uml3", hidden=6).parameters == len(_model("uml3", hidden=6).start().flatten(scales=False))
    assert bytes_of(model) > 4 * 4 * model.parameters


def test_each_model_has_its_own_schedule() -> None:
    models = [_model("uml"), _model("uml")]
    short = Schedule(steps=9, warmup=2, eval_every=3, patience=50)
    together = HeadBank(models, [SCHEDULE, short], stacked=True).fit()
    alone = HeadBank(models, [SCHEDULE, short]).fit()
    assert [f.steps for f in together] == [45, 9]
    for a, b in zip(together, alone, strict=True):
        _same(a, b, TOLERANCE)
    with pytest.raises(ValueError, match="1 schedules for 2 models"):
        HeadBank(models, [short])


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_products_train_float32_weights(precision: str) -> None:
    models = [_model("uml3", 6, hidden=6), _model("uml-init", 6), _model("unimodal", 6, learnable_scale=True)]
    half = HeadBank(models, SCHEDULE, stacked=True, precision=precision).fit()
    for a, b in zip(half, HeadBank(models, SCHEDULE, stacked=True).fit(), strict=True):
        assert all(part.dtype == torch.float32 for part in _tensors(a))
        last, full = a.history[-1], b.history[-1]
        assert last["loss.image"] == pytest.approx(full["loss.image"], rel=0.05)
        assert last["loss.image"] != full["loss.image"]


def test_update_is_torchs_adamw_with_each_models_own_rate_and_decay() -> None:
    torch.manual_seed(0)
    flat, grads = torch.randn(3, 20), torch.randn(4, 3, 20)
    lr, decay = torch.tensor([[1e-2], [1e-3], [1e-1]]), torch.tensor([[0.0], [0.1], [0.01]])
    ours, m1, m2 = flat.clone(), torch.zeros(3, 20), torch.zeros(3, 20)
    for step, grad in enumerate(grads):
        c1, c2 = torch.tensor(1 - 0.9 ** (step + 1)), torch.tensor(1 - 0.999 ** (step + 1)).sqrt()
        adamw(ours, 4 * grad, m1, m2, lr, decay, c1, c2, torch.tensor(0.25))
    for m in range(3):
        theirs = flat[m].clone().requires_grad_()
        optimizer = torch.optim.AdamW([theirs], lr=float(lr[m]), weight_decay=float(decay[m]))
        for grad in grads:
            theirs.grad = grad[m]
            optimizer.step()
        torch.testing.assert_close(ours[m], theirs.detach(), rtol=1e-4, atol=1e-6)


def test_a_run_trained_together_is_the_run_trained_cell_by_cell(
    cache: Path, settings_for: Callable[..., TrainSettings], tmp_path: Path
) -> None:
    run = train(settings_for(cache, auxiliaries=(("text",),), alpha=(0.5, 1.0)))
    before = {r.cell: r for r in run.cells}
    shutil.rmtree(run.path / "cells")
    (run.path / "cells").mkdir()
    problem = open_run_problem(run)
    remarks = list(train_together(run, problem, run_grid(run), list(before), device="cpu"))
    assert len(remarks) == len(before)
    for result in run.cells:
        then = before[result.cell]
        assert (result.val_acc, result.best_step) == (pytest.approx(then.val_acc), then.best_step)
        agree = (result.test_predictions == then.test_predictions).mean()
        assert agree > 0.98  # rounding may turn a row that lies between two classes


@pytest.mark.slow
def test_compiled_update_is_the_eager_one() -> None:
    if shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler on the CPU")
    script = """
import torch
from uml_train.heads.adamw import adamw, compiled_update
torch.manual_seed(0)
for m in (4, 3):
    flat, grad = torch.randn(m, 50), torch.randn(m, 50)
    rest = (torch.full((m, 1), 1e-2), torch.full((m, 1), 0.1), *(torch.tensor(x) for x in (0.1, 0.03, 1.0)))
    a = [flat.clone(), grad, torch.zeros(m, 50), torch.zeros(m, 50)]
    b = [x.clone() for x in a]
    adamw(*a, *rest)
    compiled_update()(*b, *rest)
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-6)

from uml_train import HeadBank, HeadModel, Samples, stacked
from uml_train.protocols.grid import Candidate, Schedule
x, y = torch.randn(12, 6), torch.arange(12) % 3
samples = Samples(name="image", features=x, labels=y, projected=True)
models = [
    HeadModel(target=samples, validation=(x, y), classes=3, width=5, seed=seed,
              candidate=Candidate(lr=lr, weight_decay=0.01, batch_size=4))
    for seed in (1, 2) for lr in (0.1, 0.001)
]
schedule = Schedule(steps=40, warmup=3, eval_every=5, patience=2)  # models leave at different times
eager = HeadBank(models, schedule, stacked=True).fit()
stacked.update_for = lambda device: compiled_update()
for a, b in zip(eager, HeadBank(models, schedule, stacked=True).fit(), strict=True):
    assert (a.best_step, a.steps) == (b.best_step, b.steps)
    torch.testing.assert_close(a.weights.head, b.weights.head, rtol=1e-4, atol=1e-5)
assert len({f.steps for f in eager}) > 1
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_as_on_the_cpu() -> None:
    models = _mixed_bank()
    alone = HeadBank(models, SCHEDULE).fit()
    for a, b in zip(HeadBank(models, SCHEDULE, device="cuda").fit(), alone, strict=True):
        _same(a, b, 1e-3)
