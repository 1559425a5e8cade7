"""The stacked bank on a GPU against one model after the other in plain torch on the same GPU.

72 models (the paper's 24 grid points × 3 seeds), 384 → 3200, 37 and 200 classes, 4 shots, no early stopping.

    python tests/benchmarks/head_bank_gpu.py [--steps 300] [--width 3200] [--precision float32]
    python tests/benchmarks/head_bank_gpu.py --device cpu --steps 3 --width 32 --models 4    # that it starts

It prints model-steps per second, the share of the memory bound of the optimiser's traffic (weights, gradient
and two moments read, all but the gradient written: seven vectors of P numbers a step, at the rate that a
copy of the same size reaches in the same run), the ratio to the plain loop, and the time that 10 data sets ×
5 shots × 3 seeds × 3 methods × the full grid would take at this rate without early stopping. Without a CUDA
device it says so and measures nothing; `--device cpu` runs the same lines to show that they start.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import head_bank
import torch
from torch import Tensor, nn

from uml_train import HeadBank, HeadModel
from uml_train.protocols.grid import Schedule

_PAPER_STEPS = 12_800
_SWEEP = 10 * 5 * 3 * 3 * 24  # models


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def plain_steps(model: HeadModel, schedule: Schedule, device: str) -> float:
    """Seconds of a plain torch loop on the GPU: tensors there, nn.Linear, fused AdamW, autograd."""
    net = head_bank.Plain(model.width, model.candidate.learnable_scale).to(device)
    optimizer = torch.optim.AdamW(
        [p for p in net.parameters() if p.requires_grad],
        weight_decay=model.candidate.weight_decay,
        fused=True,
    )
    streams = [(s.features.to(device), s.labels.to(device)) for s in model.streams]
    wait(device)
    began = time.perf_counter()
    for step in range(schedule.steps):
        batches: list[Tensor] = []
        for features, labels in streams:
            rows = torch.randint(len(labels), (model.candidate.batch_size,), device=device)
            batches += [features[rows], labels[rows]]
        image, text = net(batches[0], batches[2])
        loss = nn.functional.cross_entropy(image, batches[1]) + nn.functional.cross_entropy(text, batches[3])
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = schedule.lr(model.candidate.lr, step)
        optimizer.step()
    wait(device)
    return time.perf_counter() - began


def copy_rate(size: int, device: str) -> float:
    """Bytes a second, read and written together, of copying `size` float32 numbers on the GPU."""
    a, b = torch.rand(size, device=device), torch.empty(size, device=device)
    b.copy_(a)
    wait(device)
    began = time.perf_counter()
    for _ in range(20):
        b.copy_(a)
    wait(device)
    return 20 * 2 * 4 * size / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--width", type=int, default=3200)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--models", type=int, default=72, help="the first so many")
    arguments = parser.parse_args()
    device = arguments.device
    if device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device: nothing was measured")
        return
    schedule = Schedule(steps=arguments.steps, warmup=50, eval_every=100, patience=10**9)
    name = torch.cuda.get_device_name() if device == "cuda" else "no GPU: a trial of the script"
    print(f"{name}, torch {torch.__version__}, {arguments.precision}")
    for classes in (37, 200):
        head_bank.CLASSES = classes
        models = head_bank.models_of(arguments.width)[: arguments.models]
        options = {"device": device, "precision": arguments.precision, "stacked": True}
        HeadBank(models, replace(schedule, steps=20), **options).fit()  # compiles the update
        wait(device)
        began = time.perf_counter()
        HeadBank(models, schedule, **options).fit()
        wait(device)
        spent = time.perf_counter() - began
        plain_steps(models[0], replace(schedule, steps=20), device)
        timed = models[::24]
        plain = sum(plain_steps(m, schedule, device) for m in timed) * len(models) / len(timed)
        parameters = sum(m.parameters for m in models)
        traffic = 7 * 4 * parameters * schedule.steps / copy_rate(parameters, device)
        rate = len(models) * schedule.steps / spent
        share = 100 * traffic / spent
        if device == "cpu":
            print(f"{classes} classes: it runs")
            continue
        print(
            f"{classes} classes: {rate:,.0f} model-steps/s, {share:.0f} % of the memory bound, "
            f"{plain / spent:.1f}× the plain loop ({len(timed)} of {len(models)} models of it timed); "
            f"the paper's sweep: {_SWEEP * _PAPER_STEPS / rate / 3600:.1f} h"
        )


if __name__ == "__main__":
    main()
