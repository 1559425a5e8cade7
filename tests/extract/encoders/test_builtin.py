"""Built-in encoders: what they promise of their numbers, and golden values."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from uml_cache import InputError
from uml_extract import Encoder, Sound, load_encoder, read_sample
from uml_manifests import Manifest

NAMES = ("pixels", "hog-color", "hashed-ngrams", "log-mel")


def _samples(encoder: Encoder, request: pytest.FixtureRequest, count: int) -> list[np.ndarray]:
    fixture = {"image": "pictures", "text": "texts", "audio": "sounds"}[encoder.spec.modality]
    manifest: Manifest = request.getfixturevalue(fixture)
    rate, seconds = encoder.input_rate, encoder.input_seconds
    return [encoder.prepare(read_sample(manifest, row, rate=rate, seconds=seconds)) for row in range(count)]


def _pooled(encoder: Encoder, samples: Sequence[Any]) -> np.ndarray:
    return encoder.encode([encoder.prepare(sample) for sample in samples]).pooled


@pytest.mark.parametrize("name", NAMES)
def test_shapes_are_those_of_the_spec_and_tokens_those_that_were_planned(
    name: str, request: pytest.FixtureRequest
) -> None:
    encoder = load_encoder(name)
    encoded = encoder.encode(_samples(encoder, request, 20), tokens=True)
    assert encoded.pooled.shape == (20, encoder.spec.width)
    assert encoded.pooled.dtype == np.float32
    assert encoded.tokens is not None
    assert encoded.lengths is not None
    assert encoded.tokens.shape == (encoded.lengths.sum(), encoder.spec.token_width)
    fixture = {"image": "pictures", "text": "texts", "audio": "sounds"}[encoder.spec.modality]
    counts = encoder.token_counts(request.getfixturevalue(fixture))
    assert counts.dtype == np.int32
    assert np.array_equal(counts[:20], encoded.lengths)


@pytest.mark.parametrize("name", NAMES)
def test_features_do_not_depend_on_the_batch(name: str, request: pytest.FixtureRequest) -> None:
    encoder = load_encoder(name)
    samples = _samples(encoder, request, 12)
    together = encoder.encode(samples, tokens=True)
    backwards = encoder.encode(samples[::-1], tokens=True).pooled[::-1]
    alone = [encoder.encode([sample], tokens=True) for sample in samples]
    np.testing.assert_allclose(together.pooled, np.concatenate([one.pooled for one in alone]), atol=2e-6)
    np.testing.assert_allclose(together.pooled, backwards, atol=2e-6)
    tokens = np.concatenate([one.tokens for one in alone if one.tokens is not None])
    np.testing.assert_allclose(together.tokens, tokens, atol=2e-6)


# Of the first three samples: the sum of magnitudes, and each one's product with cos(0), cos(1), cos(2), …
GOLDEN = {
    "pixels": [3485.42, 0.479838, -0.646364, -0.0337088],
    "hog-color": [63.877, 0.572468, 0.203251, -0.247953],
    "hashed-ngrams": [23.464435577, -0.384734247, -0.039052095, -0.368189853],
    "log-mel": [251.992, 1.73814, 3.22025, 0.775323],
}


@pytest.mark.parametrize("name", NAMES)
def test_golden_values(name: str, request: pytest.FixtureRequest) -> None:
    encoder = load_encoder(name)
    pooled = encoder.encode(_samples(encoder, request, 3)).pooled
    found = [float(np.abs(pooled).sum()), *(pooled @ np.cos(np.arange(pooled.shape[1]))).tolist()]
    np.testing.assert_allclose(found, GOLDEN[name], rtol=1e-4)


def test_pixels_are_the_pixels() -> None:
    values = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    encoder = load_encoder("pixels")
    encoded = encoder.encode([encoder.prepare(Image.fromarray(values))], tokens=True)
    expected = values.astype(np.float32) / 127.5 - 1
    np.testing.assert_allclose(encoded.pooled[0], expected.ravel(), atol=1e-6)
    assert encoded.tokens is not None
    np.testing.assert_allclose(encoded.tokens[5], expected[8:16, 8:16].ravel(), atol=1e-6)


def test_hog_sees_the_direction_of_an_edge_and_not_its_sign() -> None:
    encoder = load_encoder("hog-color")
    upright = np.zeros((64, 64, 3), np.uint8)
    upright[:, 30:] = 200
    images = [
        Image.fromarray(values)
        for values in (upright, upright[:, ::-1].copy(), upright.swapaxes(0, 1).copy())
    ]
    left, right, lying = _pooled(encoder, images)[:, :324].reshape(3, 9, 4, 9).sum(axis=(1, 2))
    assert left.argmax() == right.argmax() == 0  # a horizontal gradient is orientation 0 …
    assert lying.argmax() == 4  # … and a vertical one at 90 degrees half way through the nine
    flat = _pooled(encoder, [Image.new("RGB", (48, 48), (10, 200, 30))])
    assert not flat[:, :324].any()
    assert np.linalg.norm(flat[:, 324:]) == pytest.approx(1)


def test_ngrams_bring_kindred_words_together_and_notice_order() -> None:
    pup, puppy, car, ab, ba = _pooled(
        load_encoder("hashed-ngrams"), ["a pup", "a puppy", "a car", "red dog blue cat", "blue dog red cat"]
    )
    assert pup @ puppy > pup @ car + 0.05
    assert 0.5 < ab @ ba < 0.999
    assert np.allclose([np.linalg.norm(v) for v in (pup, puppy, car)], 1)
    same = _pooled(load_encoder("hashed-ngrams"), ["Ａ  PUP"])[0]  # full-width letter, capitals, two spaces
    assert np.array_equal(same, pup)


def test_ngrams_are_the_same_in_another_process() -> None:
    code = (
        "from uml_extract import load_encoder; e = load_encoder('hashed-ngrams');"
        "print(e.encode([e.prepare('a striped star')]).pooled.tobytes().hex())"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1


def test_log_mel_finds_the_pitch_and_a_short_sound_is_padded() -> None:
    encoder = load_encoder("log-mel")

    def tone(frequency: float, count: int) -> Sound:
        values = 0.5 * np.sin(2 * np.pi * frequency * np.arange(count) / 16_000)
        return Sound(values.astype(np.float32), 16_000)

    pooled = _pooled(encoder, [tone(300, 8_000), tone(3_000, 8_000), tone(3_000, 100)])
    low, high, short = pooled[:, :64].argmax(axis=1)
    assert low < 12 < high
    assert abs(int(short) - int(high)) <= 3
    assert pooled[1, 64:].mean() < 0.3  # a steady tone hardly varies over time
    assert encoder.encode([encoder.prepare(tone(300, 560))], tokens=True).lengths == [2]


def test_built_in_encoders_need_no_torch() -> None:
    code = (
        "import sys; from uml_extract import load_encoder, list_encoders; list_encoders();"
        f"[load_encoder(name) for name in {NAMES!r}];"
        "heavy = {'torch', 'timm', 'transformers', 'huggingface_hub'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "option",
    [{"pooling": "mean"}, {"layer": 3}, {"transform": "paper"}, {"weights": "."}, {"device": "cuda"}],
)
def test_built_in_encoders_refuse_options_they_do_not_have(option: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="hog-color"):
        load_encoder("hog-color", **option)
