"""Readers: what is read is right, and what cannot be read says why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image, features

from uml_extract import SampleError, read_audio, read_image, read_text, readers


def _gradient(width: int = 20, height: int = 10) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 10, y * 20, x + y], axis=2).astype(np.uint8)


def test_image_is_read_exactly(tmp_path: Path) -> None:
    Image.fromarray(_gradient()).save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(read_image(tmp_path / "a.png")), _gradient())


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.fromarray(_gradient())
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    image.save(tmp_path / "a.png", exif=exif)
    read = read_image(tmp_path / "a.png")
    assert read.size == (10, 20)
    assert np.array_equal(np.asarray(read), np.rot90(_gradient(), -1))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    suffix = "tif" if mode == "CMYK" else "png"
    Image.fromarray(_gradient()).convert(mode).save(tmp_path / f"a.{suffix}")
    assert read_image(tmp_path / f"a.{suffix}").mode == "RGB"


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
def test_avif_is_read_upright_and_a_cut_one_says_so(tmp_path: Path) -> None:
    picture = Image.fromarray(_gradient())
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.avif", quality=100, subsampling="4:4:4", exif=exif)
    read = np.asarray(read_image(tmp_path / "a.avif")).astype(int)
    assert np.abs(read - np.rot90(_gradient(), -1)).max() <= 4  # of 255: AVIF rounds in YUV even at its best
    whole = (tmp_path / "a.avif").read_bytes()
    (tmp_path / "cut.avif").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SampleError):
        read_image(tmp_path / "cut.avif")


def test_sixteen_bit_grey_is_scaled_and_not_clipped(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "a.png")
    read = np.asarray(read_image(tmp_path / "a.png"))[..., 0]
    assert np.abs(read.ravel().astype(int) - np.arange(256)).max() <= 1


def test_real_numbers_are_pictures_from_0_to_1(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    file = tmp_path / "f.tif"
    Image.fromarray(values).save(file)
    expected = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(np.asarray(read_image(file)), np.repeat(expected[..., None], 3, axis=2))
    for wrong in (values * 255, values - 0.5, np.where(values > 0.5, np.nan, values).astype(np.float32)):
        Image.fromarray(wrong).save(file)
        with pytest.raises(SampleError, match=r"real numbers from .* are no picture; expected 0 to 1"):
            read_image(file)


@pytest.mark.parametrize("wrong", [-1, 65536])
def test_whole_numbers_beyond_16_bits_are_no_picture(tmp_path: Path, wrong: int) -> None:
    values = np.full((4, 4), 65535, np.int32)
    file = tmp_path / "i.tif"
    Image.fromarray(values).save(file)
    assert np.asarray(read_image(file)).min() == 255
    values[2, 1] = wrong
    Image.fromarray(values).save(file)
    with pytest.raises(SampleError, match=r"whole numbers from .* are no picture; expected 0 to 65535"):
        read_image(file)


def test_unreadable_images_say_why(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "not.png").write_text("hello")
    (tmp_path / "empty.png").touch()
    for name, reason in {
        "cut.jpg": "truncated",
        "not.png": "is no picture of a kind",
        "empty.png": "is no picture of a kind",
        "none.png": "no such file",
    }.items():
        with pytest.raises(SampleError, match=reason):
            read_image(tmp_path / name)


def test_decompression_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(_gradient(100, 100)).save(tmp_path / "big.png")
    monkeypatch.setattr("uml_extract.readers.samples.MAX_PIXELS", 9_999)
    with pytest.raises(SampleError, match="100×100 pixels"):
        read_image(tmp_path / "big.png")
    for limit in (9_000, 4_000):  # above Pillow's limit it warns (an error here), above twice of it it raises
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(SampleError, match="more than"):
            read_image(tmp_path / "big.png")


def test_audio_is_mixed_down_resampled_and_cut(tmp_path: Path) -> None:
    time = np.arange(44_100) / 44_100
    tone = np.sin(2 * np.pi * 440 * time).astype(np.float32)
    soundfile.write(
        tmp_path / "a.wav", np.stack([tone, np.zeros_like(tone)], axis=1), 44_100, subtype="FLOAT"
    )
    read = read_audio(tmp_path / "a.wav", 16_000, 0.5)
    assert read.samples.dtype == np.float32
    assert read.samples.shape == (8_000,)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8_000) / 16_000)
    assert np.abs(read.samples - expected)[200:-200].max() < 2e-3


@pytest.mark.parametrize(
    ("rate", "to"), [(8_000, 16_000), (44_100, 16_000), (22_050, 48_000), (16_000, 16_000)]
)
def test_resampling_equals_scipy_and_the_header_tells_the_length(tmp_path: Path, rate: int, to: int) -> None:
    from scipy.signal import resample_poly

    values = np.random.default_rng(rate).uniform(-0.5, 0.5, 3_001).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", values, rate, subtype="FLOAT")
    read = read_audio(tmp_path / "a.wav", to, 30.0).samples
    assert len(read) == readers.audio_length(tmp_path / "a.wav", to, 30.0)
    np.testing.assert_allclose(read, resample_poly(values, to, rate), atol=1e-5)
    for seconds in (0.01, 0.02731, 0.05):
        cut = read_audio(tmp_path / "a.wav", to, seconds).samples
        assert len(cut) == readers.audio_length(tmp_path / "a.wav", to, seconds) == round(seconds * to)


def test_unreadable_sounds_say_why(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(0, np.float32), 8_000)
    soundfile.write(tmp_path / "nan.wav", np.array([0, np.nan], np.float32), 8_000, subtype="FLOAT")
    (tmp_path / "text.wav").write_text("hello")
    soundfile.write(tmp_path / "cut.wav", np.ones(8_000, np.float32), 8_000)
    (tmp_path / "cut.wav").write_bytes((tmp_path / "cut.wav").read_bytes()[:9_000])
    for name, reason in {
        "silent.wav": "no sound",
        "cut.wav": "cut off, 8956 of 16000 bytes",
        "nan.wav": "not finite",
        "text.wav": "text.wav",
        "none.wav": "no such file",
    }.items():
        with pytest.raises(SampleError, match=reason):
            read_audio(tmp_path / name, 16_000, 1.0)
    for name in ("silent.wav", "text.wav", "none.wav", "cut.wav"):
        with pytest.raises(SampleError):
            readers.audio_length(tmp_path / name, 16_000, 1.0)


def test_an_empty_text_is_unreadable() -> None:
    assert read_text(" two\nlines ") == " two\nlines "
    with pytest.raises(SampleError, match="empty"):
        read_text(" \n")


@pytest.mark.parametrize(
    ("least", "size"), [(0, (400, 300)), (64, (100, 75)), (80, (200, 150)), (301, (400, 300))]
)
def test_a_large_jpeg_is_decoded_at_a_part_of_its_size(
    tmp_path: Path, least: int, size: tuple[int, int]
) -> None:
    y, x = np.mgrid[:300, :400]
    Image.fromarray(np.stack([x // 2, y // 2, x // 4 + y // 4], axis=2).astype(np.uint8)).save(
        tmp_path / "a.jpg"
    )
    read = read_image(tmp_path / "a.jpg", least)
    assert read.size == size
    whole = read_image(tmp_path / "a.jpg").resize(size, Image.Resampling.BOX)
    assert np.abs(np.asarray(read).astype(int) - np.asarray(whole)).max() <= 4


def test_a_jpeg_that_lies_on_its_side_is_turned_at_any_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (400, 300)).save(tmp_path / "a.jpg", exif=exif)
    assert [read_image(tmp_path / "a.jpg", least).size for least in (0, 64)] == [(300, 400), (75, 100)]
