"""Training steps of whole networks against plain torch loops written here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tiny_checkpoints import put_clip, put_language, put_pictures, put_texts, put_vit
from uml_extract import Trainable, load_trainable, read_image
from uml_manifests import Manifest, resolve_data
from uml_train.data.batches import batch_rows
from uml_train.finetune.network.backbones import Backbone
from uml_train.finetune.network.steps import Tuner
from uml_train.finetune.network.whole_network import TunedStream, TuningTask
from uml_train.finetune.samples import Loader
from uml_train.heads.models import HeadModel, Samples
from uml_train.protocols.grid import Candidate, Schedule
from uml_train.record.checkpoint import Checkpoint

SCHEDULE = Schedule(steps=7, warmup=2, eval_every=3, patience=9)
SEED, ALPHA = 4, 0.7


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return resolve_data(put_pictures(tmp_path_factory.mktemp("data") / "pictures"))


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return resolve_data(put_texts(tmp_path_factory.mktemp("data") / "texts.csv"))


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return put_vit(tmp_path_factory.mktemp("models") / "vit")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return put_language(tmp_path_factory.mktemp("models") / "bert", "bert")


def _samples(
    name: str, labels: np.ndarray, dim: int, projected: bool, features: Any = None, aligned: bool = False
) -> Samples:
    return Samples(
        name=name,
        features=torch.empty(len(labels), dim, device="meta") if features is None else features,
        labels=torch.from_numpy(labels.astype(np.int64)),
        projected=projected,
        logit_scale=100.0 if aligned else 1.0,
    )


class Job:
    """A task over the toy data, everything that a plain loop needs beside it."""

    def __init__(
        self,
        pictures: Manifest,
        vit: Path,
        *,
        texts: torch.Tensor | None = None,
        tuned: tuple[Manifest, Path] | None = None,
        freeze: Any = 0,
        unfreeze_at: int | None = None,
        kind: str = "pretrained",
        views: str = "random-crop",
        ratio: float = 1.0,
        workers: int = 0,
        lr: float = 1e-3,
        aligned: bool = False,
        compiled: bool = False,
    ) -> None:
        self.encoder = load_trainable(str(vit), device="cpu")
        dim = int(self.encoder.spec.width or 0)
        self.rows = np.arange(0, 36, 2)
        self.labels = pictures.labels[self.rows]
        width = dim if texts is None else texts.shape[1]
        deep = (texts is not None or tuned is not None) and not aligned
        self.loader = Loader(pictures, self.encoder, views=views, workers=workers)
        backbone = Backbone(self.encoder, kind=kind, freeze=freeze, compiled=compiled)
        streams = [TunedStream(backbone=backbone, loader=self.loader, rows=self.rows, unit=aligned)]
        auxiliaries: tuple[Samples, ...] = ()
        self.text_encoder: Trainable | None = None
        if texts is not None:
            auxiliaries = (_samples("text", np.arange(len(texts)) % 3, width, False, texts, aligned),)
            streams.append(TunedStream())
        if tuned is not None:
            manifest, folder = tuned
            self.text_encoder = load_trainable(str(folder), device="cpu")
            auxiliaries = (_samples("text", manifest.labels, 24, False),)
            loader = Loader(manifest, self.text_encoder)
            other = Backbone(self.text_encoder)
            streams.append(TunedStream(backbone=other, loader=loader, rows=np.arange(len(manifest)), lr=3e-4))
        self.model = HeadModel(
            target=_samples("image", self.labels, dim, deep, None, aligned),
            auxiliaries=auxiliaries,
            validation=(torch.empty(6, dim, device="meta"), torch.from_numpy(pictures.labels[1:36:6]).long()),
            classes=3,
            width=width,
            seed=SEED,
            candidate=Candidate(lr=lr, weight_decay=0.1, batch_size=5),
            alpha=ALPHA,
            ratio=ratio,
        )
        task = TuningTask(
            model=self.model, streams=streams, validation=np.arange(1, 36, 6), unfreeze_at=unfreeze_at
        )
        self.make = lambda schedule=SCHEDULE, **options: Tuner(task, schedule, **options)

    def start(self) -> list[torch.nn.Parameter | None]:
        """Projection and head before training."""
        weights = self.model.start()
        parts = [weights.projections[0], weights.head]
        return [None if p is None else torch.nn.Parameter(p) for p in parts]


def _rate(base: float, step: int) -> float:
    if step == 0:
        return 1e-5
    if step <= 2:
        return base * step / 2
    return base * (1 + np.cos(np.pi * (step - 2) / 7)) / 2


def _batch(name: str, rows: int, step: int) -> torch.Tensor:
    return batch_rows(seed=SEED, name=name, rows=rows, batch=5, start=step, steps=1)[0]


def _final(job: Job, **options: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    """Fitted, and the network's state after the last step (not that of the best evaluation)."""
    tuner = job.make(**options)
    states = []
    fitted, _ = tuner.fit(None, lambda step, accuracy: states.append(tuner._state()))
    return fitted, states[-1]


