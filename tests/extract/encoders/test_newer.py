"""Newer encoders: DINOv3, ModernBERT, Qwen3-Embedding, SigLIP's text tower, sentence-transformers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiny_models import fill
from uml_cache import InputError
from uml_extract import Encoder, list_encoders, load_encoder, read_image
from uml_manifests import Manifest

TEXTS = [
    "a large red circle",
    "there is a photo of a small green star with a long tone in the bright picture",
    "square",
    "one two three four five six seven",
]
GOLDEN: dict[str, list[float]] = {
    "modernbert": [61.64223, -1.705336, -2.083948, -0.04188953],
    "qwen3": [44.35855, -0.4673159, -0.278538, -3.75166],
    "siglip": [48.06636, -0.7222887, -2.090197, 0.1181766],
    "dinov3": [42.12933, 1.311177, 1.560608, 1.268468],
}
Checkpoint = Callable[[str], Path]


def _pooled(encoder: Encoder, texts: list[str] = TEXTS) -> np.ndarray:
    return encoder.encode([encoder.prepare(text) for text in texts]).pooled


def _check_golden(kind: str, pooled: np.ndarray) -> None:
    found = [float(np.abs(pooled).sum()), *(pooled @ np.cos(np.arange(pooled.shape[1]))).tolist()]
    np.testing.assert_allclose(found, GOLDEN[kind], rtol=1e-4)


def _check_batches(encoder: Encoder) -> None:
    together = _pooled(encoder)
    alone = np.concatenate([_pooled(encoder, [text]) for text in TEXTS])
    np.testing.assert_allclose(alone, together, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(_pooled(encoder, TEXTS[::-1])[::-1], together, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, text_checkpoint: Checkpoint) -> Checkpoint:
    """kind (modernbert, qwen3, siglip) → a transformers folder with a tiny model and a tokenizer."""
    import transformers as hf

    made: dict[str, Path] = {}

    def build(kind: str) -> Path:
        if kind in made:
            return made[kind]
        folder = tmp_path_factory.mktemp("newer") / f"tiny-{kind}"
        source = text_checkpoint("llama" if kind == "qwen3" else "bert")
        vocabulary = json.loads((source / "config.json").read_text())["vocab_size"]
        common = {
            "vocab_size": vocabulary,
            "hidden_size": 24,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "intermediate_size": 32,
        }
        if kind == "modernbert":
            model: Any = hf.ModernBertModel(
                hf.ModernBertConfig(
                    **common,
                    local_attention=8,
                    global_attn_every_n_layers=2,
                    pad_token_id=0,
                    cls_token_id=2,
                    bos_token_id=2,
                    sep_token_id=3,
                    eos_token_id=3,
                )
            )
        elif kind == "qwen3":
            model = hf.Qwen3Model(hf.Qwen3Config(**common, num_key_value_heads=1, head_dim=12))
        else:
            text = {**common, "max_position_embeddings": 24, "projection_size": 24, "pad_token_id": 0}
            vision = {**common, "image_size": 16, "patch_size": 8}
            vision.pop("vocab_size")
            model = hf.SiglipModel(hf.SiglipConfig(text_config=text, vision_config=vision))
        fill(model)
        model.save_pretrained(folder)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(source / file, folder / file)
        made[kind] = folder
        return folder

    return build


@pytest.fixture
def sentence(make: Checkpoint, text_checkpoint: Checkpoint, tmp_path: Path) -> Callable[..., Path]:
    """(kind, pooling mode, unit, …) → a folder as sentence-transformers itself writes it."""
    st = pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    def build(kind: str, mode: str, *, unit: bool, longest: int | None = None, **settings: Any) -> Path:
        source = make(kind) if kind == "qwen3" else text_checkpoint(kind)
        transformer = Transformer(str(source), max_seq_length=longest)
        if transformer.tokenizer.pad_token is None:
            transformer.tokenizer.pad_token = transformer.tokenizer.eos_token
        modules = [transformer, Pooling(24, pooling_mode=mode), *([Normalize()] if unit else [])]
        model = st.SentenceTransformer(modules=modules, device="cpu", **settings)
        model.save(str(tmp_path / "st"), create_model_card=False)
        return tmp_path / "st"

    return build


@pytest.mark.filterwarnings("ignore")  # sentence-transformers' own
@pytest.mark.parametrize(
    ("kind", "mode", "unit"),
    [
        ("bert", "mean", True),
        ("bert", "cls", False),
        ("roberta", "mean", False),
        ("qwen3", "lasttoken", True),
    ],
)
def test_sentence_transformers_checkpoints_are_followed(
    sentence: Callable[..., Path], kind: str, mode: str, unit: bool
) -> None:
    from sentence_transformers import SentenceTransformer

    folder = sentence(kind, mode, unit=unit)
    expected = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    encoder = load_encoder(str(folder), device="cpu")
    np.testing.assert_allclose(_pooled(encoder), expected, rtol=1e-4, atol=1e-5)
    assert encoder.variant == ()
    assert encoder.spec.pooling == {"lasttoken": "last"}.get(mode, mode)
    assert encoder.spec.transform.get("unit", False) == unit
    _check_batches(encoder)


@pytest.mark.filterwarnings("ignore")
def test_prompts_and_longest_texts_are_followed(sentence: Callable[..., Path]) -> None:
    from sentence_transformers import SentenceTransformer

    prompts = {"prompts": {"query": "one two ", "document": ""}, "default_prompt_name": "query"}
    folder = sentence("bert", "mean", unit=True, longest=6, **prompts)
    expected = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    encoder = load_encoder(str(folder), device="cpu")
    assert len(encoder.prepare(TEXTS[1])) == 6
    assert encoder.spec.transform["prompt"] == "one two "
    np.testing.assert_allclose(_pooled(encoder), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode_max_tokens": True}, None),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, None),
    ],
)
def test_poolings_of_old_and_new_checkpoints(
    text_checkpoint: Checkpoint, tmp_path: Path, settings: dict[str, Any], expected: str | None
) -> None:
    folder = tmp_path / "old"
    shutil.copytree(text_checkpoint("bert"), folder)
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    if expected is None:
        with pytest.raises(InputError, match="choose with --pooling"):
            load_encoder(str(folder), device="cpu")
        assert load_encoder(str(folder), pooling="mean", device="cpu").spec.pooling == "mean"
    else:
        assert load_encoder(str(folder), device="cpu").spec.pooling == expected
    dense = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    (folder / "modules.json").write_text(json.dumps([*modules, dense]))
    with pytest.raises(InputError, match="Dense module, which is not supported"):
        load_encoder(str(folder), pooling="mean", device="cpu")


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "llama", "modernbert", "qwen3"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_changes_nothing(
    make: Checkpoint, text_checkpoint: Checkpoint, tmp_path: Path, kind: str, side: str
) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = tmp_path / "copy"
    shutil.copytree(make(kind) if kind in ("modernbert", "qwen3") else text_checkpoint(kind), folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "padding_side": side}))
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    assert tokenizer.padding_side == side
    expected = []
    with torch.inference_mode():
        for text in TEXTS:
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
            expected.append(
                (hidden[0] if kind in ("bert", "roberta", "modernbert") else hidden.mean(dim=0)).numpy()
            )
    encoder = load_encoder(str(folder), device="cpu")
    np.testing.assert_allclose(_pooled(encoder), np.stack(expected), rtol=1e-4, atol=1e-5)
    _check_batches(encoder)
    _check_batches(load_encoder(str(folder), pooling="last", device="cpu"))
    if side == "right" and kind in GOLDEN:
        _check_golden(kind, _pooled(encoder)[:3])


def test_siglips_text_tower_pools_the_last_position_of_a_full_context(make: Checkpoint) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = make("siglip")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    given = tokenizer(TEXTS, padding="max_length", max_length=24, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        expected = model.get_text_features(input_ids=given["input_ids"]).pooler_output.numpy()
    encoder = load_encoder(f"hf_text:{folder}", device="cpu")
    np.testing.assert_allclose(_pooled(encoder), expected, rtol=1e-4, atol=1e-5)
    assert encoder.spec.joint_space is not None
    encoded = encoder.encode([encoder.prepare(text) for text in TEXTS], tokens=True)
    assert encoded.lengths is not None
    assert encoded.lengths.tolist() == given["attention_mask"].sum(dim=1).tolist()
    _check_batches(encoder)
    _check_golden("siglip", expected[:3])
    with pytest.raises(InputError, match="siglip model"):
        load_encoder(str(folder), device="cpu")


def test_a_model_without_a_text_tower_is_refused(text_checkpoint: Checkpoint) -> None:
    with pytest.raises(InputError, match="is a bert model; expected one of clap"):
        load_encoder(f"hf_text:{text_checkpoint('bert')}", device="cpu")


def test_dinov3_pools_its_patches(tmp_path: Path, pictures: Manifest) -> None:
    import timm
    import torch
    from safetensors.torch import save_file

    arguments = {"embed_dim": 24, "depth": 2, "num_heads": 2, "img_size": 32}
    model = timm.create_model("vit_small_patch16_dinov3", num_classes=0, **arguments).eval()
    fill(model)
    folder = tmp_path / "tiny-dinov3"
    folder.mkdir()
    save_file(model.state_dict(), folder / "model.safetensors")
    config = {
        "architecture": "vit_small_patch16_dinov3",
        "num_classes": 0,
        "model_args": arguments,
        "pretrained_cfg": {"input_size": [3, 32, 32], "crop_pct": 1.0, "num_classes": 0, "license": "dinov3"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    encoder = load_encoder(str(folder), device="cpu")
    images = [encoder.prepare(read_image(pictures.path(row))) for row in range(3)]
    found = encoder.encode(images, tokens=True)
    with torch.inference_mode():
        expected = model(torch.from_numpy(np.stack(images))).numpy()
    np.testing.assert_allclose(found.pooled, expected, rtol=1e-4, atol=1e-5)
    assert found.tokens is not None
    patches = found.tokens.reshape(3, 1 + 4 + 4, 24)[:, 5:]  # behind the class token and four registers
    np.testing.assert_allclose(found.pooled, patches.mean(axis=1), rtol=1e-4, atol=1e-5)
    _check_golden("dinov3", found.pooled)


def test_what_the_list_says_of_timms_models_is_so() -> None:
    import timm
    import torch

    for name, entry in list_encoders().items():
        if name.startswith("dinov3_vits"):
            with torch.device("meta"):
                model: Any = timm.create_model(
                    entry.spec.model.partition(".")[0], num_classes=0, img_size=224
                )
            assert timm.get_pretrained_cfg(entry.spec.model).hf_hub_id
            assert model.num_features == entry.spec.width
            count = sum(parameter.numel() for parameter in model.parameters())
            assert entry.spec.parameters == pytest.approx(count, rel=0.01)


def test_a_revision_can_be_pinned(
    text_checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    commits = ("1" * 40, "2" * 40)
    folder = tmp_path / "models--someone--tiny"
    for commit, kind in zip(commits, ("bert", "roberta"), strict=True):
        shutil.copytree(text_checkpoint(kind), folder / "snapshots" / commit)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commits[1])
    (folder / "refs" / "v1").write_text(commits[0])
    assert load_encoder("hf:someone/tiny", device="cpu").spec.revision == commits[1]
    for revision in (commits[0], "v1"):
        spec = load_encoder(f"hf:someone/tiny@{revision}", device="cpu").spec
        assert (spec.name, spec.revision) == ("hf:someone/tiny", commits[0])
        assert spec.weights_digest is not None
    with pytest.raises(InputError, match="not in the local cache"):
        load_encoder("hf:someone/tiny@v2", device="cpu")


def test_code_in_a_checkpoint_is_never_run(text_checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = tmp_path / "foreign"
    shutil.copytree(text_checkpoint("bert"), folder)
    config = json.loads((folder / "config.json").read_text())
    names = {"AutoConfig": "code.Config", "AutoModel": "code.Model"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "foreign", "auto_map": names}))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(InputError) as error:
        load_encoder(str(folder), device="cpu")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()
