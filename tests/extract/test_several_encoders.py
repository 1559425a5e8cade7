"""Several encoders in one pass: each file is decoded once, every store has the bits of a pass of its own."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from uml_cache import InputError, WorkError
from uml_cache.cli import main
from uml_extract import Encoded, Encoder, Extracted, extract, extract_together, load_encoder
from uml_extract.readers import samples
from uml_extract.settings import encoder_names
from uml_manifests import NO_SPLIT, Manifest, resolve_data, write_manifest


def _bytes(done: Extracted) -> dict[str, bytes]:
    """Every file but the journal, which holds times."""
    files = (path for path in done.store.rglob("*") if path.is_file() and path.parent.name != "journal")
    return {str(path.relative_to(done.store)): path.read_bytes() for path in files}


def _alike(together: list[Extracted], alone: list[Extracted]) -> None:
    for one, other in zip(together, alone, strict=True):
        assert one.store.name == other.store.name
        assert (one.rows, one.failed, one.tasks) == (other.rows, other.failed, other.tasks)
        assert [(s.row, s.reason) for s in one.unreadable] == [(s.row, s.reason) for s in other.unreadable]
        found = _bytes(one)
        assert len(found) > one.tasks
        assert found == _bytes(other)


class _Renamed:
    """An encoder under another name that listens less long, or sees large pictures at part of their size."""

    def __init__(self, name: str, **changes: Any) -> None:
        self._encoder = load_encoder(name)
        spec = self._encoder.spec
        if "jpeg_side" in changes:
            spec = replace(spec, transform={**spec.transform, "jpeg_side": changes.pop("jpeg_side")})
        self.spec = replace(spec, name=f"{name}-other")
        self.__dict__.update(changes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)


@pytest.mark.parametrize("decode_workers", [0, 2])
def test_pictures_are_the_same_bits(tmp_path: Path, pictures: Manifest, decode_workers: int) -> None:
    large = tmp_path / "large.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    Image.fromarray(noise).resize((1600, 1200)).save(large)
    (tmp_path / "broken.jpg").write_bytes(large.read_bytes()[:9000])
    files = [str(pictures.path(row)) for row in range(len(pictures))]
    for row in (3, 64, 149):
        files[row] = str(large)
    files[70], files[71] = str(tmp_path / "absent.png"), str(tmp_path / "broken.jpg")
    manifest = replace(pictures, sources=files)
    encoders: list[Any] = [
        "pixels",
        "hog-color",
        _Renamed("pixels", jpeg_side=64),
        _Renamed("hog-color", jpeg_side=0),
    ]
    how: Any = {"max_errors": 2, "decode_workers": decode_workers, "tokens": True}
    together = extract_together(manifest, encoders, out=tmp_path / "a", **how)
    assert [one.failed for one in together] == [2] * 4
    _alike(together, [extract(manifest, each, out=tmp_path / "b", **how) for each in encoders])


def test_sounds_and_texts_are_the_same_bits(tmp_path: Path, sounds: Manifest, texts: Manifest) -> None:
    short: Any = _Renamed("log-mel", input_seconds=0.2)
    how: Any = {"batch_size": 20}
    for manifest, encoders in (
        (sounds, ["log-mel", short]),
        (texts, ["hashed-ngrams", _Renamed("hashed-ngrams")]),
    ):
        together = extract_together(manifest, encoders, out=tmp_path / "a", **how)
        _alike(together, [extract(manifest, each, out=tmp_path / "b", **how) for each in encoders])


def test_members_of_a_tar_are_the_same_bits(tmp_path: Path, pictures: Manifest) -> None:
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for row in range(40):
            tar.add(pictures.path(row), f"{row:04d}.png")
    manifest = resolve_data(str(tmp_path / "shard.tar"))
    names = ["pixels", "hog-color"]
    together = extract_together(manifest, names, out=tmp_path / "a")
    assert together[0].rows == 40
    _alike(together, [extract(manifest, name, out=tmp_path / "b") for name in names])


def test_each_file_is_decoded_once(
    tmp_path: Path, pictures: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, seen = samples.read_image, list[Any]()

    def counting(path: Any, least_side: int = 0) -> Any:
        seen.append(path)
        return read(path, least_side)

    monkeypatch.setattr(samples, "read_image", counting)
    encoders: list[Any] = ["pixels", _Renamed("pixels"), _Renamed("hog-color", jpeg_side=0)]
    extract_together(pictures, encoders, out=tmp_path, decode_workers=0)
    assert len(seen) == len(pictures)


class _Stopping:
    """An encoder that is interrupted after some batches, as by Ctrl-C."""

    def __init__(self, name: str, batches: int) -> None:
        self._encoder, self._left = load_encoder(name), batches

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode(self, batch: Any, *, tokens: bool = False) -> Encoded:
        self._left -= 1
        if self._left < 0:
            raise KeyboardInterrupt
        return self._encoder.encode(batch, tokens=tokens)


def test_a_pass_that_was_stopped_goes_on_where_each_store_is(tmp_path: Path, pictures: Manifest) -> None:
    names: list[str | Encoder] = ["pixels", "hog-color"]
    ahead: Any = _Stopping("pixels", 9)
    with pytest.raises(KeyboardInterrupt):
        extract(pictures, ahead, out=tmp_path / "a", batch_size=16)  # two tasks of three
    stopped: Any = _Stopping("hog-color", 5)  # one task
    with pytest.raises(KeyboardInterrupt):
        extract_together(pictures, ["pixels", stopped], out=tmp_path / "a", batch_size=16)
    resumed = extract_together(pictures, names, out=tmp_path / "a")  # auto takes the stores' batch size
    assert [one.resumed_tasks for one in resumed] == [2, 1]
    alone = [extract(pictures, name, out=tmp_path / "b", batch_size=16) for name in names]
    _alike(resumed, alone)
    again = extract_together(pictures, names, out=tmp_path / "a")
    assert [one.resumed_tasks for one in again] == [3, 3]


def test_tasks_of_different_size_meet(tmp_path: Path, pictures: Manifest) -> None:
    count = 700
    manifest = replace(
        pictures, ids=[f"s{i}" for i in range(count)],
        sources=[pictures.sources[i % len(pictures)] for i in range(count)],
        labels=np.zeros(count, np.int32), splits=np.full(count, NO_SPLIT, np.uint8),
    )  # fmt: skip
    names = ["pixels", "hog-color"]
    together = extract_together(manifest, names, out=tmp_path / "a", workers=2)
    _alike(together, [extract(manifest, name, out=tmp_path / "b") for name in names])


def test_ranks_share_a_pass(tmp_path: Path, pictures: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["pixels", "hog-color"]
    done: list[Extracted] = []
    for rank in (1, 0):
        for key, value in {"RANK": rank, "WORLD_SIZE": 2, "TORCHELASTIC_RUN_ID": "r"}.items():
            monkeypatch.setenv(key, str(value))
        done = extract_together(pictures, names, out=tmp_path / "a", executor="torchrun")
    assert [one.resumed_tasks for one in done] == [1, 1]
    _alike(done, [extract(pictures, name, out=tmp_path / "b") for name in names])


def test_unreadable_samples_are_counted_for_each_store(tmp_path: Path, pictures: Manifest) -> None:
    sources = list(pictures.sources)
    sources[3] = sources[70] = "absent.png"
    broken = replace(pictures, sources=sources)
    with pytest.raises(WorkError, match=r"2 unreadable .* allows 1 of 150"):
        extract_together(broken, ["pixels", "hog-color"], out=tmp_path, max_errors=1)
    done = extract_together(broken, ["pixels", "hog-color"], out=tmp_path, max_errors=2)
    assert [one.failed for one in done] == [2, 2]
    absent = pictures.path(0).parent / "absent.png"
    try:
        absent.write_bytes(pictures.path(0).read_bytes())
        mended = extract_together(broken, ["pixels", "hog-color"], out=tmp_path, retry_failed=True)
    finally:
        absent.unlink()
    assert [(one.failed, one.resumed_tasks) for one in mended] == [(0, 1), (0, 1)]


def test_what_does_not_go_together(tmp_path: Path, pictures: Manifest) -> None:
    first = extract(pictures, "pixels", out=tmp_path)
    before = _bytes(first)
    with pytest.raises(InputError, match="encoders pixels and pixels would fill the same store"):
        extract_together(pictures, ["pixels", "pixels"], out=tmp_path, overwrite=True)
    with pytest.raises(InputError, match="encoder log-mel takes audio"):
        extract_together(pictures, ["pixels", "log-mel"], out=tmp_path, overwrite=True)
    with pytest.raises(InputError, match="weights go with one encoder"):
        extract_together(pictures, ["pixels", "hog-color"], out=tmp_path, weights="w.pt")
    assert _bytes(first) == before  # overwrite removes nothing before all is found to be right


def test_names_are_split_at_commas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a,b").mkdir()
    Path("x,y.onnx").touch()
    assert encoder_names("pixels") == ["pixels"]
    assert encoder_names("pixels, hog-color") == ["pixels", "hog-color"]
    assert encoder_names("pixels,a,b,onnx:x,y.onnx,hog-color") == [
        "pixels",
        "a,b",
        "onnx:x,y.onnx",
        "hog-color",
    ]
    assert encoder_names("timm:vit[a,b],pixels") == ["timm:vit[a,b]", "pixels"]
    for wrong in ("pixels,", ",pixels", "pixels,,hog-color"):
        with pytest.raises(InputError, match="a comma without a name"):
            encoder_names(wrong)
    with pytest.raises(InputError, match="names pixels twice"):
        encoder_names("pixels,hog-color,pixels")


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[Any, str, str]:
        with pytest.raises(SystemExit) as leaving:
            main(["extract", *words])
        out, err = capsys.readouterr()
        return leaving.value.code, out, err

    return call


def test_the_command_says_what_each_encoder_gave(
    run: Callable[..., Any], pictures: Manifest, tmp_path: Path
) -> None:
    data = os.fspath(write_manifest(pictures, tmp_path / "m"))
    words = ("--encoder", "pixels,hog-color", "--data", data)
    code, out, _ = run(*words, "--dry-run", "--json")
    assert code == 0
    planned = json.loads(out)["stores"]
    assert [one["done"] for one in planned] == [0, 0]
    assert "each file is read and decoded once: at most" in run(*words, "--dry-run")[1]
    code, out, err = run(*words, "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert [one["store"] for one in told["stores"]] == [one["store"] for one in planned]
    assert [(one["rows"], one["used"], one["resumed_tasks"]) for one in told["stores"]] == [(150, 150, 0)] * 2
    assert run(*words)[1].count("complete already, 150 rows") == 2
    for option in ("--weights", "--left-out"):
        code, _, err = run(*words, option, "file")
        assert code == 2
        assert f"{option} goes with one encoder, and --encoder names 2" in err
