"""The head bank against the same models trained one after the other by a plain torch loop.

72 models (the paper's 24 grid points × 3 seeds), 384 → 384, 37 classes, 4 shots, 30 texts per class; the same
number of steps for all, no early stopping, one thread on every side, rivals interleaved model by model.

    python tests/benchmarks/head_bank.py [--steps 300] [--width 384] [--models 72]

Two rivals: `DataLoader` is the usual way (two shuffled loaders, nn.Linear, AdamW, validation every 100
steps); `indexed` replaces the loaders by indexing tensors in memory, which leaves autograd and the optimiser.

The roofline is what a step cannot go below: its AdamW update on vectors of the model's size, and its matrix
products into buffers that are there, each timed alone in the same run, beside the models. The bank's share
of it is that time divided by the bank's.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from uml_train import HeadBank, HeadModel, Samples, load_grid
from uml_train.protocols.grid import Schedule

CLASSES, SHOTS, TEXTS, DIM = 37, 4, 30, 384


def models_of(width: int) -> list[HeadModel]:
    """The grid × 3 seeds over random features with class structure."""
    models = []
    for seed in (1, 2, 3):
        rng = np.random.default_rng(seed)

        def rows(n: int, dim: int, rng: np.random.Generator = rng) -> tuple[Tensor, Tensor]:
            labels = np.repeat(np.arange(CLASSES), n)
            centres = rng.standard_normal((CLASSES, dim))
            features = centres[labels] + rng.standard_normal((len(labels), dim))
            return torch.tensor(features, dtype=torch.float32), torch.tensor(labels)

        image, text, val = rows(SHOTS, DIM), rows(TEXTS, width), rows(SHOTS, DIM)
        models += [
            HeadModel(
                target=Samples(name="image", features=image[0], labels=image[1], projected=True),
                auxiliaries=(Samples(name="text", features=text[0], labels=text[1], projected=False),),
                validation=val,
                classes=CLASSES,
                width=width,
                seed=seed,
                candidate=candidate,
            )
            for candidate in load_grid("paper").candidates
        ]
    return models


class Plain(nn.Module):
    def __init__(self, width: int, learnable_scale: bool) -> None:
        super().__init__()
        self.projection = nn.Linear(DIM, width, bias=False)
        self.head = nn.Linear(width, CLASSES, bias=False)
        self.scales = nn.Parameter(torch.ones(2), requires_grad=learnable_scale)

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(self.projection(image)) * self.scales[0], self.head(text) * self.scales[1]


def loader_batches(model: HeadModel) -> Iterator[tuple[Tensor, ...]]:
    def cycle(features: Tensor, labels: Tensor) -> Iterator[list[Tensor]]:
        data = DataLoader(
            TensorDataset(features, labels), model.candidate.batch_size, shuffle=True, drop_last=True
        )
        return itertools.chain.from_iterable(itertools.repeat(data))

    image = cycle(model.target.features, model.target.labels)
    text = cycle(model.auxiliaries[0].features, model.auxiliaries[0].labels)
    for (x, y), (t, u) in zip(image, text, strict=False):
        yield x, y, t, u


def indexed_batches(model: HeadModel) -> Iterator[tuple[Tensor, ...]]:
    generator = torch.Generator().manual_seed(model.seed)

    def cycle(features: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            order = torch.randperm(len(labels), generator=generator)
            for rows in order.split(model.candidate.batch_size):
                if len(rows) == model.candidate.batch_size:
                    yield features[rows], labels[rows]

    image = cycle(model.target.features, model.target.labels)
    text = cycle(model.auxiliaries[0].features, model.auxiliaries[0].labels)
    for (x, y), (t, u) in zip(image, text, strict=False):
        yield x, y, t, u


def plain_fit(model: HeadModel, schedule: Schedule, batches: Iterator[tuple[Tensor, ...]]) -> None:
    net = Plain(model.width, model.candidate.learnable_scale)
    optimizer = torch.optim.AdamW(
        [p for p in net.parameters() if p.requires_grad], lr=1.0, weight_decay=model.candidate.weight_decay
    )
    best, state = -1.0, {}
    for step, (x, y, t, u) in zip(range(schedule.steps), batches, strict=False):
        image, text = net(x, t)
        loss = nn.functional.cross_entropy(image, y) + nn.functional.cross_entropy(text, u)
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = schedule.lr(model.candidate.lr, step)
        optimizer.step()
        if schedule.evaluates(step):
            with torch.no_grad():
                logits = net.head(net.projection(model.validation[0]))
                accuracy = float((logits.argmax(1) == model.validation[1]).float().mean())
            if accuracy > best:
                best, state = accuracy, {k: v.clone() for k, v in net.state_dict().items()}
    net.load_state_dict(state)


def bound(model: HeadModel, schedule: Schedule) -> float:
    """Seconds of the update and the products of a model's steps, each repeated by itself."""
    size, batch = model.parameters, model.candidate.batch_size
    vectors = [torch.rand(size) for _ in range(4)]
    updates = torch.zeros(())

    def update() -> None:
        torch._fused_adamw_(
            *([v] for v in vectors), [], [updates], lr=1e-3, beta1=0.9, beta2=0.999, weight_decay=0.01,
            eps=1e-8, amsgrad=False, maximize=False,
        )  # fmt: skip

    width = model.width
    x, z, delta = torch.rand(batch, DIM), torch.rand(2 * batch, width), torch.rand(2 * batch, CLASSES)
    projection, head = torch.rand(DIM, width), torch.rand(CLASSES, width)
    d_projection, d_head = torch.empty_like(projection), torch.empty_like(head)
    dz = torch.empty(batch, width)

    def products() -> None:
        torch.mm(x, projection, out=z[:batch])
        torch.mm(z, head.T, out=delta)
        torch.mm(delta.T, z, out=d_head)
        torch.mm(delta[:batch], head, out=dz)
        torch.mm(x.T, dz, out=d_projection)

    seconds = 0.0
    for part in (update, products):
        part()
        began = time.perf_counter()
        for _ in range(schedule.steps):
            part()
        seconds += time.perf_counter() - began
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--models", type=int, default=72, help="the first so many, every n-th of the grid")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    schedule = Schedule(steps=arguments.steps, warmup=50, eval_every=100, patience=10**9)
    models = models_of(arguments.width)
    models = models[:: max(1, len(models) // arguments.models)][: arguments.models]
    warm = replace(schedule, steps=20)
    rivals: dict[str, Callable[[HeadModel], object]] = {
        "bank": lambda m: HeadBank([m], schedule).fit(),
        "DataLoader": lambda m: plain_fit(m, schedule, loader_batches(m)),
        "indexed": lambda m: plain_fit(m, schedule, indexed_batches(m)),
        "roofline": lambda m: bound(m, schedule),
    }
    HeadBank(models[:1], warm).fit()
    plain_fit(models[0], warm, loader_batches(models[0]))
    seconds: dict[tuple[str, int], list[float]] = {}
    for model in models:
        for name, fit in rivals.items():
            began = time.perf_counter()
            measured = fit(model)
            spent = measured if isinstance(measured, float) else time.perf_counter() - began
            seconds.setdefault((name, model.candidate.batch_size), []).append(spent)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    print(f"{len(models)} models × {schedule.steps} steps, {DIM} → {arguments.width}, {CLASSES} classes")
    print(f"{'batch':>5}  {'rival':<11}{'total s':>9}{'µs/step (median)':>18}{'bank is faster':>16}")
    for batch in sorted({batch for _, batch in seconds}):
        ours = seconds["bank", batch]
        for name in rivals:
            theirs = seconds[name, batch]
            per_step = 1e6 * statistics.median(theirs) / schedule.steps
            ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
            print(f"{batch:>5}  {name:<11}{sum(theirs):>9.1f}{per_step:>18.0f}{ratio:>15.2f}×")
    total = {name: sum(sum(v) for (n, _), v in seconds.items() if n == name) for name in rivals}
    for name in ("DataLoader", "indexed"):
        ratio = total[name] / total["bank"]
        print(f"whole grid: bank {total['bank']:.1f} s, {name} {total[name]:.1f} s, ratio {ratio:.2f}×")
    share = 100 * total["roofline"] / total["bank"]
    print(f"share of the roofline (AdamW and products alone, same run): {share:.0f} %")


if __name__ == "__main__":
    main()
