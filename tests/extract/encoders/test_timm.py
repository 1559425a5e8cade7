"""timm encoders against direct calls of timm, on a tiny ViT made on the spot."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uml_cache import InputError
from uml_extract import Encoder, load_encoder, read_image
from uml_manifests import Manifest

GOLDEN = [77.2643, -4.496655, -4.37835, -5.311668, -4.721129]


@pytest.fixture(scope="module")
def encoder(vision_checkpoint: Path) -> Encoder:
    return load_encoder(str(vision_checkpoint), device="cpu")


def _prepared(encoder: Encoder, pictures: Manifest, count: int = 4) -> list[np.ndarray]:
    return [encoder.prepare(read_image(pictures.path(row))) for row in range(count)]


def _direct(folder: Path) -> Any:
    import timm

    return timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()


def test_own_transform_and_features_equal_timm(
    encoder: Encoder, vision_checkpoint: Path, pictures: Manifest
) -> None:
    import timm
    import torch

    model = _direct(vision_checkpoint)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    images = torch.stack([transform(read_image(pictures.path(row))) for row in range(4)])
    with torch.inference_mode():
        pooled, tokens = model(images).numpy(), model.forward_features(images).numpy()
    found = encoder.encode(_prepared(encoder, pictures), tokens=True)
    np.testing.assert_array_equal(found.pooled, pooled)
    np.testing.assert_array_equal(found.tokens, tokens.reshape(4 * 17, 24))
    assert found.lengths is not None
    assert found.lengths.tolist() == [17] * 4
    assert encoder.token_counts(pictures).tolist() == [17] * 150


def test_golden_values(encoder: Encoder, pictures: Manifest) -> None:
    pooled = encoder.encode(_prepared(encoder, pictures)).pooled
    found = [float(np.abs(pooled).sum()), *(pooled @ np.cos(np.arange(24))).tolist()]
    np.testing.assert_allclose(found, GOLDEN, rtol=1e-4)


def test_the_spec_says_what_was_loaded(encoder: Encoder, vision_checkpoint: Path) -> None:
    import hashlib

    spec = encoder.spec
    digest = hashlib.sha256((vision_checkpoint / "model.safetensors").read_bytes()).hexdigest()
    assert (spec.name, spec.library, spec.modality, spec.width, spec.token_width) == (
        "tiny-vit",
        "timm",
        "image",
        24,
        24,
    )
    assert (spec.weights_digest, spec.pooling, spec.layer, spec.licence) == (digest, "cls", -1, "mit")
    assert spec.transform["preset"] == "own"
    assert spec.transform["input_size"] == [3, 32, 32]
    assert spec.transform["crop_pct"] == 0.9
    json.dumps(spec.to_json(), allow_nan=False)
    assert encoder.variant == ()


def test_features_do_not_depend_on_the_batch(encoder: Encoder, pictures: Manifest) -> None:
    images = _prepared(encoder, pictures, 6)
    alone = np.concatenate([encoder.encode([image]).pooled for image in images])
    np.testing.assert_allclose(encoder.encode(images).pooled, alone, rtol=1e-4, atol=1e-5)


def test_pooling_and_layers(vision_checkpoint: Path, pictures: Manifest) -> None:
    import torch

    model = _direct(vision_checkpoint)
    mean = load_encoder(str(vision_checkpoint), pooling="mean", device="cpu")
    images = _prepared(mean, pictures)
    with torch.inference_mode():
        tokens = model.forward_features(torch.from_numpy(np.stack(images)))
        inner = model.blocks[0](
            model.norm_pre(model._pos_embed(model.patch_embed(torch.from_numpy(np.stack(images)))))
        )
    np.testing.assert_allclose(mean.encode(images).pooled, tokens[:, 1:].mean(dim=1), rtol=1e-5, atol=1e-6)
    assert mean.variant == ("mean",)
    first = load_encoder(str(vision_checkpoint), layer=0, device="cpu")
    assert first.variant == ("layer0",)
    found = first.encode(images, tokens=True)
    np.testing.assert_allclose(found.pooled, inner[:, 0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.tokens, inner.flatten(0, 1), rtol=1e-5, atol=1e-6)
    # one layer, one name: the last and a middle one, however they are written
    assert load_encoder(str(vision_checkpoint), layer=2, device="cpu").variant == ()
    assert load_encoder(str(vision_checkpoint), layer=-3, device="cpu").spec.layer == 0
    assert load_encoder(str(vision_checkpoint), pooling="cls", device="cpu").variant == ()
    with pytest.raises(InputError, match="layers 0 to 2"):
        load_encoder(str(vision_checkpoint), layer=3, device="cpu")
    with pytest.raises(InputError, match="last is for texts"):
        load_encoder(str(vision_checkpoint), pooling="last", device="cpu")


def test_paper_transform(vision_checkpoint: Path, pictures: Manifest) -> None:
    encoder = load_encoder(str(vision_checkpoint), transform="paper", device="cpu")
    assert encoder.variant == ("paper",)
    assert encoder.spec.transform["input_size"] == [3, 224, 224]
    image = read_image(pictures.path(0))
    prepared = encoder.prepare(image)
    assert prepared.shape == (3, 224, 224)
    from PIL import Image

    cut = np.asarray(image.resize((269, 224), Image.Resampling.BICUBIC))[:, 22:246]
    mean = np.array([0.48145466, 0.4578275, 0.40821073])
    std = np.array([0.26862954, 0.26130258, 0.27577711])
    expected = ((cut / 255 - mean) / std).transpose(2, 0, 1)
    assert np.abs(prepared - expected).mean() < 0.02


def test_short_name_is_pinned_at_224_and_takes_weights(tmp_path: Path) -> None:
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = timm.create_model("vit_small_patch14_dinov2.lvd142m", num_classes=0)  # at its own 518 pixels
    save_file(model.state_dict(), tmp_path / "dinov2.safetensors")
    encoder = load_encoder("dinov2_vits14", weights=tmp_path / "dinov2.safetensors", device="cpu")
    assert (encoder.spec.name, encoder.spec.width, encoder.spec.token_width) == ("dinov2_vits14", 384, 384)
    assert encoder.spec.transform["input_size"] == [3, 224, 224]
    assert encoder.spec.transform["crop_pct"] == 1.0
    encoded = encoder.encode([np.zeros((3, 224, 224), np.float32)], tokens=True)
    assert encoded.lengths is not None
    assert encoded.lengths.tolist() == [257]


def test_convolutional_models_give_their_map_as_tokens(tmp_path: Path) -> None:
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=0)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    encoder = load_encoder("timm:resnet10t", weights=tmp_path, device="cpu")
    size = encoder.spec.transform["input_size"]
    image = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    encoded = encoder.encode([image], tokens=True)
    with torch.inference_mode():
        picture = torch.from_numpy(image[None])
        plain = model.eval()(picture).numpy()
        expected = model(picture.contiguous(memory_format=torch.channels_last)).numpy()  # as on a CPU here
    np.testing.assert_allclose(encoded.pooled, expected, rtol=1e-6)
    np.testing.assert_allclose(encoded.pooled, plain, rtol=1e-4, atol=1e-5)
    assert encoded.tokens is not None
    np.testing.assert_allclose(encoded.tokens.mean(axis=0), expected[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="no class token"):
        load_encoder("timm:resnet10t", weights=tmp_path, pooling="cls", device="cpu")


class _Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.write_text, (self.marker, "boom")


@pytest.mark.parametrize("suffix", ["pt", "pth", "bin"])
def test_a_pickle_with_code_is_refused_and_nothing_runs(tmp_path: Path, suffix: str) -> None:
    import torch

    marker, bomb = tmp_path / "marker", _Bomb(tmp_path / "marker")
    (tmp_path / f"plain.{suffix}").write_bytes(pickle.dumps({"w": bomb}))
    torch.save({"w": bomb, "v": torch.zeros(1)}, tmp_path / f"torch.{suffix}")
    for name in ("plain", "torch"):
        with pytest.raises(InputError, match="could run code"):
            load_encoder("dinov2_vits14", weights=tmp_path / f"{name}.{suffix}", device="cpu")
    assert not marker.exists()
    pickle.loads((tmp_path / f"plain.{suffix}").read_bytes())
    assert marker.exists()  # the bomb was live


def test_torch_weights_load_like_safetensors(
    tmp_path: Path, vision_checkpoint: Path, encoder: Encoder, pictures: Manifest
) -> None:
    import torch
    from safetensors.torch import load_file

    state = load_file(vision_checkpoint / "model.safetensors")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "weights.pth")
    other = load_encoder(str(vision_checkpoint), weights=tmp_path / "weights.pth", device="cpu")
    images = _prepared(encoder, pictures)
    assert np.array_equal(other.encode(images).pooled, encoder.encode(images).pooled)
    assert other.spec.weights_digest != encoder.spec.weights_digest


def test_missing_tensors_are_noticed_where_timm_is_lenient(tmp_path: Path, vision_checkpoint: Path) -> None:
    from safetensors.torch import load_file, save_file

    config = json.loads((vision_checkpoint / "config.json").read_text())
    config["num_classes"] = config["pretrained_cfg"]["num_classes"] = (
        10  # a classifier, which is left out: timm is not strict then
    )
    (tmp_path / "config.json").write_text(json.dumps(config))
    state = load_file(vision_checkpoint / "model.safetensors")
    save_file(state, tmp_path / "model.safetensors")
    assert load_encoder(str(tmp_path), device="cpu").spec.width == 24
    save_file({n: v for n, v in state.items() if "blocks.1" not in n}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"do not fit the model \(Missing keys \(blocks\.1"):
        load_encoder(str(tmp_path), device="cpu")


def test_weights_that_do_not_fit_are_refused(tmp_path: Path, vision_checkpoint: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(vision_checkpoint / "model.safetensors")
    wrong = {
        "less": {name: value for name, value in state.items() if "blocks.1" not in name},
        "other": {name.replace("blocks", "layers"): value for name, value in state.items()},
        "shape": {name: value[..., :-1].clone() for name, value in state.items()},
    }
    for name, tensors in wrong.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
        with pytest.raises(InputError, match="do not fit"):
            load_encoder(str(vision_checkpoint), weights=tmp_path / f"{name}.safetensors", device="cpu")
    whole = (vision_checkpoint / "model.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "none").mkdir()
    for name, words in {
        "cut.safetensors": "not a sound safetensors",
        "cut.pth": "cannot be read",
        "notes.txt": "unknown kind of file",
        "none": "found none",
        "absent.pth": "no such file",
    }.items():
        with pytest.raises(InputError, match=words):
            load_encoder(str(vision_checkpoint), weights=tmp_path / name, device="cpu")


def test_folders_that_are_no_models(tmp_path: Path, vision_checkpoint: Path) -> None:
    with pytest.raises(InputError, match=r"no config\.json"):
        load_encoder(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="names neither"):
        load_encoder(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        load_encoder(str(tmp_path))
    shutil.copy(vision_checkpoint / "config.json", tmp_path / "config.json")
    with pytest.raises(InputError, match="found none"):
        load_encoder(str(tmp_path))


def test_unknown_timm_id_is_answered_with_the_closest() -> None:
    with pytest.raises(InputError, match="vit_base_patch16_224"):
        load_encoder("timm:vit_bse_patch16_224.dino")
