"""Does reading keep up with training? Pictures a second of decoding alone, of the bare step, of both.

    OMP_NUM_THREADS=1 python tests/benchmarks/finetune_throughput.py --workers 1 --rounds 3

Two networks: a tiny one, which has to reach 80 % of decoding alone with the same workers, and a ViT-S/14 at
224 pixels, which has to reach 95 % of the bare training step (batches ready in memory). The sides take turns
within every round; medians are given, with the machine's load beside them. On a CUDA device ViT-S/14 and
ViT-B/14 are measured in bfloat16; without one that part says that it did not run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from uml_extract import Trainable, load_trainable
from uml_manifests import Manifest, resolve_data
from uml_train.finetune.network.backbones import Backbone
from uml_train.finetune.network.steps import Tuner
from uml_train.finetune.network.whole_network import TunedStream, TuningTask, moved
from uml_train.finetune.samples import Loader
from uml_train.heads.models import HeadModel, Samples
from uml_train.protocols.grid import Candidate, Schedule

CLASSES = 10


def put_pictures(folder: Path, count: int, size: int) -> Manifest:
    """JPEG pictures of smooth noise, which decode as photographs do."""
    generator = np.random.default_rng(0)
    for i in range(count):
        part = folder / f"class{i % CLASSES}"
        part.mkdir(parents=True, exist_ok=True)
        rough = Image.fromarray(generator.integers(0, 255, (size // 8, size // 8, 3), dtype=np.uint8))
        rough.resize((size, size), Image.Resampling.BICUBIC).save(part / f"{i}.jpg", quality=90)
    return resolve_data(folder)


class Race:
    """One network over one set of pictures: what it does alone, what reading does alone, both."""

    def __init__(
        self, encoder: Trainable, manifest: Manifest, *, workers: int, batch: int, device: str, precision: str
    ) -> None:
        self.batch, self.manifest = batch, manifest
        self.loader = Loader(manifest, encoder, views="random-crop", workers=workers)
        width = int(encoder.spec.width or 0)
        rows = np.arange(len(manifest))
        labels = torch.from_numpy(manifest.labels.astype(np.int64))
        target = Samples(
            name="image", features=torch.empty(len(rows), width, device="meta"), labels=labels, projected=True
        )
        model = HeadModel(
            target=target,
            validation=(torch.empty(0, width, device="meta"), labels[:0]),
            classes=CLASSES,
            width=width,
            seed=0,
            candidate=Candidate(lr=5e-5, weight_decay=0.01, batch_size=batch),
        )
        stream = TunedStream(backbone=Backbone(encoder), loader=self.loader, rows=rows)
        schedule = Schedule(steps=1_000_000, warmup=1, eval_every=1_000_000, patience=1)
        task = TuningTask(model=model, streams=[stream], validation=rows[:0])
        self.tuner = Tuner(task, schedule, device=device, precision=precision)
        self.tuner._set_frozen(True, evaluated=False)
        self.cuda = device == "cuda"
        self.ready = moved(next(self.inputs()), torch.device(device))

    def inputs(self) -> Iterator[Any]:
        """Batches from the first training step on."""
        planned = self.tuner.order.target(1)
        return self.loader.batches(planned)

    def step(self, number: int, source: Iterator[Any]) -> None:
        self.tuner._step(number, [source])
        if self.cuda:
            torch.cuda.synchronize()

    def decoding(self, steps: int) -> float:
        """Pictures a second of reading alone."""
        source = self.inputs()
        next(source)
        return self._rate(steps, lambda number: next(source))

    def bare(self, steps: int) -> float:
        """Pictures a second of the step alone."""
        source = iter(lambda: self.ready, None)
        self.step(1, source)
        return self._rate(steps, lambda number: self.step(number, source))

    def both(self, steps: int) -> float:
        """Pictures a second of training."""
        source = self.inputs()
        self.step(1, source)
        return self._rate(steps, lambda number: self.step(number, source))

    def _rate(self, steps: int, work: Callable[[int], object]) -> float:
        began = time.perf_counter()
        for number in range(2, steps + 2):
            work(number)
        return steps * self.batch / (time.perf_counter() - began)


def measure(name: str, race: Race, rounds: int, steps: dict[str, int]) -> dict[str, float]:
    """Medians of interleaved rounds, printed with their spread and the load."""
    found: dict[str, list[float]] = {side: [] for side in steps}
    load = os.getloadavg()[0]
    with race.loader:
        for _ in range(rounds):
            for side, count in steps.items():
                found[side].append(getattr(race, side)(count))
    for side, values in found.items():
        low, high = min(values), max(values)
        print(f"{name:9s} {side:9s} {statistics.median(values):9.1f} pictures/s  ({low:.1f} – {high:.1f})")
    print(f"{name:9s} load {load:.1f} before, {os.getloadavg()[0]:.1f} after")
    return {side: statistics.median(values) for side, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20, help="of the tiny network; a tenth of ViT-S/14")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--pixels", type=int, default=320, help="width and height of the pictures' files")
    given = parser.parse_args()
    tiny = {"embed_dim": 16, "depth": 1, "num_heads": 1}
    with tempfile.TemporaryDirectory() as folder:
        manifest = put_pictures(Path(folder) / "pictures", 512, given.pixels)
        import timm
        from timm.models import save_for_hf

        network = timm.create_model("vit_tiny_patch16_224", num_classes=0, patch_size=32, **tiny)
        save_for_hf(network, f"{folder}/tiny", safe_serialization=True)
        common = {"workers": given.workers, "device": "cpu", "precision": "float32"}
        encoder = load_trainable(f"{folder}/tiny", device="cpu")
        race = Race(encoder, manifest, batch=given.batch, **common)
        sides = dict.fromkeys(("decoding", "both", "bare"), given.steps)
        rates = measure("tiny", race, given.rounds, sides)
        print(f"tiny: {rates['both'] / rates['decoding']:.2f} of decoding alone (wanted: 0.80)")
        small = "timm:vit_small_patch14_dinov2"
        encoder = load_trainable(small, img_size=224, untrained=True, device="cpu")
        race = Race(encoder, manifest, batch=min(given.batch, 8), **common)
        sides = {side: max(2, given.steps // 10) for side in ("both", "bare")}
        rates = measure("ViT-S/14", race, given.rounds, sides)
        print(f"ViT-S/14: {rates['both'] / rates['bare']:.2f} of the bare step (wanted: 0.95)")
        if not torch.cuda.is_available():
            print("CUDA: there is no device, so this part did not run")
            return
        common = {"workers": max(given.workers, 12), "device": "cuda", "precision": "bfloat16"}
        for name in (small, "timm:vit_base_patch14_dinov2"):
            encoder = load_trainable(name, img_size=224, untrained=True, device="cpu")
            race = Race(encoder, manifest, batch=64, **common)
            label = "ViT-S/14" if "small" in name else "ViT-B/14"
            rates = measure(label, race, given.rounds, dict.fromkeys(("decoding", "both", "bare"), 40))
            print(f"{label} on CUDA: {rates['both'] / rates['bare']:.2f} of the bare step")


if __name__ == "__main__":
    main()
