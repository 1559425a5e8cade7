"""Samples inside tars, saved data sets, arrays and JSON lines: found, read, extracted, flagged."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import soundfile
from PIL import Image

from uml_cache import InputError, open_features
from uml_extract import extract
from uml_extract.readers import audio_length, read_audio, read_image
from uml_extract.spec import SampleError
from uml_manifests import load_manifest, resolve_data, write_manifest


def _png(value: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (12, 10), (value, 0, 255 - value)).save(stream, "PNG")
    return stream.getvalue()


def _sound(kind: str, rate: int = 16_000) -> bytes:
    stream = io.BytesIO()
    wave = np.sin(np.arange(rate // 4) * 0.2).astype(np.float32) * 0.5
    soundfile.write(stream, wave, rate, format=kind)
    return stream.getvalue()


def _tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as opened:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            opened.addfile(header, io.BytesIO(content))
    return path


def _shards(folder: Path) -> Path:
    for shard in range(2):
        members: dict[str, bytes] = {}
        for row in range(3):
            value = 40 * (3 * shard + row)
            members[f"{shard}{row}.png"] = _png(value)
            members[f"{shard}{row}.txt"] = f"blue {value}".encode()
            members[f"{shard}{row}.cls"] = str(row % 2).encode()
        _tar(folder / f"train-{shard:05}.tar", members)
    return folder


def test_tar_of_pictures(tmp_path: Path) -> None:
    folder = _shards(tmp_path / "shards")
    manifest = resolve_data(folder, modality="image")
    assert manifest.ids == ["00", "01", "02", "10", "11", "12"]
    assert manifest.labels.tolist() == [0, 1, 0, 0, 1, 0]
    colours = [read_image(manifest.path(row)).getpixel((3, 3)) for row in range(6)]
    assert colours == [(40 * row, 0, 255 - 40 * row) for row in range(6)]
    assert sorted(file.suffix for file in folder.rglob("*")) == [".tar", ".tar"]  # nothing was unpacked
    again = load_manifest(write_manifest(manifest, tmp_path / "written"))
    assert again.digest == manifest.digest
    done = extract(manifest, "hog-color", out=tmp_path / "feats")
    assert (done.rows, done.failed) == (6, 0)


def test_tar_gives_the_features_of_the_same_files(tmp_path: Path) -> None:
    folder = _shards(tmp_path / "shards")
    for row, name in enumerate(["00", "01", "02", "10", "11", "12"]):
        path = tmp_path / "files" / "a" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_png(40 * row))
    inside = extract(resolve_data(folder), "hog-color", out=tmp_path / "feats")
    outside = extract(resolve_data(tmp_path / "files"), "hog-color", out=tmp_path / "feats")
    first, second = open_features(inside.store), open_features(outside.store)
    np.testing.assert_array_equal(first.pooled.numpy(), second.pooled.numpy())


def test_tar_of_texts_and_of_json(tmp_path: Path) -> None:
    texts = resolve_data(_shards(tmp_path / "shards"), modality="text")
    assert texts.sources[:2] == ["blue 0", "blue 40"]
    described = {
        f"{row}.json": json.dumps({"caption": f"c{row}", "label": "ab"[row]}).encode() for row in range(2)
    }
    manifest = resolve_data(_tar(tmp_path / "j.tar", {**described, "2.json": b"{", "3.txt": b"\xff\xfe"}))
    assert (manifest.modality, manifest.sources) == ("text", ["c0", "c1", "", ""])
    assert manifest.classes == ("a", "b")
    done = extract(manifest, "hashed-ngrams", out=tmp_path / "feats", max_errors=2)
    assert done.failed == 2


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_sounds_of_every_kind_as_files_and_in_a_tar(tmp_path: Path, kind: str) -> None:
    if kind not in soundfile.available_formats():
        pytest.skip(f"the installed libsndfile cannot write {kind}")
    content = _sound(kind)
    tar = _tar(tmp_path / "s.tar", {f"a/x.{kind.lower()}": content, "a/x.cls": b"1"})
    file = tmp_path / "c" / "d" / f"x.{kind.lower()}"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    manifest = resolve_data(tar)
    assert (manifest.modality, manifest.ids, manifest.labels.tolist()) == ("audio", ["a/x"], [0])
    inside = read_audio(manifest.path(0), 16_000, 1.0)
    outside = read_audio(resolve_data(tmp_path / "c").path(0), 16_000, 1.0)
    np.testing.assert_array_equal(inside.samples, outside.samples)
    assert audio_length(manifest.path(0), 16_000, 1.0) == len(inside.samples) >= 4000
    wave = np.sin(np.arange(4000) * 0.2) * 0.5
    assert np.corrcoef(inside.samples[:4000], wave)[0, 1] > (0.9 if kind in ("OGG", "MP3") else 0.999)


def test_corrupt_members_are_flagged(tmp_path: Path) -> None:
    good = {f"{row}.png": _png(row) for row in range(4)}
    tar = _tar(tmp_path / "p.tar", {**good, "4.png": _png(4)[:40], "5.png": b"", "6.png": b"no picture"})
    manifest = resolve_data(tar)
    done = extract(manifest, "hog-color", out=tmp_path / "feats", max_errors=3)
    assert done.failed == 3
    assert open_features(done.store).status.tolist() == [0, 0, 0, 0, 1, 1, 1]
    with open(tar, "r+b") as stream:  # the shard loses its end after indexing
        stream.truncate(600)
    with pytest.raises(SampleError, match="ends within the member"):
        read_image(manifest.path(1))
    tar.unlink()
    with pytest.raises(SampleError, match="no such file"):
        read_image(manifest.path(0))


def test_tars_that_are_none_get_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"no tar" * 200)
    (tmp_path / "z.tar").write_bytes(b"\x1f\x8b" + bytes(600))
    _tar(tmp_path / "empty.tar", {})
    _tar(tmp_path / "both.tar", {"1.png": _png(1), "1.wav": _sound("WAV")})
    for name, words in (
        ("a.tar", "is broken, truncated or compressed"),
        ("z.tar", "is broken, truncated or compressed"),
        ("empty.tar", "no image in it"),
        ("both.tar", "say which modality is meant"),
    ):
        with pytest.raises(InputError, match=words):
            resolve_data(tmp_path / name)
    with pytest.raises(InputError, match="no text in it"):
        resolve_data(tmp_path / "both.tar", modality="text")


def test_jsonl(tmp_path: Path) -> None:
    lines = [
        {"id": "a", "text": "one\ntwo", "label": "cat", "split": "train", "group": "g"},
        {"text": "drei", "label": "dog", "split": "test"},
        {"id": 7, "text": "vier", "split": "validation"},
    ]
    path = tmp_path / "t.jsonl"
    path.write_text("\n\n".join(json.dumps(line) for line in lines))
    manifest = resolve_data(path, name="pets", set="web")
    assert (manifest.name, manifest.store_name, manifest.classes) == ("pets", "text.web", ("cat", "dog"))
    assert (manifest.ids, manifest.sources) == (["a", "3", "7"], ["one\ntwo", "drei", "vier"])
    assert (manifest.labels.tolist(), manifest.splits.tolist()) == ([0, 1, -1], [0, 2, 1])
    assert manifest.groups == ["g", "", ""]
    for content, words in (
        ("", "is empty"),
        ('{"text": "a"}\n{"text"', "line 2: is no JSON"),
        ("[1]", "line 1: is a JSON list"),
        ('{"text": "a"}\n{"txt": "b"}', "line 2: has no string 'text'; it has txt"),
        ('{"id": 1, "text": "a"}\n{"id": 1, "text": "b"}', "occurs twice"),
        ('{"text": "a", "split": "tran"}', "did you mean train"),
        ('{"path": "a.docx"}', "not all images or all sounds"),
        ("[" * 100_000, "line 1: is no JSON"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=words):
            resolve_data(path)
    path.write_bytes(b'{"text": "\xff"}')
    with pytest.raises(InputError, match="UTF-8"):
        resolve_data(path)


def test_jsonl_of_paths(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(_png(9))
    (tmp_path / "t.jsonl").write_text('{"path": "p.png", "label": 3}\n')
    manifest = resolve_data(tmp_path / "t.jsonl")
    assert (manifest.modality, manifest.labels.tolist(), manifest.ids) == ("image", [0], ["1"])
    assert read_image(manifest.path(0)).size == (12, 10)


def _array_file(path: Path, values: np.ndarray, labels: np.ndarray) -> Path:
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".npz":
        np.savez(
            path, **{"train.features": values[:70], "train.labels": labels[:70], "test.features": values[70:]}
        )
    else:
        with h5py.File(path, "w") as file:
            for name, part in (("train", slice(0, 70)), ("test", slice(70, None))):
                file[f"{name}/features"], file[f"{name}/labels"] = values[part], labels[part]
    return path


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
def test_arrays_through_identity(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    values, labels = rng.normal(size=(90, 5)), rng.integers(0, 3, 90)
    manifest = resolve_data(_array_file(tmp_path / f"x{suffix}", values, labels))
    assert (manifest.modality, manifest.name, len(manifest)) == ("array", "x", 90)
    done = extract(manifest, "identity", out=tmp_path / "feats", dtype="float32")
    found = open_features(done.store)
    assert (found.modality, found.dim) == ("array", 5)
    np.testing.assert_array_equal(found.pooled.numpy(), values.astype(np.float32))
    if suffix != ".npy":
        assert found.label[:70].tolist() == labels[:70].tolist()
        assert (found.split[:70] == 0).all()
        assert (found.split[70:] == 2).all()


@pytest.mark.parametrize(("scale", "offset"), [(1e-9, 0.0), (0.05, 3000.0)], ids=["tiny", "shifted"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_identity_keeps_every_value_as_it_is(tmp_path: Path, dtype: str, scale: float, offset: float) -> None:
    # In float16 values of 1e-9 are 0, and numbers near 3000 lie 2 apart: rows could not be told apart.
    values = (np.random.default_rng(0).normal(size=(90, 5)) * scale + offset).astype(dtype)
    manifest = resolve_data(_array_file(tmp_path / "x.npz", values, np.arange(90) % 3))
    stored = open_features(extract(manifest, "identity", out=tmp_path / "feats").store).pooled.numpy()
    assert stored.dtype == values.dtype
    np.testing.assert_array_equal(stored, values)


def test_arrays_of_tokens(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(80, 4, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", values)
    done = extract(
        resolve_data(tmp_path / "x.npy"), "identity", out=tmp_path / "f", dtype="float32", tokens=True
    )
    found = open_features(done.store)
    np.testing.assert_allclose(found.pooled.numpy(), values.mean(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(found.tokens.packed(np.arange(80))[0].numpy(), values.reshape(-1, 3))


def test_bad_arrays(tmp_path: Path) -> None:
    values = np.ones((70, 4))
    values[5, 1] = np.nan
    np.save(tmp_path / "x.npy", values)
    manifest = resolve_data(tmp_path / "x.npy")
    done = extract(manifest, "identity", out=tmp_path / "f", max_errors=1)
    assert np.flatnonzero(open_features(done.store).status).tolist() == [5]
    np.save(tmp_path / "scalar.npy", np.ones(7))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    np.savez(tmp_path / "two.npz", **{"train.features": np.ones((4, 3)), "test.features": np.ones((4, 2))})
    for name, words in (("scalar", "expected samples × width"), ("objects", "never loaded")):
        with pytest.raises(InputError, match=words):
            resolve_data(tmp_path / f"{name}.npy")
    with pytest.raises(InputError, match="rows of one shape"):
        extract(resolve_data(tmp_path / "two.npz"), "identity", out=tmp_path / "f")
    with pytest.raises(InputError, match="takes image, data set 'x' holds array"):
        extract(manifest, "hog-color", out=tmp_path / "f")


def _write_arrow(folder: Path, table: Any, features: dict[str, Any], split: str | None) -> None:
    """What `datasets` 4 writes for one split (layout and names as in its `save_to_disk`)."""
    pyarrow = pytest.importorskip("pyarrow")
    folder.mkdir(parents=True)
    for shard, part in enumerate((table.slice(0, 2), table.slice(2))):
        name = folder / f"data-{shard:05}-of-00002.arrow"
        with pyarrow.OSFile(str(name), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(part)
    names = [{"filename": f"data-{shard:05}-of-00002.arrow"} for shard in range(2)]
    (folder / "state.json").write_text(json.dumps({"_data_files": names, "_split": split}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))


def test_saved_dataset_of_pictures_and_texts(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    cells = [{"bytes": _png(40 * row), "path": None} for row in range(4)] + [
        {"bytes": b"no", "path": None},
        None,
    ]
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    table = pyarrow.table(
        {"image": pyarrow.array(cells, kind),
         "caption": [f"c{row}" for row in range(6)], "label": [1, 0, 1, 0, 1, 0]}
    )  # fmt: skip
    features = {
        "image": {"_type": "Image"},
        "caption": {"dtype": "string", "_type": "Value"},
        "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
    }
    for split in ("train", "test"):
        _write_arrow(tmp_path / "d" / split, table, features, split)
    (tmp_path / "d" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    manifest = resolve_data(tmp_path / "d")
    assert (manifest.modality, len(manifest), manifest.classes) == ("image", 12, ("cat", "dog"))
    assert (manifest.ids[0], manifest.ids[8]) == ("train/0", "test/2")
    assert manifest.splits.tolist() == [0] * 6 + [2] * 6
    assert manifest.labels.tolist() == [1, 0] * 6
    assert [read_image(manifest.path(row)).getpixel((0, 0))[0] for row in (0, 1, 2, 3, 9)] == [
        0,
        40,
        80,
        120,
        120,
    ]
    assert extract(manifest, "hog-color", out=tmp_path / "f", max_errors=4).failed == 4
    texts = resolve_data(tmp_path / "d", modality="text")
    assert texts.sources[:7] == ["c0", "c1", "c2", "c3", "c4", "c5", "c0"]
    with pytest.raises(InputError, match="no column of audio"):
        resolve_data(tmp_path / "d", modality="audio")
    (tmp_path / "d" / "train" / "data-00001-of-00002.arrow").write_bytes(b"broken")
    with pytest.raises(InputError, match="cannot be read as arrow"):
        resolve_data(tmp_path / "d")


def test_data_set_saved_by_datasets_itself(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    columns = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    rows = {
        "image": [Image.new("RGB", (8, 8), (30 * row, 0, 0)) for row in range(5)],
        "label": [0, 1, 0, 1, 1],
    }
    whole = datasets.DatasetDict({"train": datasets.Dataset.from_dict(rows, features=columns)})
    whole.save_to_disk(str(tmp_path / "d"), num_shards={"train": 2})
    manifest = resolve_data(tmp_path / "d")
    assert (manifest.classes, manifest.labels.tolist()) == (("cat", "dog"), [0, 1, 0, 1, 1])
    assert [read_image(manifest.path(row)).getpixel((0, 0))[0] for row in range(5)] == [0, 30, 60, 90, 120]
