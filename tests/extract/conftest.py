"""Tiny checkpoints made on the spot (real architectures and formats), and small data sets."""

from __future__ import annotations

import importlib.metadata
import json
import os
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tiny_models import fill
from uml_extract.registry import registry
from uml_manifests import NO_SPLIT, Manifest

os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported; no test needs the network

WORDS = [
    *("a", "an", "the", "red", "green", "blue", "small", "large", "striped", "circle", "square", "triangle"),
    *("star", "drawing", "photo", "of", "with", "and", "in", "on", "there", "is", "picture", "sound", "high"),
    *("low", "long", "short", "tone", "bright", "dark", "one", "two", "three", "four", "five", "six"),
    "seven",
]


@pytest.fixture(autouse=True, scope="session")
def entry_points_of_this_tree() -> Iterator[None]:
    """The encoders that pyproject.toml lists, also where the installed metadata are of an earlier one."""
    settings = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    listed = settings["project"]["entry-points"]["uml.encoders"]
    points = [importlib.metadata.EntryPoint(name, value, "uml.encoders") for name, value in listed.items()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "entry_points", lambda group: points)
        yield


def _tokenizer(kind: str):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    if kind == "bert":
        pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, "##s", "##ed"]
        tokenizer = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    first = {
        "roberta": ["<s>", "<pad>", "</s>", "<unk>"],
        "gpt2": ["<|endoftext|>"],
        "llama": ["<unk>", "<s>", "</s>"],
    }
    tokenizer = Tokenizer(models.BPE({p: i for i, p in enumerate([*first[kind], *letters])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if kind == "roberta":
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
        )
        special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    elif kind == "llama":
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
        special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    else:
        special = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def _text_model(kind: str, vocabulary: int):
    import transformers as hf

    common = {"vocab_size": vocabulary, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4}
    if kind == "bert":
        return hf.BertModel(hf.BertConfig(**common, intermediate_size=48, max_position_embeddings=128))
    if kind == "roberta":
        config = hf.RobertaConfig(
            **common, intermediate_size=48, max_position_embeddings=130, type_vocab_size=1
        )
        return hf.RobertaModel(config)
    if kind == "gpt2":
        config = hf.GPT2Config(vocab_size=vocabulary, n_embd=24, n_layer=3, n_head=4, n_positions=128)
        config.bos_token_id = config.eos_token_id = 0
        return hf.GPT2Model(config)
    config = hf.LlamaConfig(
        **common, intermediate_size=48, max_position_embeddings=128, num_key_value_heads=2
    )
    return hf.LlamaModel(config)


@pytest.fixture(scope="session")
def text_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """kind (bert, roberta, gpt2, llama) → a transformers folder with config, weights and tokenizer."""
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            folder = tmp_path_factory.mktemp("checkpoints") / f"tiny-{kind}"
            tokenizer = _tokenizer(kind)
            model = _text_model(kind, len(tokenizer))
            fill(model)
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            made[kind] = folder
        return made[kind]

    return make


VIT_ARGS = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2}


@pytest.fixture(scope="session")
def vision_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ViT as a timm folder: config.json and model.safetensors."""
    import timm
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("checkpoints") / "tiny-vit"
    folder.mkdir()
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, **VIT_ARGS)
    fill(model)
    save_file(model.state_dict(), folder / "model.safetensors")
    config = {
        "architecture": "vit_tiny_patch16_224",
        "num_classes": 0,
        "model_args": VIT_ARGS,
        "pretrained_cfg": {
            "input_size": [3, 32, 32],
            "interpolation": "bicubic",
            "crop_pct": 0.9,
            "crop_mode": "center",
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
            "num_classes": 0,
            "classifier": "head",
            "first_conv": "patch_embed.proj",
            "license": "mit",
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def picture(seed: int, width: int = 48, height: int = 40) -> np.ndarray:
    """(height, width, 3) uint8: a smooth picture with a coloured rectangle."""
    generator = np.random.Generator(np.random.Philox(seed))
    y, x = np.mgrid[:height, :width]
    values = np.stack([x * 3 + y, y * 4, x + y * 2], axis=2) % 256
    top, left = generator.integers(0, 20, 2)
    values[top : top + 12, left : left + 14] = generator.integers(0, 256, 3)
    return (values + generator.integers(0, 20, values.shape)).clip(0, 255).astype(np.uint8)


def sound(seed: int, seconds: float, rate: int) -> np.ndarray:
    """(n,) float32: a tone with a little noise."""
    generator = np.random.Generator(np.random.Philox(seed))
    time = np.arange(round(seconds * rate)) / rate
    tone = 0.4 * np.sin(2 * np.pi * (200 + 60 * seed) * time)
    return (tone + 0.01 * generator.standard_normal(len(time))).astype(np.float32)


def make_manifest(modality: str, root: Path, sources: list[str], name: str = "toy") -> Manifest:
    """A manifest with two classes and no splits."""
    count = len(sources)
    return Manifest(
        name=name,
        modality=modality,
        classes=("even", "odd"),
        root=root,
        ids=[f"s{i:04d}" for i in range(count)],
        sources=sources,
        labels=np.arange(count, dtype=np.int32) % 2,
        splits=np.full(count, NO_SPLIT, dtype=np.uint8),
    )


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """150 pictures: three tasks of at most 64 rows."""
    from PIL import Image

    root = tmp_path_factory.mktemp("pictures")
    names = [f"{i}.png" for i in range(150)]
    for i, name in enumerate(names):
        Image.fromarray(picture(i)).save(root / name)
    return make_manifest("image", root, names)


@pytest.fixture(scope="session")
def texts() -> Manifest:
    """150 different texts of 1 to 12 words."""
    generator = np.random.Generator(np.random.Philox(3))
    sentences = [" ".join(generator.choice(WORDS, generator.integers(1, 13))) + f" {i}" for i in range(150)]
    return make_manifest("text", Path("."), sentences)


@pytest.fixture(scope="session")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """130 sounds of different rates and lengths."""
    import soundfile

    root = tmp_path_factory.mktemp("sounds")
    names = [f"{i}.wav" for i in range(130)]
    for i, name in enumerate(names):
        rate = (8_000, 16_000, 22_050)[i % 3]
        soundfile.write(root / name, sound(i % 7, 0.1 + 0.01 * (i % 40), rate), rate)
    return make_manifest("audio", root, names)
