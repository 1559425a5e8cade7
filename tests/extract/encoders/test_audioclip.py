"""AudioCLIP's audio tower: its parts against plain numpy, the names of its parameters, both modes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.signal import get_window

from tiny_models import fill
from uml_cache import InputError
from uml_extract import Encoder, Sound, load_encoder

GOLDEN = [50.41543, -0.6435270, -0.3674921]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with the public one's names: `audio.*` beside the other towers' and the scales."""
    import torch

    from uml_extract.encoders.audioclip.esresnext import FFT, ESResNeXt

    model = ESResNeXt()
    fill(model)
    with torch.no_grad():
        model.fbsp.m.copy_(torch.linspace(0, 1.5, 1025))
        model.fbsp.fb.copy_(torch.linspace(0.5, 1.5, 1025))
        model.fbsp.fc.copy_(torch.arange(1025) + 0.1)
        model.window.copy_(torch.from_numpy(get_window("blackmanharris", 1654)))
        for value in model.parameters():
            if value.ndim == 4:  # keeps sixteen blocks' outputs from growing
                value *= 5 * (2 / value[0].numel()) ** 0.5
    assert FFT == 2048
    state = {f"audio.{name}": value for name, value in model.state_dict().items()}
    others = {"visual.conv1.weight": torch.ones(3), "logit_scale_ai": torch.ones(())}
    path = tmp_path_factory.mktemp("audioclip") / "AudioCLIP-Partial-Training.pt"
    torch.save({**state, **others}, path)
    return path


@pytest.fixture(scope="module")
def encoder(weights: Path) -> Encoder:
    return load_encoder("audioclip", weights=weights, device="cpu")


def _sounds(encoder: Encoder, count: int) -> list[np.ndarray]:
    sounds = []
    for seed in range(count):
        noise = np.random.Generator(np.random.Philox(seed)).standard_normal(44_100 * (2 + 4 * (seed % 2)))
        tone = np.sin(2 * np.pi * (200 + 150 * seed) * np.arange(len(noise)) / 44_100)
        sounds.append(encoder.prepare(Sound((0.3 * tone + 0.05 * noise).astype(np.float32), 44_100)))
    return sounds


def test_the_names_and_shapes_of_the_parameters_are_the_public_ones(weights: Path) -> None:
    import torch
    from torchvision.models import resnext50_32x4d

    state = torch.load(weights, weights_only=True)
    own = {
        name.removeprefix("audio."): tuple(value.shape) for name, value in state.items() if "audio." in name
    }
    trunk = {name: tuple(value.shape) for name, value in resnext50_32x4d().state_dict().items()}
    trunk["fc.weight"], trunk["fc.bias"] = (1024, 2048), (1024,)
    rest = {name: shape for name, shape in own.items() if name not in trunk}
    assert {name: own[name] for name in trunk} == trunk
    assert rest.pop("window") == (1654,)
    assert [rest.pop(f"fbsp.{name}") for name in ("m", "fb", "fc")] == [(1025,)] * 3
    gates = {f"att{i}": rest[f"att{i}.conv_point.weight"][:2] for i in range(1, 6)}
    assert gates == {
        "att1": (256, 64),
        "att2": (512, 256),
        "att3": (1024, 512),
        "att4": (2048, 1024),
        "att5": (2048, 2048),
    }
    assert rest["att2.conv_depth.weight"] == (256, 1, 1, 5)
    assert rest["att3.conv_depth.weight"] == (512, 1, 3, 1)
    assert rest["att5.conv_depth.weight"] == (2048, 1, 3, 5)


def test_the_number_of_parameters_is_the_published_one(encoder: Encoder) -> None:
    assert encoder.spec.parameters is not None
    assert round(encoder.spec.parameters / 1e6, 1) == 32.1


def test_without_order_the_transform_is_fouriers() -> None:
    import torch

    from uml_extract.encoders.audioclip.esresnext import FrequencyBSpline

    weights = FrequencyBSpline(9).weights().detach().numpy()
    time = np.pi * np.linspace(-1, 1, 2048)
    np.testing.assert_allclose(
        weights, np.exp(-1j * np.arange(9)[:, None] * time) / np.sqrt(2048), rtol=0, atol=1e-5
    )
    spline = FrequencyBSpline(1)
    with torch.no_grad():
        spline.m.fill_(2), spline.fb.fill_(3), spline.fc.fill_(5)
    window = np.sqrt(3) * np.sinc(3 * time / 2 / np.pi) ** 2
    expected = window * np.exp(-5j * time) / np.sqrt(2048)
    np.testing.assert_allclose(spline.weights().detach().numpy()[0], expected, rtol=0, atol=1e-5)


