"""The CUDA paths that `gpu_all.py` runs: each once on the device and once on the CPU, and its bound.

Shapes: M models, P parameters of a model, N rows, D features, B samples of a batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import head_bank
import numpy as np
import torch
from finetune_throughput import put_pictures
from head_bank_gpu import copy_rate, wait

from uml_cache import Sampler, import_features, make_loader, open_features
from uml_extract import extract, load_encoder, read_image
from uml_extract.encoding.batching import LARGEST, encode_batch, probe_batch_size
from uml_manifests import Manifest
from uml_train import HeadBank
from uml_train.heads.adamw import adamw, compiled_update
from uml_train.pretrain.network.shared_transformer import TransformerConfig
from uml_train.protocols.grid import Schedule


@dataclass(frozen=True)
class Size:
    """How large everything is: for a GPU, or small, to see that it runs."""

    models: int
    width: int
    steps: int
    rows: int
    pictures: int
    pixels: int
    encoder: dict[str, Any]  # arguments of a timm vision transformer
    batch: int
    transformer: TransformerConfig
    length: int  # of a sequence


LARGE = Size(72, 3200, 300, 400_000, 2048, 320, {}, 64,
             TransformerConfig(width=256, layers=4, heads=4, dropout=0.0), 77)  # fmt: skip
SMALL = Size(3, 16, 3, 600, 12, 48, {"embed_dim": 16, "depth": 1, "num_heads": 1, "patch_size": 32}, 4,
             TransformerConfig(width=8, layers=1, heads=2, dropout=0.0), 7)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where it runs, how large, and a folder for files."""

    device: str
    size: Size
    folder: Path

    @property
    def cuda(self) -> bool:
        return self.device == "cuda"


@dataclass(frozen=True)
class Outcome:
    """What one path gave: its largest difference to the CPU, and its rate beside what bounds it.

    Args:
        difference, allowed: relative to the CPU's numbers; beyond `allowed` the path is wrong.
        rate, bound: in `unit`; None where the path has no rate of its own.
        by: what the bound is: memory traffic, the bus, products, the decoder.
    """

    difference: float
    allowed: float
    rate: float | None = None
    bound: float | None = None
    unit: str = ""
    by: str = ""


def apart(found: Any, wanted: Any) -> float:
    """Length of the difference over the length of what was wanted."""
    a, b = (torch.as_tensor(x).detach().cpu().double() for x in (found, wanted))
    return float((a - b).norm() / b.norm().clamp(min=1e-12))


def seconds(place: Place, work: Callable[[], object], times: int) -> float:
    """Of one call, after one that warms up."""
    work()
    wait(place.device)
    began = time.perf_counter()
    for _ in range(times):
        work()
    wait(place.device)
    return (time.perf_counter() - began) / times


def stacked_bank(place: Place) -> Outcome:
    """Stacked models on the device against one by one on the CPU; a step moves seven vectors of P."""
    size = place.size
    models = head_bank.models_of(size.width)[: size.models]
    short = Schedule(steps=20, warmup=2, eval_every=10, patience=10**9)
    alone = HeadBank(models[:3], short).fit()
    together = HeadBank(models[:3], short, device=place.device, stacked=True).fit()
    difference = max(
        apart(a.weights.head, b.weights.head) for a, b in zip(together, alone, strict=True)
    )  # the first fit compiles the update, too
    schedule = replace(short, steps=size.steps)
    began = time.perf_counter()
    HeadBank(models, schedule, device=place.device, stacked=True).fit()
    wait(place.device)
    spent = time.perf_counter() - began
    parameters = sum(model.parameters for model in models)
    bound = copy_rate(parameters, place.device) / (7 * 4 * parameters / len(models))
    rate = len(models) * size.steps / spent
    return Outcome(difference, 1e-3, rate, bound, "model-steps/s", "memory traffic")


def half_precision_bank(place: Place) -> Outcome:
    """The same bank with products in bfloat16; weights stay float32."""
    models = head_bank.models_of(place.size.width)[:3]
    short = Schedule(steps=20, warmup=2, eval_every=10, patience=10**9)
    alone = HeadBank(models, short).fit()
    found = HeadBank(models, short, device=place.device, stacked=True, precision="bfloat16").fit()
    return Outcome(
        max(apart(a.weights.head, b.weights.head) for a, b in zip(found, alone, strict=True)), 5e-2
    )


def compiled_adamw(place: Place) -> Outcome:
    """torch.compile's update against the eager one, (M, P) each: four vectors read, three written."""
    m, p = place.size.models, place.size.width * 400
    flat, grad = (torch.randn(m, p, device=place.device) for _ in range(2))
    state = [torch.zeros(m, p, device=place.device) for _ in range(2)]
    rest = [torch.full((m, 1), x, device=place.device) for x in (1e-2, 0.1)]
    rest += [torch.tensor(x, device=place.device) for x in (0.1, 0.03, 1.0)]
    eager, fused = ([flat.clone(), grad, *(s.clone() for s in state)] for _ in range(2))
    adamw(*eager, *rest)
    update = compiled_update()
    update(*fused, *rest)
    difference = max(apart(a, b) for a, b in zip(fused, eager, strict=True))
    spent = seconds(place, lambda: update(*fused, *rest), 20)
    return Outcome(difference, 1e-5, 7 * 4 * m * p / spent / 1e9,
                   copy_rate(m * p, place.device) / 1e9, "GB/s", "memory traffic")  # fmt: skip


