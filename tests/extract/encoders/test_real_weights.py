"""Golden values with real weights, where they are: installed packages, or a folder that UML_REAL names.

    UML_REAL=FOLDER pytest -m real tests/extract

FOLDER, or its `weights/`, holds `tf_efficientnet_lite0.safetensors`, `…lite2…`, `all-MiniLM-L6-v2/` and
`all-mpnet-base-v2/`; what it lacks is taken from a package, else that test is skipped.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from library_passes import timm_features, timm_model, transformers_means
from uml_extract import list_encoders, load_encoder, read_image
from uml_extract.encoders.packages import installed_weights
from uml_manifests import Manifest

pytestmark = pytest.mark.real

# Sums of |features| and products with cosines, of four toy pictures.
GOLDEN = {
    "efficientnet_lite0": [635.230347, 3.145548, 4.789168, 2.406297, 2.848804],
    "efficientnet_lite2": [590.513977, -1.980193, 1.5447, -3.769049, 2.632352],
}
# Products of the vectors of these sentences with cosines.
SENTENCES = ("A red square.", "Two wedges, one of them blue, lie on a grey ground.")
GOLDEN_SENTENCES = {"minilm_l6": [1.077282, 0.169706], "mpnet_base": [0.149382, 0.332546]}
FILES = {
    "efficientnet_lite0": "tf_efficientnet_lite0.safetensors",
    "efficientnet_lite2": "tf_efficientnet_lite2.safetensors",
    "minilm_l6": "all-MiniLM-L6-v2",
    "mpnet_base": "all-mpnet-base-v2",
}


def places(name: str, folder: str | None) -> list[Path]:
    """Where an encoder's weights lie: in UML_REAL's folder, and in its package."""
    found = [Path(folder, part, FILES[name]) for part in ("", "weights")] if folder else []
    entry = list_encoders()[name]
    package = installed_weights(entry.package) if entry.package else None
    return [path for path in [*found, package] if path is not None and path.exists()]


@pytest.fixture
def weights(request: pytest.FixtureRequest) -> Path:
    """The weights of the encoder that the test is given."""
    name = request.getfixturevalue("name")
    folder = os.environ.get("UML_REAL")
    found = places(name, folder)
    if not found:
        pytest.skip(f"{name}: its package is not installed, and UML_REAL has no {FILES[name]}")
    return found[0]


@pytest.mark.parametrize("name", sorted(GOLDEN_SENTENCES))
def test_sentences(name: str, weights: Path) -> None:
    """The library's own pass, averaged over tokens and brought to unit length."""
    encoder = load_encoder(name, weights=weights, device="cpu")
    found = encoder.encode([encoder.prepare(sentence) for sentence in SENTENCES]).pooled
    np.testing.assert_allclose(found, transformers_means(weights, SENTENCES), atol=2e-6)
    np.testing.assert_allclose(found @ np.cos(np.arange(found.shape[1])), GOLDEN_SENTENCES[name], atol=1e-5)


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_pictures(name: str, weights: Path, pictures: Manifest) -> None:
    """timm's own transform and pass, and the stored numbers."""
    encoder = load_encoder(name, weights=weights, device="cpu")
    pooled = encoder.encode([encoder.prepare(read_image(pictures.path(row))) for row in range(4)]).pooled
    np.testing.assert_allclose(
        pooled, timm_features(timm_model(name, weights), pictures), rtol=1e-5, atol=1e-5
    )
    found = [float(np.abs(pooled).sum()), *(pooled @ np.cos(np.arange(1280))).tolist()]
    np.testing.assert_allclose(found, GOLDEN[name], rtol=1e-4)