def test_the_picture_of_a_sound_is_its_spectrogram_in_three_bands(encoder: Any) -> None:
    import torch

    sound = torch.from_numpy(_sounds(encoder, 1)[0])
    picture = encoder.network.picture(sound[None])[0].numpy()
    assert picture.shape == (3, 341, 392)
    weights = encoder.network.fbsp.weights().numpy()
    padded = np.pad(sound.numpy(), (252, 253)).astype(np.float64)
    frame, row = 100, 700
    window = get_window("blackmanharris", 1654)
    part = np.pad(padded[frame * 561 : frame * 561 + 1654] * window, (197, 197))
    power = np.abs(weights[row].astype(np.complex128) @ part) ** 2
    np.testing.assert_allclose(picture[2, row - 682, frame], 10 * np.log10(power), atol=0.01)


def test_features_have_unit_length_and_do_not_depend_on_the_batch(encoder: Encoder) -> None:
    sounds = _sounds(encoder, 2)
    together = encoder.encode(sounds, tokens=True)
    np.testing.assert_allclose(np.linalg.norm(together.pooled, axis=1), 1, rtol=1e-5)
    alone = encoder.encode(sounds[1:], tokens=True)
    np.testing.assert_allclose(alone.pooled[0], together.pooled[1], rtol=1e-4, atol=1e-5)
    assert together.tokens is not None
    assert together.lengths is not None
    assert together.lengths.tolist() == [143] * 2
    assert together.tokens.shape == (2 * 143, 2048)
    assert np.abs(together.pooled[0] - together.pooled[1]).max() > 1e-3
    found = [float(np.abs(together.pooled).sum()), *(together.pooled @ np.cos(np.arange(1024))).tolist()]
    # A network of random weights passes rounding on a hundredfold; products are what is left of sums.
    np.testing.assert_allclose(found, GOLDEN, rtol=1e-4, atol=2e-5 * GOLDEN[0])


def test_the_papers_mode_sees_its_batch_and_is_named(weights: Path, encoder: Encoder) -> None:
    paper: Any = load_encoder("audioclip", weights=weights, transform="paper", device="cpu")
    assert (encoder.variant, paper.variant) == ((), ("paper",))
    assert paper.spec.transform["mode"] == "train, batches of 10"
    before = {name: value.clone() for name, value in paper.network.state_dict().items() if "running" in name}
    sounds = _sounds(paper, 2)
    two, one = (paper.encode(sounds[:count]).pooled for count in (2, 1))
    assert np.abs(two[:1] - one).max() > 1e-4
    assert np.isfinite(one).all()
    assert all((paper.network.state_dict()[name] == value).all() for name, value in before.items())


def test_batches_of_ten() -> None:
    from uml_extract.encoders.audioclip.audio_tower import _tens

    rows = [np.array(i) for i in range(31)]
    assert [len(part) for part in _tens(rows)] == [10, 10, 11]
    assert [len(part) for part in _tens(rows[:25])] == [10, 10, 5]
    assert [len(part) for part in _tens(rows[:1])] == [1]
    assert [int(row) for part in _tens(rows) for row in part] == list(range(31))


def test_mistakes(weights: Path, tmp_path: Path) -> None:
    import torch

    with pytest.raises(InputError, match="not on the hub"):
        load_encoder("audioclip")
    torch.save({"audio.conv1.weight": torch.ones(64, 3, 7, 7)}, tmp_path / "w.pt")
    for options, words in (
        ({"weights": tmp_path / "w.pt"}, "is missing"),
        ({"weights": weights, "pooling": "mean"}, "leave --pooling out"),
        ({"weights": weights, "layer": 3}, "layers 0 to 0"),
    ):
        with pytest.raises(InputError, match=words):
            load_encoder("audioclip", device="cpu", **options)
