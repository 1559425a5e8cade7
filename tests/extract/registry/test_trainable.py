"""Encoders that are trained: the same features, the way back to a checkpoint, layers that see."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tiny_checkpoints import put_clip, put_language, put_vit, put_wav2vec
from uml_cache import InputError
from uml_extract import Sound, Trainable, load_encoder, load_trainable


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trainable")
    put_vit(folder / "vit")
    put_language(folder / "bert", "bert")
    put_language(folder / "gpt2", "gpt2")
    put_wav2vec(folder / "wav2vec")
    put_clip(folder / "clip", "vit")
    put_clip(folder / "clip_resnet", "resnet")
    put_clip(folder / "clip_timm", "timm")
    return folder


def _samples(kind: str, encoder: Any) -> list[np.ndarray]:
    from PIL import Image

    generator = np.random.default_rng(0)
    if kind == "wav2vec":
        sounds = [generator.standard_normal(n).astype(np.float32) for n in (900, 700, 900)]
        return [encoder.prepare(Sound(sound, 16_000)) for sound in sounds]
    if kind in ("bert", "gpt2"):
        return [encoder.prepare(text) for text in ("a red photo", "the drawing of one blue photo", "green")]
    pictures = [generator.integers(0, 255, (20, 24, 3), dtype=np.uint8) for _ in range(3)]
    return [encoder.prepare(Image.fromarray(picture)) for picture in pictures]


def _change(network: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.25)


@pytest.mark.parametrize("kind", ["vit", "bert", "gpt2", "wav2vec", "clip", "clip_resnet", "clip_timm"])
def test_features_are_those_of_extraction_and_survive_saving(kind: str, models: Path, tmp_path: Path) -> None:
    encoder = load_trainable(str(models / kind), device="cpu")
    frozen = load_encoder(str(models / kind), device="cpu")
    samples = _samples(kind, frozen)
    features = encoder.features(encoder.inputs(samples))
    np.testing.assert_allclose(features.detach(), frozen.encode(samples).pooled, rtol=1e-5, atol=1e-6)
    encoder.network.requires_grad_(True)
    encoder.features(encoder.inputs(samples)).square().sum().backward()
    named = {name for names in encoder.depths() for name in names}
    without = {n for n, p in encoder.network.named_parameters() if p.grad is None}
    assert without.isdisjoint(named)
    assert len(encoder.depths()) == {"clip_resnet": 5, "clip_timm": 7}.get(kind, 4)
    assert all(encoder.depths())
    assert sorted(named) == sorted(n for n, p in encoder.network.named_parameters() if p.grad is not None)
    _change(encoder.network)
    expected = encoder.features(encoder.inputs(samples)).detach()
    encoder.save(tmp_path / "tuned")
    again = load_encoder(str(tmp_path / "tuned"), device="cpu")
    np.testing.assert_allclose(again.encode(samples).pooled, expected, rtol=1e-4, atol=1e-5)
    assert not np.allclose(expected, features.detach())
    fresh = encoder.fresh().state_dict()
    assert {k: v.shape for k, v in fresh.items()} == {
        k: v.shape for k, v in encoder.network.state_dict().items()
    }


def test_a_tuned_image_tower_is_written_with_its_text_tower(models: Path, tmp_path: Path) -> None:
    import open_clip

    encoder = load_trainable(str(models / "clip"), device="cpu")
    samples = _samples("clip", encoder)
    _change(encoder.network)
    encoder.save(tmp_path / "tuned")
    theirs, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'tuned'}")
    expected = encoder.features(encoder.inputs(samples)).detach()
    torch.testing.assert_close(theirs.eval().encode_image(encoder.inputs(samples)).detach(), expected)
    images, texts = (
        load_encoder(f"{kind}:{tmp_path / 'tuned'}", device="cpu") for kind in ("open_clip", "open_clip_text")
    )
    before = load_encoder(f"open_clip_text:{models / 'clip'}", device="cpu")
    words = [texts.prepare("a red photo")]
    np.testing.assert_array_equal(texts.encode(words).pooled, before.encode(words).pooled)
    assert images.spec.joint_space == texts.spec.joint_space != before.spec.joint_space


def test_an_image_tower_is_frozen_stage_by_stage(models: Path) -> None:
    first, *stages = load_trainable(str(models / "clip_resnet"), device="cpu").depths()
    assert {name.partition(".")[0] for name in first} == {"conv1", "bn1", "conv2", "bn2", "conv3", "bn3"}
    assert [{name.partition(".")[0] for name in names} for names in stages] == [
        {"layer1"}, {"layer2"}, {"layer3"}, {"layer4", "attnpool"}
    ]  # fmt: skip
    first, *blocks = load_trainable(str(models / "clip"), device="cpu").depths()
    assert {name.partition(".")[0] for name in first} == {
        "class_embedding", "positional_embedding", "conv1", "ln_pre"
    }  # fmt: skip
    assert {"proj", "ln_post.weight", "transformer.resblocks.2.ln_1.weight"} < set(blocks[2])
    larger = load_trainable(str(models / "clip"), img_size=32, device="cpu")
    assert larger.features(torch.zeros(1, 3, 32, 32)).shape == (1, 16)
    assert larger.spec.transform["size"] == [32, 32]


def _seeing(models: Path, kind: str) -> Trainable:
    return load_trainable(f"patches:{models / kind}", img_size=16, patch_size=4, device="cpu")


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_every_patch_attends_to_every_other_in_every_layer(kind: str, models: Path) -> None:
    encoder = _seeing(models, kind)
    network: Any = encoder.network.eval()
    with torch.no_grad():
        for layer in network.layers:
            tokens = torch.randn(1, 17, 24, generator=torch.Generator().manual_seed(1))
            out = layer(tokens)
            before = out[0] if isinstance(out, tuple) else out
            before = before if before.ndim == 3 else before[None]
            for changed in (0, 5, 16):
                other = tokens.clone()
                other[0, changed] *= -1  # a constant added would vanish in a norm
                after = layer(other)
                after = after[0] if isinstance(after, tuple) else after
                after = after if after.ndim == 3 else after[None]
                moved = (after - before).abs().amax(-1)[0] > 1e-7
                assert moved.all(), f"token {changed} is not seen by {(~moved).nonzero().flatten().tolist()}"
        image = torch.zeros(1, 3, 16, 16)
        late = image.clone()
        late[..., -4:, -4:] = 1.0  # the last patch alone
        assert not torch.allclose(network(image), network(late))
    assert all(not m.is_causal for m in network.modules() if hasattr(m, "is_causal"))


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_layers_are_the_language_models(kind: str, models: Path) -> None:
    import transformers

    network: Any = _seeing(models, kind).network
    own = transformers.AutoModel.from_pretrained(models / kind, dtype=torch.float32)
    theirs = own.encoder.layer if kind == "bert" else own.h
    for ours, layer in zip(network.layers, theirs, strict=True):
        for name, value in layer.state_dict().items():
            assert torch.equal(ours.state_dict()[name], value)
    if kind == "bert":  # whose own model, fed our tokens, computes the same
        images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(2))
        patches = network.patch_embed(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([network.cls_token.expand(2, -1, -1), patches], 1) + network.pos_embed
        same = own.eval().encoder(tokens).last_hidden_state
        torch.testing.assert_close(network.eval().forward_features(images), same, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_a_tuned_language_model_is_extracted_with(kind: str, models: Path, tmp_path: Path) -> None:
    encoder = _seeing(models, kind)
    assert set(encoder.loaded()) < set(encoder.network.state_dict())
    assert encoder.depths()[0] == []
    samples = _samples("vit", encoder)
    _change(encoder.network)
    expected = encoder.features(encoder.inputs(samples)).detach()
    encoder.save(tmp_path / "seeing")
    tuned = load_encoder(str(tmp_path / "seeing"), device="cpu")
    np.testing.assert_allclose(tuned.encode(samples).pooled, expected, rtol=1e-5, atol=1e-6)
    assert (tuned.spec.modality, tuned.spec.width) == ("image", 24)
    again = load_trainable(str(tmp_path / "seeing"), device="cpu")
    assert set(again.loaded()) == set(again.network.state_dict())
    assert "patch_embed.weight" in again.depths()[0]


def test_recomputing_in_layers_that_see_gives_the_same_gradient(models: Path) -> None:
    encoder = _seeing(models, "gpt2")
    encoder.network.requires_grad_(True)
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    gradients = []
    for _ in range(2):
        encoder.network.zero_grad()
        encoder.features(images).sum().backward()
        gradients.append([p.grad.clone() for p in encoder.network.parameters() if p.grad is not None])
        encoder.checkpoint_gradients()
    assert len(gradients[0]) == len(gradients[1]) > 40
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_recomputing_in_an_image_tower_gives_the_same_gradient(models: Path) -> None:
    encoder = load_trainable(str(models / "clip"), device="cpu")
    encoder.network.requires_grad_(True)
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    gradients = []
    for _ in range(2):
        encoder.network.zero_grad()
        encoder.features(images).square().sum().backward()
        gradients.append([p.grad.clone() for p in encoder.network.parameters() if p.grad is not None])
        encoder.checkpoint_gradients()
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)
    with pytest.raises(InputError, match="leave --recompute out"):
        load_trainable(str(models / "clip_resnet"), device="cpu").checkpoint_gradients()


def test_other_sizes_and_no_weights(models: Path) -> None:
    larger = load_trainable(str(models / "vit"), img_size=32, patch_size=4, device="cpu")
    assert larger.features(torch.zeros(1, 3, 32, 32)).shape == (1, 24)
    assert larger.spec.transform["input_size"] == [3, 32, 32]
    new = load_trainable("timm:vit_tiny_patch16_224", img_size=32, untrained=True, device="cpu")
    assert new.spec.weights_digest is None
    assert new.features(torch.zeros(1, 3, 32, 32)).shape == (1, 192)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("hog-color", {}, "cannot be trained"),
        ("patches:wav2vec", {}, "layers cannot see"),
        ("patches:bert", {"img_size": 30, "patch_size": 4}, "not cut into patches"),
        ("bert", {"img_size": 32}, "has no image size"),
        ("timm:resnet18", {"patch_size": 8, "untrained": True}, "has no patches"),
        ("clip", {"patch_size": 4}, "keeps its patches"),
        ("clip_resnet", {"img_size": 64}, "pictures of one size"),
        ("open_clip_text:clip", {}, "cannot be trained"),
    ],
)
def test_wrong_use_is_said(name: str, options: dict[str, Any], said: str, models: Path) -> None:
    prefix, colon, rest = name.partition(":")
    if (models / (rest or prefix)).is_dir():
        name = f"{prefix}:{models / rest}" if colon else str(models / prefix)
    with pytest.raises(InputError, match=said):
        load_trainable(name, device="cpu", **options)


def test_layers_that_have_not_seen_are_not_extracted_with(models: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has not seen an image yet"):
        load_encoder(f"patches:{models / 'bert'}", device="cpu")
    _seeing(models, "bert").save(tmp_path / "seeing")
    with pytest.raises(InputError, match="tuned at its size"):
        load_trainable(str(tmp_path / "seeing"), img_size=32, device="cpu")
    shutil.copy(models / "gpt2" / "model.safetensors", tmp_path / "seeing" / "model.safetensors")
    with pytest.raises(InputError, match="do not fit the model"):
        load_encoder(str(tmp_path / "seeing"), device="cpu")