def loader(place: Place, kind: str) -> Outcome:
    """Batches of one loader against the file's rows, exactly; pooled, an epoch in random order."""
    rows, dim = place.size.rows, 384
    values = np.random.default_rng(0).standard_normal((rows, dim), dtype=np.float32).astype(np.float16)
    source = place.folder / "rows.npz"
    if not source.exists():
        np.savez(source, features=values, labels=np.arange(rows) % 10, ids=np.arange(rows).astype(str))
    names = {"dataset": "rows", "modality": "image", "encoder": "drawn"}
    features = open_features(import_features([source], place.folder / "feats", **names).path)
    sampler = Sampler(rows=features.rows(), batch_size=min(1024, rows // 4), seed=3)
    made = make_loader(features, sampler, device=place.device, kind=kind)
    wrong = 0.0
    for batch in made.epoch(0):
        wrong = max(wrong, apart(batch.values.float(), values[np.asarray(batch.rows)].astype(np.float32)))
    wait(place.device)
    began = time.perf_counter()
    count = sum(len(batch.rows) for batch in made.epoch(1))
    wait(place.device)
    rate = count * dim * 2 / (time.perf_counter() - began) / 1e9
    if kind == "device":  # rows are read and written where they lie
        return Outcome(wrong, 0.0, rate, copy_rate(rows * dim // 2, place.device) / 2e9, "GB/s",
                       "memory traffic")  # fmt: skip
    return Outcome(wrong, 0.0, rate, _bus_rate(place, rows * dim * 2) / 1e9, "GB/s", "the bus")


def _bus_rate(place: Place, size: int) -> float:
    """Bytes a second from (pinned) memory to the device."""
    there = torch.empty(size, dtype=torch.uint8, pin_memory=place.cuda)
    here = torch.empty(size, dtype=torch.uint8, device=place.device)
    return size / seconds(place, lambda: here.copy_(there, non_blocking=True), 5)


def loader_choice(place: Place) -> Outcome:
    """`auto` takes the device where twice the rows' memory is free there, and the same rows come."""
    return loader(place, "auto")


def network(place: Place) -> str:
    """A vision transformer's checkpoint, seeded; ViT-S/16 at full size."""
    folder = place.folder / "network"
    if not folder.exists():
        import timm
        from timm.models import save_for_hf

        torch.manual_seed(0)
        name = "vit_small_patch16_224" if not place.size.encoder else "vit_tiny_patch16_224"
        made = timm.create_model(name, num_classes=0, **place.size.encoder)
        save_for_hf(made, str(folder), safe_serialization=True)
    return str(folder)


def pictures(place: Place) -> Manifest:
    """JPEG files of smooth noise."""
    return put_pictures(place.folder / "pictures", place.size.pictures, place.size.pixels)


def extraction(place: Place) -> Outcome:
    """`extract` on the device (bfloat16 products) against float32 on the CPU; reading, decoding, products."""
    manifest, name = pictures(place), network(place)
    few = put_pictures(place.folder / "few", min(64, place.size.pictures), place.size.pixels)
    found, wanted = (
        extract(few, name, out=place.folder / where, device=device, dtype=kind).store
        for where, device, kind in (("half", place.device, "float16"), ("whole", "cpu", "float32"))
    )
    difference = apart(*(np.asarray(open_features(s).pooled[:], np.float32) for s in (found, wanted)))
    encoder = load_encoder(name, device=place.device)
    one = encoder.prepare(read_image(manifest.path(0)))
    products = place.size.batch / seconds(place, lambda: encoder.encode([one] * place.size.batch), 5)
    began = time.perf_counter()
    extract(manifest, name, out=place.folder / "timed", device=place.device)
    rate = len(manifest) / (time.perf_counter() - began)
    began = time.perf_counter()
    extract(manifest, "pixels", out=place.folder / "timed", device="cpu")
    decoding = len(manifest) / (time.perf_counter() - began)
    by = "products" if products < decoding else "the decoder"
    return Outcome(difference, 2e-2, rate, min(products, decoding), "pictures/s", by)


def batch_size(place: Place) -> Outcome:
    """The size that fits is found, and a batch that does not fit is halved: the features are the same.

    A hundredth of the device's memory may be used meanwhile.
    """
    encoder = load_encoder(network(place), device=place.device)
    one = encoder.prepare(read_image(pictures(place).path(0)))
    wanted = encoder.encode([one]).pooled
    many = 16 * LARGEST if place.cuda else LARGEST
    if place.cuda:
        torch.cuda.set_per_process_memory_fraction(0.01)
    try:
        size = probe_batch_size(encoder, one, tokens=False)
        found = encode_batch(encoder, [one] * many, tokens=False).pooled
    finally:
        if place.cuda:
            torch.cuda.set_per_process_memory_fraction(1.0)
    if size < 1 or len(found) != many:
        raise RuntimeError(f"a batch of {size} and {len(found)} rows; expected {many} rows")
    return Outcome(apart(found, np.repeat(wanted, many, axis=0)), 2e-2)
