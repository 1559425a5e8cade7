"""Samples made to hurt: each is one flagged row, at once, and its neighbours are read."""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from uml_cache import open_features
from uml_extract import SampleError, extract, read_audio, read_image
from uml_extract.readers.members import open_member
from uml_manifests import resolve_data

PS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(ran) print showpage\n"


def png(width: int, height: int, depth: int, rows: int) -> bytes:
    """Grey, with a header of any size and `rows` rows of zeros."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    pixels = zlib.compress((b"\0" * (1 + width * depth // 8)) * rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def wav(rate: int, channels: int = 1, *, chunks: bytes = b"", values: int = 4000) -> bytes:
    data = (9000 * np.sin(np.arange(values) / 9)).astype("<i2").tobytes()
    form = struct.pack("<IHHIIHH", 16, 1, channels, rate, rate * 2 & 0xFFFFFFFF, 2 * channels, 16)
    body = b"WAVE" + chunks + b"fmt " + form + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def test_a_picture_starts_no_other_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("gs", "gswin64c", "gsc"):
        program = tmp_path / "bin" / name
        program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
        program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    assert shutil.which("gs") == str(tmp_path / "bin" / "gs")
    for name in ("cat.jpg", "cat.png", "cat.eps", "cat.tif"):
        (tmp_path / name).write_bytes(PS)
        with pytest.raises(SampleError, match="is no picture of a kind that is read"):
            read_image(tmp_path / name)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (png(100_000, 100_000, 8, 1), "more than the"),
        (png(89_000_000, 1, 8, 1), "one side is more than"),
        (b"P5\n9000 9000\n65535\n" + bytes(10), "a.png"),
        (b"II*\0" + struct.pack("<IH", 8, 0), "a.png"),
    ],
)
def test_pictures_that_promise_too_much(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(SampleError, match=words):
        read_image(tmp_path / "a.png")


def test_sixteen_bits_take_little_more_than_the_picture(tmp_path: Path) -> None:
    import tracemalloc

    values = np.arange(1 << 22, dtype=np.uint16).reshape(1024, 4096)
    Image.fromarray(values).save(tmp_path / "a.png")
    tracemalloc.start()
    read = np.asarray(read_image(tmp_path / "a.png"))[..., 0]
    assert np.abs(read.astype(float) - values * (255 / 65535)).max() <= 0.5
    (tmp_path / "b.png").write_bytes(png(9_000, 9_000, 16, 9_000))
    tracemalloc.reset_peak()
    read_image(tmp_path / "b.png")
    assert tracemalloc.get_traced_memory()[1] < 9_000 * 9_000 * 6
    tracemalloc.stop()


@pytest.mark.parametrize("rate", [44100 ^ (1 << 26), 10_000_019, 1_000_003, 767_999, 2**31 - 1])
def test_rates_that_no_sound_has(tmp_path: Path, rate: int) -> None:
    (tmp_path / "a.wav").write_bytes(wav(rate))
    with pytest.raises(SampleError, match="samples a second"):
        read_audio(tmp_path / "a.wav", 16_000, 5.0)


@pytest.mark.parametrize("rate", [1, 8_000, 11_025, 44_056, 48_001, 192_000, 384_000, 768_000])
def test_rates_that_sounds_have(tmp_path: Path, rate: int) -> None:
    (tmp_path / "a.wav").write_bytes(wav(rate))
    assert len(read_audio(tmp_path / "a.wav", 16_000, 0.5).samples) <= 8_000


def test_many_channels_are_mixed_a_block_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).uniform(-0.5, 0.5, (3000, 6)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", values, 16_000, subtype="FLOAT")
    whole = read_audio(tmp_path / "a.wav", 16_000, 5.0).samples
    monkeypatch.setattr("uml_extract.readers.samples._BLOCK", 1000)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav", 16_000, 5.0).samples, whole)


def test_a_flood_of_chunks_is_not_walked(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(16_000, chunks=b"junk\0\0\0\0" * 5000))
    with pytest.raises(SampleError, match="in its first"):
        read_audio(tmp_path / "a.wav", 16_000, 5.0)


@pytest.mark.parametrize(
    "part", ["0+1000000000000", "99999999999999999999+1", "512+²", "x+1", "0", "-5+3", f"{'9' * 5000}+1"]
)
def test_parts_of_a_tar_that_it_has_not(tmp_path: Path, part: str) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(__file__, "a.txt")
    with pytest.raises(SampleError):
        open_member(Path(f"{tmp_path}/x.tar::{part}"))


def sparse_member(name: bytes, size: int) -> bytes:
    """A GNU header of a file of `size` bytes that are all holes."""
    head = bytearray(512)
    head[: len(name)] = name
    head[100:108] = head[108:116] = head[116:124] = b"0000644\0"
    head[124:136] = head[136:148] = head[386:398] = head[398:410] = b"%011o\0" % 0
    head[156:157], head[257:265] = b"S", b"ustar  \0"
    head[483:495] = b"\x80" + size.to_bytes(11, "big")
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


@pytest.mark.parametrize("workers", [0, 1])
def test_one_member_with_holes_is_one_sample(tmp_path: Path, workers: int) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (9, 99, 9)).save(stream, "png")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for i in range(4):
            for name, data in ((f"{i}.png", stream.getvalue()), (f"{i}.cls", b"ab"[i % 2 : i % 2 + 1])):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    whole = (tmp_path / "x.tar").read_bytes().rstrip(b"\0")
    whole += bytes(-len(whole) % 512) + sparse_member(b"z.png", 10**12) + sparse_member(b"z.cls", 3 * 10**9)
    (tmp_path / "x.tar").write_bytes(whole + bytes(1024))
    manifest = resolve_data(tmp_path / "x.tar")
    done = extract(manifest, "hog-color", out=tmp_path / "f", max_errors=1, decode_workers=workers)
    assert (done.rows, done.failed) == (5, 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sample_that_needs_too_much_memory_is_one_sample(
    tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from uml_extract import load_encoder

    for label in "ab":
        (tmp_path / "p" / label).mkdir(parents=True)
        for i in range(20):
            Image.new("RGB", (16, 16 + (i == 3)), (i, 0, 0)).save(tmp_path / "p" / label / f"{i}.png")
    encoder = load_encoder("hog-color")
    prepare = encoder.prepare

    def greedy(sample: Image.Image) -> np.ndarray:
        if sample.height > 16:
            raise MemoryError
        return prepare(sample)

    monkeypatch.setattr(encoder, "prepare", greedy)
    done = extract(
        resolve_data(tmp_path / "p"), encoder, out=tmp_path / "f", max_errors=2, decode_workers=workers
    )
    assert done.failed == 2
    assert open_features(done.store).valid.sum() == 38