def _pixels(job: Job, pictures: Manifest, rows: torch.Tensor) -> torch.Tensor:
    """Target pictures by the encoder's own transform."""
    read = [job.encoder.prepare(read_image(pictures.path(int(job.rows[r])))) for r in rows]  # type: ignore[attr-defined]
    return torch.from_numpy(np.stack(read))


@pytest.mark.parametrize("regime", ["unimodal", "uml", "frozen", "unfrozen", "text encoder", "half ratio"])
def test_steps_equal_a_plain_loop(
    regime: str, pictures: Manifest, sentences: Manifest, vit: Path, bert: Path
) -> None:
    import timm
    import transformers

    texts = torch.from_numpy(np.random.default_rng(0).standard_normal((9, 16), dtype=np.float32))
    options: dict[str, Any] = {"views": "crop"}
    if regime in ("uml", "half ratio", "frozen", "unfrozen"):
        options["texts"] = texts
    if regime == "half ratio":
        options["ratio"] = 0.5
    if regime == "text encoder":
        options["tuned"] = (sentences, bert)
    if regime in ("frozen", "unfrozen"):
        options["freeze"] = 2
    if regime == "unfrozen":
        options["unfreeze_at"] = 4
    job = Job(pictures, vit, **options)
    projection, head = job.start()
    assert head is not None

    model = timm.create_model(f"local-dir:{vit}", pretrained=True, num_classes=0).train()
    language = transformers.BertModel.from_pretrained(bert, dtype=torch.float32).train()
    for module in language.modules():  # dropout is tested apart: its draws depend on the step's seed
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    if job.text_encoder is not None:
        for module in job.text_encoder.network.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    held = [p for n, p in model.named_parameters() if not n.startswith(("blocks.2", "norm"))]
    words = [p for n, p in language.named_parameters() if "pooler" not in n]
    groups: list[dict[str, Any]] = [
        {"params": [*model.parameters(), *(p for p in (projection, head) if p is not None)], "base": 1e-3}
    ]
    if regime == "text encoder":
        groups.append({"params": words, "base": 3e-4})
    optimizer = torch.optim.AdamW(groups, weight_decay=0.1)
    for step in range(7):
        if regime in ("frozen", "unfrozen"):
            for parameter in held:
                parameter.requires_grad_(regime == "unfrozen" and step >= 4)
        rows = _batch("image", 18, step)
        features = model(_pixels(job, pictures, rows))
        z = features if projection is None else features @ projection.T
        labels = torch.from_numpy(job.labels)[rows].long()
        loss = torch.nn.functional.cross_entropy(z @ head.T, labels)
        if regime in ("uml", "frozen", "unfrozen"):
            drawn = _batch("text", 9, step)
            loss = loss + ALPHA * torch.nn.functional.cross_entropy(texts[drawn] @ head.T, drawn % 3)
        elif regime == "half ratio" and step % 2 == 0:
            drawn = _batch("text", 9, step // 2)
            loss = loss + ALPHA * torch.nn.functional.cross_entropy(texts[drawn] @ head.T, drawn % 3)
        elif regime == "text encoder":
            drawn = _batch("text", 15, step)
            assert job.text_encoder is not None
            prepared = [job.text_encoder.prepare(sentences.sources[r]) for r in drawn]  # type: ignore[attr-defined]
            ids = torch.from_numpy(np.stack(prepared))
            embedded = language(input_ids=ids).last_hidden_state[:, 0]
            loss = loss + ALPHA * torch.nn.functional.cross_entropy(
                embedded @ head.T, torch.from_numpy(sentences.labels)[drawn].long()
            )
        for group in optimizer.param_groups:
            group["lr"] = _rate(group["base"], step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    fitted, state = _final(job)
    assert fitted.steps == 7
    for name, value in model.state_dict().items():
        torch.testing.assert_close(state[f"networks.0.{name}"], value, rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(state["head"], head.data, rtol=1e-5, atol=2e-6)
    if projection is not None:
        torch.testing.assert_close(state["projections.0"], projection.data, rtol=1e-5, atol=2e-6)
    if regime == "text encoder":
        for name, value in language.state_dict().items():
            torch.testing.assert_close(state[f"networks.1.{name}"], value, rtol=1e-5, atol=2e-6)
    if regime == "frozen":
        loaded = timm.create_model(f"local-dir:{vit}", pretrained=True, num_classes=0).state_dict()
        assert torch.equal(state["networks.0.blocks.1.mlp.fc1.weight"], loaded["blocks.1.mlp.fc1.weight"])
        assert not torch.equal(state["networks.0.blocks.2.mlp.fc1.weight"], loaded["blocks.2.mlp.fc1.weight"])


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_steps_of_a_clip_tower_equal_a_plain_loop(kind: str, pictures: Manifest, tmp_path: Path) -> None:
    """In the joint space: unit vectors, no projection, logits times 100; and the weights' average."""
    import open_clip

    folder = put_clip(tmp_path / kind, kind)
    texts = torch.nn.functional.normalize(torch.randn(9, 16, generator=torch.Generator().manual_seed(1)))
    job = Job(pictures, folder, texts=texts, views="crop", aligned=True, lr=1e-4)
    projection, head = job.start()
    assert projection is None
    assert head is not None
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tower = model.visual.train()
    if kind == "resnet":
        tower.to(memory_format=torch.channels_last)
    parameters = {**dict(tower.named_parameters()), "head": head}
    average = {name: p.detach().clone() for name, p in parameters.items()}
    optimizer = torch.optim.AdamW(parameters.values(), weight_decay=0.1)
    for step in range(7):
        rows, drawn = _batch("image", 18, step), _batch("text", 9, step)
        features = torch.nn.functional.normalize(tower(_pixels(job, pictures, rows)))
        labels = torch.from_numpy(job.labels)[rows].long()
        # Rounded as ours, because Adam scales up the rounding of gradients that are nearly zero.
        loss = 0.2 * torch.nn.functional.cross_entropy(100 * (features @ head.T), labels, reduction="sum")
        loss = loss + ALPHA / 5 * torch.nn.functional.cross_entropy(
            100 * (texts[drawn] @ head.T), drawn % 3, reduction="sum"
        )
        optimizer.param_groups[0]["lr"] = _rate(1e-4, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay = min(0.5, (1 + step) / (10 + step))
        for name, p in parameters.items():
            average[name] = decay * average[name] + (1 - decay) * p.detach()

    tuner = job.make(ema=0.5)
    seen: list[dict[str, torch.Tensor]] = []
    tuner.fit(None, lambda step, accuracy: seen.append(tuner._state()))
    assert tuner._average is not None
    for name, p in parameters.items():
        if name.endswith("in_proj_bias"):  # the keys' bias has no gradient but rounding
            continue
        place = name if name == "head" else f"networks.0.{name}"
        torch.testing.assert_close(seen[-1][place], p.data, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(tuner._average.values[place], average[name], rtol=1e-4, atol=1e-5)
        assert not torch.equal(average[name], p.data)


def test_the_average_is_what_is_validated_and_kept(pictures: Manifest, vit: Path) -> None:
    tuner = Job(pictures, vit, lr=3e-3).make(ema=0.9)
    validated: list[np.ndarray] = []
    predict = tuner._predict

    def spied(rows: np.ndarray, inputs: Any) -> np.ndarray:
        validated.append(tuner._state()["head"])
        return predict(rows, inputs)

    tuner._predict = spied  # type: ignore[method-assign]
    raw: list[torch.Tensor] = []
    fitted, state = tuner.fit(None, lambda step, accuracy: raw.append(tuner._state()["head"]))
    best = [point["step"] for point in fitted.history].index(fitted.best_step)
    assert torch.equal(state["head"], validated[best])
    assert torch.equal(fitted.weights.head, validated[best])
    assert not torch.equal(raw[-1], validated[-1])


def test_recomputed_activations_and_autocast_change_nothing_that_matters(
    pictures: Manifest, vit: Path
) -> None:
    texts = torch.from_numpy(np.random.default_rng(0).standard_normal((9, 16), dtype=np.float32))
    _, plain = _final(Job(pictures, vit, texts=texts))
    job = Job(pictures, vit, texts=texts)
    job.encoder.checkpoint_gradients()
    assert job.encoder.network.grad_checkpointing
    _, again = _final(job)
    half, coarse = _final(Job(pictures, vit, texts=texts), precision="bfloat16")
    different = False
    for name, value in plain.items():
        torch.testing.assert_close(again[name], value, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(coarse[name], value, rtol=0.1, atol=2e-2)
        different = different or not torch.equal(coarse[name], value)
    assert different
    assert all(np.isfinite(point["loss.image"]) for point in half.history)


@pytest.mark.slow
def test_compiled_steps_equal_eager_ones(pictures: Manifest, vit: Path) -> None:
    texts = torch.from_numpy(np.random.default_rng(0).standard_normal((9, 16), dtype=np.float32))
    options: dict[str, Any] = {"texts": texts, "freeze": 2, "unfreeze_at": 4}
    eager, plain = _final(Job(pictures, vit, **options))
    torch._dynamo.reset()
    compiled, same = _final(Job(pictures, vit, compiled=True, **options))
    counted = torch._dynamo.utils.counters
    assert counted["inductor"]["fxgraph_cache_miss"] + counted["inductor"]["fxgraph_cache_hit"] > 0
    assert not counted["graph_break"]
    for name, value in plain.items():
        torch.testing.assert_close(same[name], value, rtol=1e-3, atol=1e-4)
    for point, other in zip(eager.history, compiled.history, strict=True):
        assert other == pytest.approx(point, rel=1e-3)


def test_convolutions_are_computed_channels_last_and_written_plainly(tmp_path: Path) -> None:
    backbone = Backbone(load_trainable(str(put_clip(tmp_path / "resnet", "resnet")), device="cpu"))
    weight = backbone.network.get_parameter("layer2.0.conv2.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    backbone.write(backbone.start(1), tmp_path / "written")
    assert weight.is_contiguous(memory_format=torch.channels_last)
    again = load_trainable(str(tmp_path / "written"), device="cpu").network.get_parameter(
        "layer2.0.conv2.weight"
    )
    assert torch.equal(again, weight)


@pytest.mark.parametrize("ended_at", [1, 4])
def test_a_training_that_was_stopped_goes_on_to_the_same_bits(
    ended_at: int, pictures: Manifest, sentences: Manifest, vit: Path, bert: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"tuned": (sentences, bert), "freeze": 1, "unfreeze_at": 3}

    def tuner() -> Tuner:
        return Job(pictures, vit, **options).make(ema=0.8)

    whole, state = tuner().fit(Checkpoint(tmp_path / "whole.pt"))

    def stop(step: int, accuracy: float) -> None:
        if step == ended_at:
            raise KeyboardInterrupt

    checkpoint = Checkpoint(tmp_path / "part.pt")
    with pytest.raises(KeyboardInterrupt):
        tuner().fit(checkpoint, stop)
    resumed, again = tuner().fit(checkpoint)
    assert resumed.history == whole.history
    assert len(whole.history) == 3
    assert all(torch.equal(again[name], value) for name, value in state.items())
    ended, _ = tuner().fit(checkpoint)  # a finished one is only read
    assert torch.equal(ended.weights.head, resumed.weights.head)


def test_worker_processes_give_what_this_process_gives(pictures: Manifest, vit: Path) -> None:
    here, state = _final(Job(pictures, vit))
    job = Job(pictures, vit, workers=1)
    with job.loader:
        there, same = _final(job)
    assert here.history == there.history
    assert all(torch.equal(same[name], value) for name, value in state.items())


def test_learning_reaches_the_backbone(pictures: Manifest, vit: Path) -> None:
    schedule = Schedule(steps=60, warmup=2, eval_every=20, patience=9)
    job = Job(pictures, vit, views="flip", lr=3e-3)
    tuner = job.make(schedule)
    fitted, _ = tuner.fit()
    assert fitted.val_acc > 80
    assert fitted.history[-1]["loss.image"] < 0.5 < fitted.history[0]["loss.image"]
    assert (tuner.predict(np.arange(36)) == pictures.labels).mean() > 0.8


def _ranks(rank: int, folder: str, port: int) -> None:
    import os

    os.environ.update(
        RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), LOCAL_RANK=str(rank)
    )
    from uml_train.runs.ranks import Ranks

    torch.set_num_threads(1)
    path = Path(folder)
    texts = torch.from_numpy(np.random.default_rng(0).standard_normal((9, 16), dtype=np.float32))
    job = Job(resolve_data(path / "pictures"), path / "vit", texts=texts, ratio=0.5, freeze=1, unfreeze_at=3)
    fitted, state = _final(job, ranks=Ranks.of_environment())
    torch.save({"state": state, "history": fitted.history}, path / f"rank{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_equal_one(tmp_path: Path) -> None:
    import socket

    put_pictures(tmp_path / "pictures")
    put_vit(tmp_path / "vit")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.start_processes(_ranks, (str(tmp_path), port), nprocs=2, start_method="fork")
    texts = torch.from_numpy(np.random.default_rng(0).standard_normal((9, 16), dtype=np.float32))
    alone = Job(
        resolve_data(tmp_path / "pictures"), tmp_path / "vit", texts=texts, ratio=0.5, freeze=1, unfreeze_at=3
    )
    fitted, state = _final(alone)
    for rank in range(2):
        found = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        for name, value in state.items():
            ours, theirs = found["state"][name], value
            if name.endswith("qkv.bias"):  # the keys' bias has no gradient but rounding, which Adam scales up
                ours, theirs = (torch.cat([part[:24], part[48:]]) for part in (ours, theirs))
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        for point, same in zip(found["history"], fitted.history, strict=True):
            assert point == pytest.approx(same, rel=1e-4)


def test_statistics_stay_from_the_first_evaluation_on_where_that_is_asked_for(
    pictures: Manifest, vit: Path
) -> None:
    """The public code evaluates in `eval` mode and trains on in it."""
    for batch_norm, after in (("batches", True), ("until-evaluated", False)):
        tuner = Job(pictures, vit, views="crop").make(batch_norm=batch_norm)
        modes = []
        tuner.fit(None, lambda step, accuracy, tuner=tuner, modes=modes: modes.append(tuner.network.training))
        assert len(modes) > 1
        assert set(modes) == {after}
