"""`--scale tiny`: a recipe made small, and data of its shapes made up for it.

The same places, encoders' names, methods, controls and variants; few classes, samples, steps and numbers per
vector. What comes out says that a recipe runs, and nothing else.

Shapes: N rows, C classes, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache import StorePlan, create_or_resume, make_folder, store_path, write_atomic
from uml_evaluate.reproduce.recipe.parts import Need, parts_of
from uml_evaluate.reproduce.recipe.recipe import Recipe, Setting
from uml_evaluate.reproduce.supply import Sources
from uml_manifests import from_csv, write_manifest

_CLASSES = 4
_PER_PART = (8, 4, 8)  # rows of a class that train, validate and test
_AUXILIARY = 20  # rows of a class elsewhere
_DIMS = {"image": 24, "text": 32, "audio": 20, "array": 16}
_JOINT = 28
_TOKENS = 5
_FOLDS = 5
_WORDS = ("a", "thing", "of", "kind", *map(str, range(_CLASSES)))
_GRIDS: dict[str, dict[str, Any]] = {
    "heads": {"lr": [0.01, 0.001], "batch_size": [8], "steps": 40, "warmup": 5, "eval_every": 10},
    "ssl": {
        "lr": [0.001], "width": [8], "epochs": 2, "step": [0, 1], "curriculum": "target-first",
        "layers": 1, "heads": 2, "feedforward": 16, "batch_size": 8,
    },
    "finetune": {"lr": [0.001], "batch_size": [8], "steps": 4, "warmup": 1, "eval_every": 2},
}  # fmt: skip


_SEARCHED: dict[str, Any] = {"alpha": [0.5, 1.0], "texts": ["mean", 3]}  # as the protocol `authors` does


def shrunk(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with one data set (or two), two numbers of shots and few seeds.

    Args:
        folder: where `generate` puts networks that stand for those that a fine-tuning loads.
    """
    datasets = 2 if len(recipe.variants) == 1 and not recipe.analyses else 1
    seeds = [1, 2, 3] if recipe.analyses else [1, 2]
    variants = {
        name: _small(setting, recipe, datasets, seeds, folder) for name, setting in recipe.variants.items()
    }
    return replace(recipe, variants=variants, shift=recipe.shift[:2], published=())


def _small(setting: Setting, recipe: Recipe, datasets: int, seeds: list[int], folder: Path) -> Setting:
    kind = recipe.kind
    train = dict(setting.train)
    shots = list(train.get("shots", [1, 2]))
    train["shots"] = shots[:2] if kind == "heads" else shots[:1]
    train["seeds"] = seeds if kind == "heads" else seeds[:1]
    train.pop("grid", None)
    grid: dict[str, Any] | None = _GRIDS[kind]
    if recipe.protocol == "fair" and kind == "heads":
        grid = None  # solved at once, which is small already
    elif recipe.protocol == "authors" and kind != "ssl" and setting.setup != "esc":
        grid = {**_GRIDS[kind], **_SEARCHED}
    tuning = None
    if setting.finetune is not None:
        tuning = {**setting.finetune, "img_size": 16, "patch_size": 8}
        language = str(folder / "language")
        tuning["encoder"] = (
            f"patches:{language}" if tuning["encoder"].startswith("patches:") else str(folder / "vision")
        )
        if tuning.get("unfreeze_at"):
            tuning["unfreeze_at"] = 2
        if "tune_aux" in tuning:
            tuning["tune_aux"] = language
    return replace(
        setting, datasets=setting.datasets[:datasets], folds=min(setting.folds, 2), transform="own",
        train=train, grid=grid, finetune=tuning,
    )  # fmt: skip


def generate(recipe: Recipe, folder: Path) -> Sources:
    """Everything that a shrunk recipe reads, below a folder; what is there already is left as it is."""
    from uml_extract import list_encoders

    known = list_encoders()
    stores = folder / "feats"
    folders: dict[tuple[str, str], Path] = {}
    for part in parts_of(recipe):
        shifts = [replace(part.target, dataset=name) for name in recipe.shift]
        for need in [*part.needs, *shifts]:
            if need.encoder is None:
                folders[need.dataset, need.place] = _samples(need, folder)
                continue
            entry = known.get(need.encoder)
            joint = entry.spec.joint_space if entry is not None else None
            _write_store(stores, need, joint is not None, _names(recipe))
        if part.fold:
            assert part.shots is not None
            folders[part.dataset, "folds"] = _write_fold(folder, part.target, part.fold, int(part.shots[0]))
    if recipe.kind == "finetune":
        _write_networks(recipe, folder)
    return Sources(cache=stores, folders=folders, device="cpu", workers=0)


def _names(recipe: Recipe) -> tuple[str, ...]:
    """Class names; a recipe that looks at two classes finds these."""
    return (*recipe.boundary, *(f"class {c}" for c in range(len(recipe.boundary), _CLASSES)))


