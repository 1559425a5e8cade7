"""Do channels-last and torch.compile pay? The training step of a network, plain and so, on the CPU.

    OMP_NUM_THREADS=1 python tests/benchmarks/finetune_layouts.py --rounds 6

The sides take turns; medians of processor seconds (children's included) are given, so that other work on the
machine moves them little. `--compile` adds the compiled side, whose first step takes minutes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import timm
import torch

# name, pixels, batch, further arguments of timm
NETWORKS: list[tuple[str, int, int, dict[str, int]]] = [
    ("vit_tiny_patch16_224", 32, 32, {"img_size": 32, "patch_size": 8}),
    ("resnet18", 64, 16, {}),
    ("resnet50", 64, 8, {}),
    ("convnext_atto", 64, 16, {}),
]


def spent() -> float:
    """Processor seconds of this process and its children."""
    return sum(os.times()[:4])


def stepper(
    network: Callable[..., torch.Tensor], images: torch.Tensor, module: torch.nn.Module
) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4)
    labels = torch.arange(len(images)) % 10

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--only", help="one network's name")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name, pixels, batch, arguments in NETWORKS:
        if given.only not in (None, name):
            continue
        sides: dict[str, tuple[Callable[[], None], list[float]]] = {}
        for side in ("plain", "channels-last", *(["compiled"] if given.compile else [])):
            torch.manual_seed(0)
            module = timm.create_model(name, num_classes=10, **arguments).train()
            images = torch.randn(batch, 3, pixels, pixels)
            if side == "channels-last":
                module.to(memory_format=torch.channels_last)
            step = stepper(torch.compile(module) if side == "compiled" else module, images, module)
            began, wall = spent(), time.perf_counter()
            step()
            print(
                f"{name} {side}: first step {spent() - began:.1f} CPU s, {time.perf_counter() - wall:.1f} s"
            )
            sides[side] = (step, [])
        for _ in range(given.rounds):
            for step, seconds in sides.values():
                began = spent()
                step()
                step()
                seconds.append((spent() - began) / 2)
        base = statistics.median(sides["plain"][1])
        for side, (_, seconds) in sides.items():
            middle = statistics.median(seconds)
            print(f"{name} {side}: {1000 * middle:.0f} ms CPU a step, {base / middle:.2f} times as fast")


if __name__ == "__main__":
    main()
