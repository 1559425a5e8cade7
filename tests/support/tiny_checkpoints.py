"""Tiny checkpoints of real architectures, made on the spot, and samples of classes that can be told apart."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = ("red", "green", "blue")
WORDS = ["a", "the", "of", "photo", "drawing", *CLASSES, "one", "two", "three", "four", "five"]


def put_vit(folder: Path, **arguments: Any) -> Path:
    """A timm ViT for 16 × 16 pixels, of 24 features and 3 blocks."""
    import timm
    import torch
    from timm.models import save_for_hf

    size = {"img_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = timm.create_model("vit_tiny_patch16_224", num_classes=0, **size, **arguments)
    save_for_hf(model, str(folder), safe_serialization=True, data_config={"input_size": (3, 16, 16)})
    return folder


def put_clip(folder: Path, kind: str) -> Path:
    """Both towers of a CLIP as open_clip writes them: a ViT for pictures of 16 × 16 pixels, a ResNet (of 32)
    or a network of timm (of 160); the joint width is 16, with timm 64."""
    import json

    import open_clip
    import torch
    from safetensors.torch import save_file

    vision = {
        "vit": {"image_size": 16, "layers": 3, "width": 24, "head_width": 12, "patch_size": 8},
        "resnet": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32},
        "timm": {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "avg", "timm_proj": "none"},
    }[kind]
    text = {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
    config = {
        "embed_dim": 64 if kind == "timm" else 16,
        "quick_gelu": True,
        "vision_cfg": vision,
        "text_cfg": text,
    }
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = open_clip.CLIP(**config)  # type: ignore[arg-type]
    folder.mkdir(parents=True)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    content = {"model_cfg": config, "preprocess_cfg": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    return folder


def put_language(folder: Path, kind: str) -> Path:
    """A BERT or GPT-2 of 24 features and 3 layers, with a tokenizer of few words."""
    import torch
    import transformers as hf
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    tokenizer = Tokenizer(models.WordLevel({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        if kind == "bert":
            config = hf.BertConfig(
                vocab_size=len(pieces), hidden_size=24, num_hidden_layers=3, num_attention_heads=4,
                intermediate_size=48, max_position_embeddings=32,
            )  # fmt: skip
            hf.BertModel(config).save_pretrained(folder)
        else:
            config = hf.GPT2Config(vocab_size=len(pieces), n_embd=24, n_layer=3, n_head=4, n_positions=32)
            hf.GPT2Model(config).save_pretrained(folder)
    return folder


def put_wav2vec(folder: Path) -> Path:
    """A wav2vec 2.0 of 24 features and 3 layers at 16 kHz."""
    import torch
    import transformers as hf

    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = hf.Wav2Vec2Config(
            hidden_size=24, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32,
            conv_dim=(8, 8, 8), conv_kernel=(10, 3, 2), conv_stride=(5, 2, 2),
            num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, vocab_size=32,
        )  # fmt: skip
        hf.AutoModel.from_config(config).save_pretrained(folder)
    hf.Wav2Vec2FeatureExtractor(return_attention_mask=False).save_pretrained(folder)
    return folder


def put_pictures(folder: Path, per_class: int = 12, size: int = 20) -> Path:
    """Noisy pictures in a folder for each class; their colour tells the class."""
    from PIL import Image

    generator = np.random.Generator(np.random.Philox(5))
    for c, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            values = generator.integers(0, 120, (size, size, 3))
            values[..., c] += 100
            Image.fromarray(values.astype(np.uint8)).save(folder / name / f"{i}.png")
    return folder


def put_texts(file: Path, per_class: int = 5) -> Path:
    """A CSV of sentences of which one word tells the class."""
    numbers = WORDS[-5:]
    with file.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["id", "text", "label"])
        for name in CLASSES:
            table.writerows([f"{name}{i}", f"a photo of {numbers[i]} {name}", name] for i in range(per_class))
    return file


def put_sounds(folder: Path, per_class: int = 10) -> Path:
    """Tones of two lengths in a folder for each class; their pitch tells the class."""
    import soundfile

    for c, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            time = np.arange(900 + 300 * (i % 2)) / 16_000
            soundfile.write(
                folder / name / f"{i}.wav", 0.4 * np.sin(2 * np.pi * 400 * (c + 1) * time), 16_000
            )
    return folder