def _write_store(stores: Path, need: Need, joint: bool, classes: Sequence[str]) -> None:
    """A sealed store whose classes lie to each other alike in every place.

    Texts have no splits, all others do, as their data has. Arrays are views of the same clips, by their ids.
    """
    split = need.modality in ("image", "audio", "array")
    per_class = sum(_PER_PART) if split else _AUXILIARY
    labels = np.tile(np.arange(len(classes), dtype=np.int32), per_class)
    splits = np.full(len(labels), 255, dtype=np.uint8)
    if split:
        splits = np.repeat([0, 1, 2], np.multiply(_PER_PART, len(classes))).astype(np.uint8)
    dim = _JOINT if joint else _DIMS[need.modality]
    rng = _generator(need.dataset, need.place, need.encoder)
    latent = _generator("classes").standard_normal((len(classes), 8))
    centres = latent @ _generator(need.place, need.encoder).standard_normal((8, dim)) / 3
    rows = centres[labels] + rng.standard_normal((len(labels), dim))
    counts = np.full(len(labels), _TOKENS, dtype=np.int32)
    plan = StorePlan(
        dataset=need.dataset, modality=need.modality, set=need.set,
        encoder={"name": need.encoder, "joint_space": "generated" if joint else None, "generated": True},
        variant="tokens" if need.tokens else None, manifest_digest="0" * 64, classes=tuple(classes),
        ids=[f"{'clip' if need.modality == 'array' else need.place}-{i}" for i in range(len(labels))],
        labels=labels, splits=splits,
        pooled_dim=dim, token_dim=dim if need.tokens else None,
        token_counts=counts if need.tokens else None, dtype="float32", batch_size=1, versions={},
        device="cpu",
    )  # fmt: skip
    path = store_path(stores, plan.dataset, plan.modality, plan.set, str(need.encoder), plan.variant)
    store = create_or_resume(path, plan)
    for task in store.pending():
        mine = store.rows_of(task)
        part = rows[mine.start : mine.stop].astype(np.float32)
        tokens = None
        if need.tokens:
            tokens = np.repeat(part, _TOKENS, 0) + rng.standard_normal((len(part) * _TOKENS, dim)) / 2
            tokens = tokens.astype(np.float32)
        store.write_task(task, part, tokens, np.zeros(len(part), dtype=np.uint8), {}, 0.0)


def _write_fold(folder: Path, target: Need, fold: int, shots: int) -> Path:
    """The splits of one fold over the rows of `_write_store`; the folder of such files."""
    rows = sum(_PER_PART) * _CLASSES
    lines = ["id,split"]
    for i in range(rows):
        at = i // _CLASSES  # which sample of its class
        mine, place = at % _FOLDS == fold - 1, at // _FOLDS
        part = ("train" if place < shots else "val" if place < 2 * shots else "") if mine else "test"
        lines.append(f"{target.place}-{i},{part}")
    where = folder / "folds" / target.dataset
    write_atomic(where / f"fold{fold}-k{shots}.csv", "\n".join([*lines, ""]).encode())
    return where


def _samples(need: Need, folder: Path) -> Path:
    """Pictures in class folders, or the manifest of some sentences."""
    where = folder / "data" / need.dataset / need.place
    make_folder(where)
    if need.modality == "text":
        lines = ["id,text,label"]
        for c in range(_CLASSES):
            lines += [f"{c}-{i},a thing of kind {c},class {c}" for i in range(_AUXILIARY)]
        write_atomic(where / "texts.csv", "\n".join([*lines, ""]).encode())
        texts = from_csv(where / "texts.csv", name=need.dataset, set=need.set, modality="text")
        return write_manifest(texts, where)
    from PIL import Image

    rng = _generator(need.dataset, need.place)
    for c in range(_CLASSES):
        (where / f"class {c}").mkdir(exist_ok=True)
        for i in range(sum(_PER_PART)):
            values = rng.integers(0, 120, (16, 16, 3)) + np.array([90 * (c % 2), 90 * (c // 2), 0])
            Image.fromarray(values.astype(np.uint8)).save(where / f"class {c}" / f"{i}.png")
    return where


def _write_networks(recipe: Recipe, folder: Path) -> None:
    """A ViT for pictures of 16 × 16 and a BERT, where they are asked for; their weights are random."""
    import torch

    settings = [s.finetune for s in recipe.variants.values() if s.finetune is not None]
    asked = {
        str(f.get(key, "")).removeprefix("patches:") for f in settings for key in ("encoder", "tune_aux")
    }
    vision, language = folder / "vision", folder / "language"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if str(vision) in asked and not (vision / "config.json").is_file():
            import timm
            from timm.models import save_for_hf

            model = timm.create_model(
                "vit_tiny_patch16_224", num_classes=0, img_size=16, patch_size=8, embed_dim=24, depth=2,
                num_heads=2,
            )  # fmt: skip
            save_for_hf(model, str(vision), safe_serialization=True, data_config={"input_size": (3, 16, 16)})
        if str(language) in asked and not (language / "config.json").is_file():
            _write_language(language)


def _write_language(folder: Path) -> None:
    import transformers as hf
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *_WORDS]
    tokenizer = Tokenizer(models.WordLevel({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    config = hf.BertConfig(
        vocab_size=len(pieces), hidden_size=24, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=48, max_position_embeddings=16,
    )  # fmt: skip
    hf.BertModel(config).save_pretrained(folder)


def _generator(*of: object) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(sha256(repr(of).encode()).digest()[:8]))
