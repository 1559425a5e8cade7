"""open_clip towers against direct calls of open_clip, on tiny models made on the spot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest

from tiny_models import fill
from uml_cache import InputError
from uml_extract import Encoder, extract, list_encoders, load_encoder, read_image
from uml_manifests import Manifest

TEXTS = ["a red circle", "there is a photo of a small green star, with a long tone!", "square", "one " * 100]
CONFIGS: dict[str, dict[str, Any]] = {
    "vit": {
        "embed_dim": 16,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": 3, "width": 24, "head_width": 12, "patch_size": 8},
        "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 3},
    },
    "resnet": {
        "embed_dim": 16,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32},
        "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
    },
    "siglip": {
        "embed_dim": 96,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 160,
            "timm_model_name": "test_vit3",
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": {
            "context_length": 16,
            "vocab_size": 64,
            "hf_tokenizer_name": "someone/tiny",
            "tokenizer_kwargs": {"clean": "canonicalize"},
            "width": 24,
            "heads": 2,
            "layers": 3,
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
        },
    },
}
GOLDEN: dict[str, list[float]] = {
    "vit": [43.57365, 6.708588, 7.69196, 7.510236, 41.37627, 1.686769, 2.786939, 1.633416],
    "resnet": [21655.69, 5.391724, 6.282149, -22.06682, 31.72183, 0.6707537, 2.282082, 0.6479734],
    "siglip": [1125.172, 11.77213, 16.35118, 0.7804443, 221.583, 8.863081, -0.6909091, 7.973956],
}
Make = Callable[[str], Path]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, text_checkpoint: Callable[[str], Path]) -> Make:
    """kind → a folder as open_clip writes it: open_clip_config.json and open_clip_model.safetensors."""
    from safetensors.torch import save_file

    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            folder = tmp_path_factory.mktemp("open_clip") / kind
            folder.mkdir()
            config = json.loads(json.dumps(CONFIGS[kind]))
            content = {
                "model_cfg": config,
                "preprocess_cfg": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]},
            }
            (folder / "open_clip_config.json").write_text(json.dumps(content))
            if kind == "siglip":
                for file in ("tokenizer.json", "tokenizer_config.json"):
                    (folder / file).write_bytes((text_checkpoint("bert") / file).read_bytes())
            custom = config.pop("custom_text", False)
            model = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**config)
            fill(model)
            save_file(model.state_dict(), folder / "open_clip_model.safetensors")
            made[kind] = folder
        return made[kind]

    return make


@pytest.fixture(scope="module")
def direct(checkpoint: Make) -> Callable[[str], tuple[Any, Any, Any]]:
    """kind → model, transform and tokenizer, as open_clip itself loads them."""

    def load(kind: str) -> tuple[Any, Any, Any]:
        name = f"local-dir:{checkpoint(kind)}"
        model, _, transform = open_clip.create_model_and_transforms(name)
        return model.eval(), transform, open_clip.get_tokenizer(name)

    return load


def _image(checkpoint: Make, kind: str, **options: Any) -> Encoder:
    return load_encoder(str(checkpoint(kind)), device="cpu", **options)


def _text(checkpoint: Make, kind: str, **options: Any) -> Encoder:
    return load_encoder(f"open_clip_text:{checkpoint(kind)}", device="cpu", **options)


def _prepared(encoder: Encoder, pictures: Manifest, count: int = 3) -> list[np.ndarray]:
    return [encoder.prepare(read_image(pictures.path(row))) for row in range(count)]


@pytest.mark.parametrize("kind", CONFIGS)
def test_pictures_equal_the_library(
    checkpoint: Make, direct: Callable[[str], Any], pictures: Manifest, kind: str
) -> None:
    import torch

    model, transform, _ = direct(kind)
    images = torch.stack([transform(read_image(pictures.path(row))) for row in range(3)])
    encoder = _image(checkpoint, kind)
    prepared = _prepared(encoder, pictures)
    np.testing.assert_array_equal(np.stack(prepared), images)
    layout = torch.channels_last if kind == "resnet" else torch.contiguous_format  # of convolutions on a CPU
    with torch.inference_mode():
        plain = model.encode_image(images).numpy()
        expected = model.encode_image(images.contiguous(memory_format=layout)).numpy()
    np.testing.assert_array_equal(encoder.encode(prepared).pooled, expected)
    np.testing.assert_allclose(expected, plain, rtol=1e-4, atol=1e-5)
    both = encoder.encode(prepared, tokens=True)
    np.testing.assert_allclose(both.pooled, expected, rtol=1e-4, atol=1e-5)
    assert both.tokens is not None
    assert both.lengths is not None
    assert np.array_equal(both.lengths, encoder.token_counts(pictures)[:3])
    assert both.tokens.shape == (both.lengths.sum(), encoder.spec.token_width)
    alone = np.concatenate([encoder.encode([image]).pooled for image in prepared])
    np.testing.assert_allclose(alone, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", CONFIGS)
def test_texts_equal_the_library_and_do_not_depend_on_their_batch(
    checkpoint: Make, direct: Callable[[str], Any], kind: str
) -> None:
    import torch

    model, _, tokenize = direct(kind)
    with torch.inference_mode():
        expected = np.concatenate([model.encode_text(tokenize([text])).numpy() for text in TEXTS])
    encoder = _text(checkpoint, kind)
    prepared = [encoder.prepare(text) for text in TEXTS]
    np.testing.assert_allclose(encoder.encode(prepared).pooled, expected, rtol=1e-4, atol=1e-5)
    backwards = encoder.encode(prepared[::-1], tokens=True)
    np.testing.assert_allclose(backwards.pooled[::-1], expected, rtol=1e-4, atol=1e-5)


def test_tokens_of_a_vit_are_its_normalised_last_layer(
    checkpoint: Make, direct: Callable[[str], Any], pictures: Manifest
) -> None:
    import torch

    visual = direct("vit")[0].visual
    encoder = _image(checkpoint, "vit")
    images = _prepared(encoder, pictures)
    found = encoder.encode(images, tokens=True)
    assert found.tokens is not None
    tokens = found.tokens.reshape(3, 17, 24)
    np.testing.assert_allclose(
        tokens[:, 0] @ visual.proj.detach().numpy(), found.pooled, rtol=1e-4, atol=1e-5
    )
    mean = _image(checkpoint, "vit", pooling="mean")
    assert (mean.variant, mean.spec.joint_space, mean.spec.width) == (("mean",), None, 24)
    np.testing.assert_allclose(mean.encode(images).pooled, tokens[:, 1:].mean(axis=1), rtol=1e-4, atol=1e-5)
    inner = _image(checkpoint, "vit", layer=0)
    assert (inner.variant, inner.spec.pooling) == (("layer0",), "cls")
    with torch.inference_mode():
        block = visual.transformer.resblocks[0](visual._embeds(torch.from_numpy(np.stack(images))))
    np.testing.assert_allclose(inner.encode(images).pooled, block[:, 0], rtol=1e-4, atol=1e-5)


def test_tokens_of_a_text_are_its_own(
    checkpoint: Make, direct: Callable[[str], Any], texts: Manifest
) -> None:
    encoder = _text(checkpoint, "vit")
    counts = encoder.token_counts(texts)
    prepared = [encoder.prepare(text) for text in texts.sources[:5]]
    found = encoder.encode(prepared, tokens=True)
    assert found.lengths is not None
    assert found.tokens is not None
    assert np.array_equal(found.lengths, counts[:5])
    projection = direct("vit")[0].text_projection.detach().numpy()
    ends = np.cumsum(counts[:5]) - 1  # the end token, which CLIP pools
    np.testing.assert_allclose(found.tokens[ends] @ projection, found.pooled, rtol=1e-4, atol=1e-5)
    last = _text(checkpoint, "vit", pooling="last")
    np.testing.assert_allclose(last.encode(prepared).pooled, found.tokens[ends], rtol=1e-4, atol=1e-5)
    assert int(_text(checkpoint, "siglip").token_counts(texts).max()) <= 16
    assert len(set(counts)) > 3


def test_exclamation_marks_are_text_though_their_id_is_that_of_the_filling(checkpoint: Make) -> None:
    encoder = _text(checkpoint, "vit")
    assert encoder.encode([encoder.prepare("!")], tokens=True).lengths == [3]


@pytest.mark.parametrize("kind", CONFIGS)
def test_golden_values(checkpoint: Make, pictures: Manifest, kind: str) -> None:
    image, text = _image(checkpoint, kind), _text(checkpoint, kind)
    found = []
    for pooled in (
        image.encode(_prepared(image, pictures)).pooled,
        text.encode([text.prepare(each) for each in TEXTS[:3]]).pooled,
    ):
        found += [float(np.abs(pooled).sum()), *(pooled @ np.cos(np.arange(pooled.shape[1]))).tolist()]
    for part in np.split(np.array([found, GOLDEN[kind]]), 2, axis=1):
        # A product is what is left of thousands of values that cancel: float32 rounds it by their size.
        np.testing.assert_allclose(part[0], part[1], rtol=1e-4, atol=1e-7 * part[1, 0])


def test_the_towers_share_a_space_and_its_name(checkpoint: Make) -> None:
    image, text = _image(checkpoint, "vit"), _text(checkpoint, "vit")
    assert (image.spec.name, text.spec.name) == ("vit", "vit_text")
    assert image.spec.joint_space == text.spec.joint_space is not None
    assert image.spec.joint_space != _image(checkpoint, "resnet").spec.joint_space
    assert image.spec.transform["activation"] == "quick_gelu"
    assert _image(checkpoint, "siglip").spec.transform["activation"] == "gelu"
    json.dumps([image.spec.to_json(), text.spec.to_json()], allow_nan=False)
    listed = {name: entry.spec for name, entry in list_encoders().items()}
    for name in ("clip_vitb16", "clip_rn50", "siglip2_vitb16"):
        assert listed[name].joint_space == listed[f"{name}_text"].joint_space == name
        assert (listed[name].modality, listed[f"{name}_text"].modality) == ("image", "text")


def test_the_original_activation_is_used_whatever_the_architecture_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    tiny = {**CONFIGS["vit"], "quick_gelu": False}  # as ViT-B-16.json has it
    real = open_clip.get_model_config
    monkeypatch.setattr(
        open_clip,
        "get_model_config",
        lambda name: json.loads(json.dumps(tiny)) if name == "ViT-B-16" else real(name),
    )
    model = open_clip.CLIP(**tiny)
    fill(model)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    weights = tmp_path / "w.safetensors"
    encoder = load_encoder("open_clip:ViT-B-16/openai", weights=weights, device="cpu")
    assert encoder.spec.transform["activation"] == "quick_gelu"
    assert encoder.spec.transform["mean"][0] == pytest.approx(0.48145466)
    plain = load_encoder(
        "open_clip:ViT-B-16/laion2b_s34b_b88k", weights=tmp_path / "w.safetensors", device="cpu"
    )
    assert plain.spec.transform["activation"] == "gelu"
    image = [np.random.Generator(np.random.Philox(1)).standard_normal((3, 32, 32)).astype(np.float32)]
    assert np.abs(encoder.encode(image).pooled - plain.encode(image).pooled).max() > 1e-4


@pytest.mark.parametrize("name", ["clip_vitb16", "clip_vitb16_text", "clip_rn50", "siglip2_vitb16_text"])
def test_offline_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set") as error:
        load_encoder(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("open_clip:ViT-B-61/openai", {}, "did you mean"),
        ("open_clip:ViT-B-16/opneai", {}, "did you mean openai"),
        ("open_clip:ViT-B-16", {}, "names no weights"),
        ("open_clip_text:ViT-B-16", {"transform": "paper"}, "names no weights"),
        ("VIT", {"layer": 3}, "layers 0 to 2"),
        ("VIT", {"pooling": "last"}, "for texts"),
        ("VIT", {"transform": "paper"}, "224×224"),
        ("RESNET", {"pooling": "cls"}, "no class token"),
        ("TEXT", {"pooling": "cls"}, "no summary"),
        ("TEXT", {"transform": "paper"}, "is for texts"),
    ],
)
def test_mistakes(checkpoint: Make, name: str, options: dict[str, Any], words: str) -> None:
    folders = {"VIT": "vit", "RESNET": "resnet"}
    if name == "TEXT":
        name = f"open_clip_text:{checkpoint('vit')}"
    elif name in folders:
        name = str(checkpoint(folders[name]))
    with pytest.raises(InputError, match=words) as error:
        load_encoder(name, device="cpu", **options)
    assert "\n" not in str(error.value)


def test_weights_of_another_model_and_pickles_are_refused(checkpoint: Make, tmp_path: Path) -> None:
    import pickle

    import torch

    weights = checkpoint("resnet") / "open_clip_model.safetensors"
    with pytest.raises(InputError, match="do not fit"):
        load_encoder(str(checkpoint("vit")), weights=weights, device="cpu")

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "worse.pt").write_bytes(pickle.dumps(Evil()))
    for file in ("evil.pt", "worse.pt"):
        with pytest.raises(InputError):
            load_encoder(str(checkpoint("vit")), weights=tmp_path / file, device="cpu")
    assert not (tmp_path / "ran").exists()


def test_a_store_of_both_towers(
    checkpoint: Make, pictures: Manifest, texts: Manifest, tmp_path: Path
) -> None:
    from uml_cache import open_features

    spaces = set()
    for manifest, encoder in ((pictures, _image(checkpoint, "vit")), (texts, _text(checkpoint, "vit"))):
        features = open_features(extract(manifest, encoder, out=tmp_path, tokens=True).store)
        assert features.pooled.shape == (150, 16)
        assert np.array_equal(features.tokens.lengths, encoder.token_counts(manifest))
        spaces.add(features.encoder["joint_space"])
    assert len(spaces) == 1
