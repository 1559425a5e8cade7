"""The same cells trained by the plain loop and by the head bank: their test accuracies, paired.

    python tests/benchmarks/head_accuracy.py --cache ./feats [--dataset NAME] [--shots 4] [--steps 400]

Every cell (seed × unimodal-deep, uml) of the `quick` grid's learning rates is trained twice on the same draw:
by the bank, and by nn.Linear, torch's AdamW and autograd with batches in an order of its own and torch's own
starting weights. Both select the candidate and the step on the same validation rows. What differs is chance:
the difference should be no larger than between seeds.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from uml_cache.command import QUIET
from uml_train import HeadBank, HeadModel, TrainSettings
from uml_train.protocols.grid import Grid, Schedule
from uml_train.protocols.named_grids import load_grid
from uml_train.runs.cells import prepare
from uml_train.runs.head_session import open_heads
from uml_train.runs.one_cell import finish
from uml_train.runs.ranks import Ranks
from uml_train.runs.settled.combinations import cells_of


def shuffled(features: Tensor, labels: Tensor, batch: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    batch = min(batch, len(labels))
    while True:
        for rows in torch.randperm(len(labels), generator=generator).split(batch):
            if len(rows) == batch:
                yield features[rows], labels[rows]


def plain_fit(model: HeadModel, schedule: Schedule, test: tuple[Tensor, Tensor]) -> tuple[float, int, float]:
    """Best validation accuracy, its step, and the test accuracy there, of projection + head."""
    torch.manual_seed(model.seed + 1_000)
    target = model.target.features
    assert isinstance(target, Tensor)
    projection = nn.Linear(target.shape[1], model.width, bias=False)
    head = nn.Linear(model.width, model.classes, bias=False)
    parameters = [*projection.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, weight_decay=model.candidate.weight_decay)
    streams = [
        shuffled(s.features, s.labels, model.candidate.batch_size, model.seed * 10 + i)
        for i, s in enumerate(model.streams)
        if isinstance(s.features, Tensor)
    ]

    def accuracy(features: Tensor, labels: Tensor) -> float:
        with torch.no_grad():
            return 100 * float((head(projection(features)).argmax(1) == labels).float().mean())

    best = (-1.0, 0, 0.0)
    waited = 0
    for step in range(schedule.steps):
        loss = torch.zeros(())
        for i, stream in enumerate(streams):
            x, y = next(stream)
            loss = loss + nn.functional.cross_entropy(head(projection(x) if i == 0 else x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = schedule.lr(model.candidate.lr, step)
        optimizer.step()
        if schedule.evaluates(step):
            found = accuracy(*model.validation)  # type: ignore[arg-type]
            if found > best[0]:
                best, waited = (found, step + 1, accuracy(*test)), 0
            else:
                waited += 1
                if waited >= schedule.patience:
                    break
    return best


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--dataset")
    parser.add_argument("--target")
    parser.add_argument("--aux", default="text")
    parser.add_argument("--shots", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=400)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    methods = ("unimodal-deep", "uml")
    settings = TrainSettings(
        cache=arguments.cache, dataset=arguments.dataset, target=arguments.target,
        auxiliaries=((arguments.aux,),), methods=methods,
        shots=(arguments.shots,), seeds=tuple(range(1, arguments.seeds + 1)), loader="device",
    )  # fmt: skip
    session = open_heads(settings, Ranks(), QUIET)
    problem, resolved = session.problem, session.settings
    schedule = Schedule(steps=arguments.steps, warmup=50, eval_every=50, patience=5)
    grid = Grid(name="quick", candidates=load_grid("quick").candidates, schedule=schedule)
    labels = torch.from_numpy(problem.target.labels[problem.test])
    scores: dict[str, list[tuple[float, float]]] = {method: [] for method in methods}
    for cell in cells_of(resolved, problem, settings.shots or ()):
        prepared = prepare(problem, cell, resolved, grid)
        ours = finish(problem, prepared, HeadBank(prepared.models, schedule).fit(), [])
        test = torch.cat([block.values for _, block in prepared.test.blocks()])
        plain = [plain_fit(model, schedule, (test, labels)) for model in prepared.models]
        theirs = max(plain, key=lambda found: (found[0], -found[1]))
        scores[cell.method].append((ours.test_acc, theirs[2]))
    print(f"{problem.dataset}, {problem.target.label}, k = {arguments.shots}, {arguments.seeds} seeds")
    for method, pairs in scores.items():
        a, b = ([pair[side] for pair in pairs] for side in (0, 1))
        differences = [x - y for x, y in pairs]
        error = statistics.stdev(differences) / len(differences) ** 0.5
        print(
            f"{method:<14} bank {statistics.mean(a):5.1f} ± {statistics.stdev(a):.1f}   "
            f"plain {statistics.mean(b):5.1f} ± {statistics.stdev(b):.1f}   "
            f"bank − plain {statistics.mean(differences):+.2f} (standard error {error:.2f})"
        )


if __name__ == "__main__":
    main()
