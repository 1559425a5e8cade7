"""The CUDA paths of `gpu_all.py` that train networks and runs: fine-tuning, sequences, whole runs.

Shapes: B samples of a batch, T tokens, D features.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from finetune_throughput import Race
from gpu_paths import Outcome, Place, apart, network, pictures, seconds
from head_bank_gpu import wait

from token_stores import write_sequences
from uml_cache import import_features, open_features
from uml_extract import load_trainable
from uml_train import TrainSettings, train
from uml_train.finetune.network.backbones import Backbone
from uml_train.finetune.network.whole_network import moved
from uml_train.pretrain.network.network_training import NetworkTrainer, PretrainingTask, Timetable, Where
from uml_train.pretrain.network.sequences import sequences
from uml_train.pretrain.network.shared_transformer import SharedTransformer

_DIM = 35  # features of a token


class _Bar:
    """A progress bar that shows nothing."""

    def update(self, n: int = 1, /) -> None:
        return None

    def set_postfix_str(self, s: str = "", /) -> None:
        return None


def product_rate(place: Place, size: int = 4096) -> float:
    """Operations a second of one large product, in bfloat16 on CUDA, float32 elsewhere."""
    size, kind = (size, torch.bfloat16) if place.cuda else (256, torch.float32)
    a = torch.rand(size, size, device=place.device, dtype=kind)
    return 2 * size**3 / seconds(place, lambda: a @ a, 5)


def _race(place: Place, precision: str, device: str) -> Race:
    encoder = load_trainable(network(place), device="cpu")
    workers = 12 if place.cuda else 1
    return Race(
        encoder, pictures(place), workers=workers, batch=place.size.batch, device=device, precision=precision
    )


def fine_tuning(place: Place) -> Outcome:
    """A step's loss in float32 on both, then training in bfloat16 with its reading."""
    losses = []
    for device in (place.device, "cpu"):
        race = _race(place, "float32", device)
        with race.loader:
            losses.append(race.tuner._step(1, [iter([race.ready])]))
    race = _race(place, "bfloat16" if place.cuda else "float32", place.device)
    steps = 20 if place.cuda else 2
    with race.loader:
        decoding, bare, both = (getattr(race, side)(steps) for side in ("decoding", "bare", "both"))
    by = "products" if bare < decoding else "the decoder"
    return Outcome(apart(*losses), 1e-3, both, min(bare, decoding), "pictures/s", by)


def compiled_network(place: Place) -> Outcome:
    """A network through torch.compile against the plain one: its features, and samples a second."""
    race = _race(place, "float32", place.device)
    with race.loader:
        inputs = moved(race.ready, torch.device(place.device))
    encoder = load_trainable(network(place), device=place.device)
    plain, fused = Backbone(encoder), Backbone(encoder, compiled=True)
    with torch.no_grad():
        found, wanted = (one.features(inputs, training=True) for one in (fused, plain))
        times = [
            seconds(place, lambda o=one: o.features(inputs, training=True), 10) for one in (fused, plain)
        ]
    fast, slow = (place.size.batch / spent for spent in times)
    return Outcome(apart(found, wanted), 1e-3, fast, slow, "pictures/s", "the plain network")


def _pretrained(
    place: Place, device: str, precision: str, steps: int
) -> tuple[Any, float, SharedTransformer]:
    length, batch = place.size.length, place.size.batch
    path = write_sequences(place.folder / "tokens", "image", _DIM, 16 * batch, lengths=(length // 2, length))
    features = open_features(path)
    stream = sequences("image", features, np.arange(len(features)))
    model = SharedTransformer(place.size.transformer, {"image": _DIM}, seed=1)
    model.to(device)
    task = PretrainingTask(
        streams=[stream], timetable=Timetable(target=steps), lr=1e-3, batch_size=batch, seed=4
    )
    began = time.perf_counter()
    outcome = NetworkTrainer(model, task, Where(device, precision)).fit(_Bar())
    wait(place.device)
    return outcome, steps * batch * 0.75 * length / (time.perf_counter() - began), model


def pretraining(place: Place) -> Outcome:
    """Losses of the same steps on both, float32; then tokens a second in bfloat16 against bare products."""
    (found, _, _), (wanted, _, _) = (
        _pretrained(place, device, "float32", 3) for device in (place.device, "cpu")
    )
    losses = [[one["loss.image"] for one in outcome.history] for outcome in (found, wanted)]
    _, rate, model = _pretrained(place, place.device, "bfloat16", max(4, place.size.steps))
    config = place.size.transformer
    trunk = sum(p.numel() for p in model.blocks.parameters())
    attention = 12 * config.layers * config.width * 0.75 * place.size.length
    bound = product_rate(place) / (6 * trunk + attention)
    return Outcome(
        apart(torch.tensor(losses[0]), torch.tensor(losses[1])), 1e-3, rate, bound, "tokens/s", "products"
    )


def _run(place: Place, device: str, **values: Any) -> np.ndarray:
    """Validated accuracies of a small run, in the order of its cells."""
    grid = place.folder / "grid.toml"
    if not grid.exists():
        grid.write_text(
            "lr = [0.01, 0.001]\nweight_decay = [0.01]\nbatch_size = [8]\nlearnable_scale = [false]\n"
            "steps = 60\nwarmup = 5\neval_every = 10\npatience = 3\n"
        )
    settings = TrainSettings(
        grid=str(grid), seeds=(1, 2), shots=(2, 4), methods=("unimodal", "unimodal-deep", "uml"),
        device=device, out=place.folder / f"runs-{device}", **values,
    )  # fmt: skip
    found = sorted(train(settings).cells, key=lambda one: str(one.cell))
    return np.array([one.val_acc for one in found])


def whole_run(place: Place) -> Outcome:
    """`train` from stores: placing, pinned rows, all cells in one bank; accuracies of both."""
    rng = np.random.default_rng(1)
    for modality, dim, splits in (("image", 48, True), ("text", 32, False)):
        labels = np.arange(200) % 5
        centres = np.random.default_rng(dim).standard_normal((5, dim))
        values = {"features": (centres[labels] + rng.standard_normal((200, dim))).astype(np.float32)}
        values |= {"labels": labels, "ids": np.arange(200).astype(str)}
        if splits:
            values["splits"] = np.array(["train", "val", "test", "test"])[np.arange(200) // 5 % 4]
        source = place.folder / f"{modality}.npz"
        np.savez(source, **values)
        import_features([source], place.folder / "run", dataset="drawn", modality=modality, encoder="drawn")
    found, wanted = (_run(place, device, cache=place.folder / "run") for device in (place.device, "cpu"))
    return Outcome(apart(found, wanted), 2e-2)


def sequence_heads(place: Place) -> Outcome:
    """Heads with a transformer over tokens, in a whole run: accuracies of both."""
    feats = place.folder / "ragged"
    splits = np.arange(120) // 3 % 3
    write_sequences(feats, "image", 6, 120, splits=splits)
    write_sequences(feats, "text", 4, 60)
    common = {"cache": feats, "trunk": "transformer"}
    found, wanted = (_run(place, device, **common) for device in (place.device, "cpu"))
    return Outcome(apart(found, wanted), 5e-2)
