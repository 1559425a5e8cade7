"""The bank against a plain torch loop written from the reference's training semantics, and against itself.

N rows, D features, W shared width, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from uml_train.data.batches import batch_rows
from uml_train.heads.bank import HeadBank
from uml_train.heads.models import HeadModel, Samples
from uml_train.heads.weights import class_mean_rows, initial_weights
from uml_train.protocols.grid import Candidate, Schedule

C, W = 6, 16
SCHEDULE = Schedule(steps=120, warmup=10, eval_every=20, patience=3)


def _cloud(seed: int, n: int, dim: int, spread: float = 1.0) -> tuple[Tensor, Tensor]:
    """Noisy class clusters; the centres depend on the width alone, so that parts of a split share them."""
    centres = np.random.default_rng(dim).standard_normal((C, dim))
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % C
    features = centres[labels] + spread * rng.standard_normal((n, dim))
    return torch.tensor(features, dtype=torch.float32), torch.tensor(labels)


def _samples(name: str, seed: int, n: int, dim: int, projected: bool, scale: float = 1.0) -> Samples:
    features, labels = _cloud(seed, n, dim)
    return Samples(name=name, features=features, labels=labels, projected=projected, logit_scale=scale)


def _model(
    kind: str,
    seed: int = 1,
    *,
    ratio: float = 1.0,
    hidden: int = 0,
    balanced: bool = False,
    **candidate: object,
) -> HeadModel:
    settings = {"lr": 3e-3, "weight_decay": 0.01, "batch_size": 8, **candidate}
    target = _samples("image", 10 + seed, 30, 12, projected=kind != "unimodal")
    text = _samples("text", 20, 48, W, projected=False)
    sound = _samples("audio", 30, 5, 7, projected=True)  # fewer rows than a batch: used whole
    auxiliaries = {"uml": (text,), "uml-init": (text,), "uml3": (text, sound)}.get(kind, ())
    head = None
    if kind in ("init-only", "uml-init"):
        head, _ = class_mean_rows(text.features, text.labels, C, seed)
    return HeadModel(
        target=target,
        auxiliaries=auxiliaries,
        validation=_cloud(40, 60, 12, spread=2.0),
        classes=C,
        width=12 if kind == "unimodal" else W,
        seed=seed,
        candidate=Candidate(**settings),
        head=head,
        alpha=0.7,
        ratio=ratio,
        hidden=hidden,
        balanced=balanced,
    )


class _Plain(nn.Module):
    """Projection + shared head as the paper describes them, left to autograd."""

    def __init__(self, model: HeadModel) -> None:
        super().__init__()
        streams = [model.target, *model.auxiliaries]
        start = initial_weights(
            [(s.name, s.features.shape[1], s.projected, s.logit_scale) for s in streams],
            classes=model.classes,
            width=model.width,
            seed=model.seed,
            head=model.head,
            hidden=model.hidden,
        )
        self.trunk = nn.ParameterList([nn.Parameter(part.clone()) for part in start.trunk or ()])
        self.projections = nn.ModuleList()
        for projection in start.projections:
            if projection is None:
                self.projections.append(nn.Identity())
                continue
            layer = nn.Linear(projection.shape[1], projection.shape[0], bias=False)
            layer.weight.data.copy_(projection)
            self.projections.append(layer)
        self.head = nn.Linear(model.width, model.classes, bias=False)
        self.head.weight.data.copy_(start.head)
        self.scales = nn.Parameter(start.scales.clone(), requires_grad=model.candidate.learnable_scale)

    def forward(self, x: Tensor, i: int) -> Tensor:
        z = self.projections[i](x)
        if len(self.trunk):
            z = z + torch.relu(z @ self.trunk[0].T) @ self.trunk[1].T
        return self.head(z) * self.scales[i]


def _plain_fit(model: HeadModel, schedule: Schedule) -> tuple[_Plain, float, int, int]:
    net = _Plain(model)
    optimizer = torch.optim.AdamW(
        [p for p in net.parameters() if p.requires_grad], lr=1.0, weight_decay=model.candidate.weight_decay
    )
    streams = [model.target, *model.auxiliaries]
    orders = [
        batch_rows(
            seed=model.seed,
            name=s.name,
            rows=len(s.labels),
            batch=min(model.candidate.batch_size, len(s.labels)),
            start=0,
            steps=schedule.steps * 4,
            labels=s.labels if model.balanced else None,
        )
        for s in streams
    ]
    best, best_step, waited, state = -1.0, 0, 0, {}
    for step in range(schedule.steps):
        loss = torch.zeros(())
        for i, stream in enumerate(streams):
            if i == 0:
                taken, weight = [step], 1.0
            elif model.ratio >= 1:  # so many batches, one after the other
                times, weight = int(model.ratio), model.alpha
                taken = list(range(times * step, times * (step + 1)))
            else:  # one batch in the first of so many steps
                every, weight = round(1 / model.ratio), model.alpha
                taken = [step // every] if step % every == 0 else []
            for batch in taken:
                rows = orders[i][batch]
                part = nn.functional.cross_entropy(net(stream.features[rows], i), stream.labels[rows])
                loss = loss + weight * part
        optimizer.zero_grad(set_to_none=False)  # a step without auxiliaries still updates their projections
        loss.backward()
        base = model.candidate.lr
        if step == 0:
            lr = 1e-5
        elif step <= schedule.warmup:
            lr = base * step / schedule.warmup
        else:
            lr = base * (1 + math.cos(math.pi * (step - schedule.warmup) / schedule.steps)) / 2
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
        if step % schedule.eval_every == 0 or step == schedule.steps - 1:
            features, labels = model.validation
            with torch.no_grad():
                score = 100.0 * float((net(features, 0).argmax(1) == labels).float().mean())
            if score > best:
                best, best_step, waited = score, step + 1, 0
                state = {k: v.clone() for k, v in net.state_dict().items()}
            else:
                waited += 1
                if waited >= schedule.patience:
                    break
    net.load_state_dict(state)
    return net, best, best_step, step + 1


@pytest.mark.parametrize("learnable_scale", [False, True])
@pytest.mark.parametrize("batch_size", [8, 32])
@pytest.mark.parametrize("kind", ["unimodal", "unimodal-deep", "init-only", "uml", "uml-init", "uml3"])
def test_equals_a_plain_torch_loop(kind: str, batch_size: int, learnable_scale: bool) -> None:
    model = _model(kind, batch_size=batch_size, learnable_scale=learnable_scale)
    net, best, best_step, steps = _plain_fit(model, SCHEDULE)
    (fitted,) = HeadBank([model], SCHEDULE).fit()
    assert (fitted.best_step, fitted.steps) == (best_step, steps)
    assert fitted.val_acc == pytest.approx(best)
    _close(fitted.weights.head, net.head.weight)
    _close(fitted.weights.scales, net.scales)
    for ours, theirs in zip(fitted.weights.projections, net.projections, strict=True):
        if ours is not None:
            _close(ours, theirs.weight)


@pytest.mark.parametrize("learnable_scale", [False, True])
@pytest.mark.parametrize("kind", ["unimodal-deep", "uml-init", "uml3"])
@pytest.mark.parametrize(
    "options",
    [{"ratio": 0.25}, {"ratio": 2.0}, {"hidden": 9}, {"hidden": 9, "ratio": 0.5}, {"balanced": True}],
)
def test_ratios_trunk_and_balance_equal_a_plain_loop(
    kind: str, options: dict[str, Any], learnable_scale: bool
) -> None:
    # 40 is no multiple of the period of auxiliary batches with 3 steps between evaluations.
    schedule = Schedule(steps=40, warmup=3, eval_every=3, patience=100)
    model = _model(kind, learnable_scale=learnable_scale, **options)
    net, best, best_step, _ = _plain_fit(model, schedule)
    (fitted,) = HeadBank([model], schedule).fit()
    assert fitted.best_step == best_step
    assert fitted.val_acc == pytest.approx(best)
    _close(fitted.weights.head, net.head.weight)
    _close(fitted.weights.scales, net.scales)
    for ours, theirs in zip(fitted.weights.trunk or (), net.trunk, strict=True):
        _close(ours, theirs)


def test_balanced_batches_hold_the_classes_in_equal_parts() -> None:
    labels = torch.tensor([0] * 30 + [1] * 5 + [2] * 5)
    rows = batch_rows(seed=1, name="x", rows=40, batch=6, start=0, steps=18, labels=labels)
    assert (torch.bincount(labels[rows].flatten(), minlength=3) == 36).all()


def _close(ours: Tensor, theirs: Tensor) -> None:
    error = float((ours - theirs.detach()).norm() / theirs.detach().norm())
    assert error < 1e-5


def test_a_model_alone_equals_the_same_model_in_a_bank_of_fifty() -> None:
    kinds = ["unimodal", "unimodal-deep", "init-only", "uml", "uml-init", "uml3"]
    models = [
        _model(kinds[i % 6], seed=i % 4, lr=[1e-2, 1e-3][i % 2], batch_size=[8, 32][i // 25])
        for i in range(50)
    ]
    bank = HeadBank(models, SCHEDULE).fit()
    for i in (0, 7, 23, 28, 49):
        (alone,) = HeadBank([models[i]], SCHEDULE).fit()
        assert torch.equal(alone.weights.head, bank[i].weights.head)
        for a, b in zip(alone.weights.projections, bank[i].weights.projections, strict=True):
            assert (a is None and b is None) or torch.equal(a, b)
        assert alone.history == bank[i].history


def test_fixed_logit_scale_is_applied_and_kept() -> None:
    features, labels = _cloud(3, 30, W)
    features = nn.functional.normalize(features, dim=1)
    target = Samples(name="image", features=features, labels=labels, projected=False, logit_scale=100.0)
    model = HeadModel(
        target=target,
        validation=(features, labels),
        classes=C,
        width=W,
        seed=0,
        candidate=Candidate(lr=1e-3, weight_decay=0.0, batch_size=8),
    )
    net, best, *_ = _plain_fit(model, SCHEDULE)
    (fitted,) = HeadBank([model], SCHEDULE).fit()
    _close(fitted.weights.head, net.head.weight)
    assert fitted.val_acc == pytest.approx(best)
    assert fitted.weights.scales.tolist() == [100.0]


def test_the_best_validated_step_is_restored_and_patience_ends_the_training() -> None:
    model = _model("unimodal-deep", lr=5e-2)
    (fitted,) = HeadBank([model], Schedule(steps=400, warmup=5, eval_every=10, patience=2)).fit()
    accuracies = [point["val_acc"] for point in fitted.history]
    assert fitted.steps < 400
    assert fitted.val_acc == max(accuracies)
    first_best = accuracies.index(max(accuracies))
    assert fitted.best_step == fitted.history[first_best]["step"]
    assert len(accuracies) == first_best + 1 + 2
    features, labels = model.validation
    again = 100.0 * float((fitted.weights.logits(features).argmax(1) == labels).float().mean())
    assert again == pytest.approx(fitted.val_acc)


def test_history_reports_the_mean_cross_entropy_of_each_modality() -> None:
    (fitted,) = HeadBank([_model("uml3")], SCHEDULE).fit()
    first = fitted.history[0]
    assert {"loss.image", "loss.text", "loss.audio"} <= first.keys()
    model = _model("uml3")
    net = _Plain(model)
    rows = batch_rows(seed=1, name="text", rows=48, batch=8, start=0, steps=1)[0]
    text = model.auxiliaries[0]
    expected = nn.functional.cross_entropy(net(text.features[rows], 1), text.labels[rows]).item()
    assert first["loss.text"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("stacked", [False, True])
def test_history_holds_the_cosine_of_the_gradients_that_modalities_give_the_head(stacked: bool) -> None:
    model = _model("uml3")
    (fitted,) = HeadBank([model], SCHEDULE, stacked=stacked).fit()
    kept = next(point for point in fitted.history if point["step"] == fitted.best_step)
    gradients = []
    for i, stream in enumerate(model.streams):
        head = fitted.weights.head.clone().requires_grad_()
        space = fitted.weights.space(stream.features, i)
        nn.functional.cross_entropy(fitted.weights.scales[i] * (space @ head.T), stream.labels).backward()
        assert head.grad is not None
        gradients.append(head.grad.flatten())
    for stream, theirs in zip(model.auxiliaries, gradients[1:], strict=True):
        expected = float(torch.cosine_similarity(gradients[0], theirs, dim=0))
        assert kept[f"cos.{stream.name}"] == pytest.approx(expected, abs=1e-5)
    assert "cos.image" not in kept


def test_fit_leaves_the_number_of_threads_as_it_was() -> None:
    before = torch.get_num_threads()
    HeadBank([_model("unimodal")], Schedule(steps=2, warmup=0, eval_every=1, patience=1)).fit()
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: Samples(name="x", features=torch.zeros(3, 2), labels=torch.zeros(2), projected=True),
            "expected",
        ),
        (
            lambda: Samples(name="x", features=torch.zeros(0, 2), labels=torch.zeros(0), projected=True),
            "no rows",
        ),
        (lambda: initial_weights([("x", 3, False, 1.0)], classes=2, width=4, seed=0), "shared width is 4"),
        (
            lambda: initial_weights(
                [("x", 4, False, 1.0)], classes=2, width=4, seed=0, head=torch.zeros(3, 4)
            ),
            "initial head",
        ),
    ],
)
def test_wrong_shapes_are_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
