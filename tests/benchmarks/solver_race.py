"""How soon each way of training a head reaches its best validated accuracy: the solver against three rivals.

For each seed, `unimodal` and `uml` are trained on the same draw, on the same features, one thread a side:

- `solver`: the default grid `fair`, 8 points solved on all rows at once.
- `bank`: the paper's 24 points by AdamW in the head bank, with its early stopping.
- `loop`: the same 24 points by a plain torch loop (DataLoader, nn.Linear, AdamW), as the paper's code trains.
- `LogisticRegressionCV`: scikit-learn's ten strengths, standardised features; `unimodal` alone.

    python tests/benchmarks/solver_race.py TARGET.npz TEXT.npz [--shots 4] [--seeds 3] [--closed-test]

With 3 seeds a rival by AdamW trains 72 models. CPU seconds a seed: of the whole search; of its best point
alone, up to the evaluation that was selected, as if one had known it beforehand; and until any point
validated as well as the solver's selected one (how many seeds got there). Files: as for `textbook.py`.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import PredefinedSplit
from textbook import POINTS, Data, draw, read
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from uml_train import Candidate, HeadBank, HeadModel, Normalizer, Samples, load_grid
from uml_train.fullbatch.search import select, solve
from uml_train.protocols.grid import Schedule

PAPER = load_grid("paper")
Rows = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Seen:
    """An evaluation: seconds since the search and since its point began, accuracies in %."""

    search: float
    point: float
    val: float
    test: float


def model_of(data: Data, method: str, rows: Rows, seed: int) -> tuple[HeadModel, tuple[Tensor, Tensor]]:
    """The model of a cell, and the test rows normalised as its training rows are."""
    train, val, test = rows
    normalize = Normalizer.fit("shrunk", data.x[train])
    x, xv, xt = (normalize(data.x[r]) for r in rows)
    auxiliaries: tuple[Samples, ...] = ()
    width = data.x.shape[1]
    if method == "uml":
        assert data.text is not None
        assert data.words is not None
        text = Normalizer.fit("shrunk", data.text)(data.text)
        auxiliaries = (Samples(name="text", features=text, labels=data.words, projected=False),)
        width = text.shape[1]
    model = HeadModel(
        target=Samples(name="image", features=x, labels=data.y[train], projected=method == "uml"),
        auxiliaries=auxiliaries,
        validation=(xv, data.y[val]),
        classes=data.classes,
        width=width,
        seed=seed,
        candidate=Candidate(lr=0.0, weight_decay=0.0, batch_size=1),
    )
    return model, (xt, data.y[test])


def accuracy(logits: Tensor, labels: Tensor) -> float:
    return 100.0 * float((logits.argmax(1) == labels).float().mean())


def by_solver(model: HeadModel, test: tuple[Tensor, Tensor]) -> list[Seen]:
    began = time.process_time()
    fitted = solve(model, POINTS)
    chosen = fitted[select(POINTS, fitted)]
    weights = chosen.weights
    spent = time.process_time() - began
    return [Seen(spent, spent, chosen.val_acc, accuracy(weights.logits(test[0]), test[1]))]


def by_bank(model: HeadModel, test: tuple[Tensor, Tensor]) -> list[Seen]:
    """One evaluation a point, its best; time within a point goes evenly over its steps."""
    seen, search = [], 0.0
    for candidate in PAPER.candidates:
        began = time.process_time()
        (fitted,) = HeadBank([replace(model, candidate=candidate)], PAPER.schedule).fit()
        spent = time.process_time() - began
        part = spent * fitted.best_step / fitted.steps
        found = accuracy(fitted.weights.logits(test[0]), test[1])
        seen.append(Seen(search + part, part, fitted.val_acc, found))
        search += spent
    return [*seen, Seen(search, spent, -1.0, 0.0)]


def endless(samples: Samples, batch: int) -> Iterator[list[Tensor]]:
    assert isinstance(samples.features, Tensor)
    data = TensorDataset(samples.features, samples.labels)
    while True:
        yield from DataLoader(data, min(batch, len(data)), shuffle=True, drop_last=True)


def by_loop(model: HeadModel, test: tuple[Tensor, Tensor]) -> list[Seen]:
    """Every evaluation of every point that is better than those before it."""
    seen: list[Seen] = []
    search = 0.0
    for candidate in PAPER.candidates:
        torch.manual_seed(model.seed)
        spent = 0.0
        for spent, val, found in loop(replace(model, candidate=candidate), PAPER.schedule, test):
            seen.append(Seen(search + spent, spent, val, found))
        search += spent
    return [*seen, Seen(search, spent, -1.0, 0.0)]


def loop(
    model: HeadModel, schedule: Schedule, test: tuple[Tensor, Tensor]
) -> Iterator[tuple[float, float, float]]:
    """Seconds, validation and test accuracy at every better evaluation, then once more when it stops."""
    candidate = model.candidate
    projected = model.target.projected
    bottom = nn.Linear(model.target.dim, model.width, bias=False) if projected else nn.Identity()
    head = nn.Linear(model.width, model.classes, bias=False)
    scales = nn.Parameter(torch.ones(len(model.streams)), requires_grad=candidate.learnable_scale)
    trained = [p for p in (*bottom.parameters(), *head.parameters(), scales) if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, weight_decay=candidate.weight_decay)
    streams = [endless(s, candidate.batch_size) for s in model.streams]
    best, waited, looked = -1.0, 0, 0.0
    began = time.process_time()
    for step in range(schedule.steps):
        loss = torch.zeros(())
        for i, stream in enumerate(streams):
            x, y = next(stream)
            logits = head(bottom(x) if i == 0 else x) * scales[i]
            loss = loss + nn.functional.cross_entropy(logits, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = schedule.lr(candidate.lr, step)
        optimizer.step()
        if not schedule.evaluates(step):
            continue
        with torch.no_grad():
            found = accuracy(head(bottom(model.validation[0])), model.validation[1])
            spent = time.process_time() - began - looked
            if found > best:
                best, waited = found, 0
                yield spent, found, accuracy(head(bottom(test[0])), test[1])
                looked = time.process_time() - began - spent  # test rows cost the rival nothing
            else:
                waited += 1
        if waited >= schedule.patience:
            break
    yield time.process_time() - began - looked, -1.0, 0.0


def by_scikit(data: Data, rows: Rows) -> list[Seen]:
    train, val, test = rows
    normalize = Normalizer.fit("standard", data.x[train])
    both = np.concatenate([train, val])
    split = PredefinedSplit(np.repeat([-1, 0], [len(train), len(val)]))
    began = time.process_time()
    fitted = LogisticRegressionCV(cv=split, max_iter=300, refit=True)
    fitted.fit(normalize(data.x[both]).double().numpy(), data.y[both])
    spent = time.process_time() - began
    val_acc = 100.0 * max(float(np.max(s)) for s in fitted.scores_.values())
    score = 100.0 * fitted.score(normalize(data.x[test]).double().numpy(), data.y[test])
    return [Seen(spent, spent, val_acc, score)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("target", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--shots", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--closed-test", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for path in (options.target, options.text):
        if not path.is_file():
            print(f"{path} is not there: skipped")
            return
    data = read(options.target, options.text, options.closed_test)
    print(f"{data.name}: {data.classes} classes, k = {options.shots}, {options.seeds} seeds", end=", ")
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(
        "| method | by | validation, % | test, % | search, s | best point alone, s | as good as solver, s |"
    )
    print("|---|---|---|---|---|---|---|")
    for method in ("unimodal", "uml"):
        found: dict[str, list[list[Seen]]] = {}
        for seed in range(1, options.seeds + 1):
            rows = draw(data, options.shots, seed)
            model, test = model_of(data, method, rows, seed)
            if seed == 1:
                by_solver(model, test)  # the first call loads what later ones have
            sides: dict[str, Callable[[], list[Seen]]] = {
                "solver": partial(by_solver, model, test),
                "bank": partial(by_bank, model, test),
                "loop": partial(by_loop, model, test),
            }
            if method == "unimodal":
                sides["LogisticRegressionCV"] = partial(by_scikit, data, rows)
            for name, side in sides.items():
                found.setdefault(name, []).append(side())
        for name, runs in found.items():
            print(line(method, name, runs, [run[0].val for run in found["solver"]]), flush=True)


def line(method: str, name: str, runs: list[list[Seen]], wanted: list[float]) -> str:
    """One row of the table, means over seeds."""
    best = [max(run, key=lambda s: s.val) for run in runs]
    reached = [
        min(s.search for s in run if s.val >= level - 1e-6)
        for run, level in zip(runs, wanted, strict=True)
        if any(s.val >= level - 1e-6 for s in run)
    ]
    val, test, search, alone = (
        float(np.mean(values))
        for values in (
            [s.val for s in best], [s.test for s in best], [run[-1].search for run in runs],
            [s.point for s in best],
        )
    )  # fmt: skip
    soon = (
        f"{np.mean(reached):.2f} ({len(reached)} of {len(runs)})" if reached else f"never (0 of {len(runs)})"
    )
    return f"| `{method}` | {name} | {val:.1f} | {test:.1f} | {search:.2f} | {alone:.2f} | {soon} |"


if __name__ == "__main__":
    main()
