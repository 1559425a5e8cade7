"""What counts as changed, and what is written where nothing has."""

from __future__ import annotations

import os
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stopping import Stops
from uml_cache import InputError, WorkError, find_stores, open_features
from uml_cache.growing.collecting import collect
from uml_extract import extract, load_encoder
from uml_extract.growing.state_rows import _apart
from uml_manifests import Manifest


def _arrays(folder: Path, values: np.ndarray) -> Manifest:
    """One `.npy` for each row, with one time for all that are as they were."""
    folder.mkdir(exist_ok=True)
    for at, row in enumerate(values):
        path = folder / f"{at}.npy"
        if not path.exists() or not np.array_equal(np.load(path), row[None]):
            np.save(path, row[None])
    rows = len(values)
    return Manifest(
        name="walks", modality="array", classes=("a", "b"), root=folder, ids=[str(at) for at in range(rows)],
        sources=[f"{at}.npy::0" for at in range(rows)], labels=np.arange(rows) % 2, splits=np.full(rows, 255),
    )  # fmt: skip


def _pictures(folder: Path, seeds: dict[str, int]) -> Manifest:
    folder.mkdir(exist_ok=True)
    for name, seed in seeds.items():
        noise = np.random.default_rng(seed).integers(0, 255, (12, 12, 3), np.uint8)
        Image.fromarray(noise).save(folder / name)
    rows = len(list(folder.iterdir()))
    names = sorted(path.name for path in folder.iterdir())
    return Manifest(
        name="birds", modality="image", classes=("a", "b"), root=folder, ids=names, sources=names,
        labels=np.arange(rows) % 2, splits=np.full(rows, 255),
    )  # fmt: skip


def _later(path: Path) -> None:
    """Another time of change, however coarse the clock of the file system is."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 5_000_000_000))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_small_change_of_an_array_is_a_change(tmp_path: Path, dtype: str) -> None:
    values = np.random.default_rng(0).normal(size=(20, 8)).astype(dtype)
    values[3, 0] = 100
    extract(_arrays(tmp_path / "data", values), "identity", out=tmp_path / "feats")
    values[3, 1] = np.nextafter(values[3, 1], np.array(9, dtype))  # one step: 10⁻⁸ of the row's largest value
    manifest = _arrays(tmp_path / "data", values)
    _later(tmp_path / "data" / "3.npy")
    done = extract(manifest, "identity", out=tmp_path / "feats")
    assert done.grew is not None
    assert done.grew.changed == 1
    features = open_features(done.store)
    np.testing.assert_array_equal(features.pooled[features.id.index("3")], values[3])


def _samples(folder: Path, encoder: str) -> Manifest:
    """37 pictures, sounds or texts, each of another size."""
    chance, rows = np.random.default_rng(0), 37
    folder.mkdir()
    sources = []
    for at in range(rows):
        if encoder == "log-mel":
            sources.append(f"{at}.wav")
            noise = chance.integers(-9999, 9999, 8000 + 321 * at).astype("<i2")
            with wave.open(str(folder / sources[-1]), "wb") as file:
                file.setparams((1, 2, 16000, len(noise), "NONE", ""))
                file.writeframes(noise.tobytes())
        elif encoder == "hashed-ngrams":
            sources.append(" ".join(chance.choice(list("abcdefghij"), 3 + at)))
        else:
            sources.append(f"{at}.png")
            noise = chance.integers(0, 255, (20 + at, 30 + 2 * at, 3), np.uint8)
            Image.fromarray(noise).save(folder / sources[-1])
    kinds = {"log-mel": "audio", "hashed-ngrams": "text"}
    return Manifest(
        name="some", modality=kinds.get(encoder, "image"), classes=("a", "b"), root=folder,
        ids=[str(at) for at in range(rows)], sources=sources, labels=np.arange(rows) % 2,
        splits=np.full(rows, 255),
    )  # fmt: skip


@pytest.mark.parametrize("encoder", ["hog-color", "pixels", "hashed-ngrams"])
def test_features_that_are_compared_exactly_do_not_depend_on_the_batch(tmp_path: Path, encoder: str) -> None:
    manifest = _samples(tmp_path / "data", encoder)
    stores = [
        extract(manifest, encoder, out=tmp_path / str(size), batch_size=size, dtype="float32").store
        for size in (1, 7, 64)
    ]
    one, *others = (open_features(store).pooled for store in stores)
    assert all(torch.equal(one, other) for other in others)


def test_a_sound_that_was_only_touched_is_no_change(tmp_path: Path) -> None:
    manifest = _samples(tmp_path / "data", "log-mel")
    store = extract(manifest, "log-mel", out=tmp_path / "feats", dtype="float32").store
    for at in range(0, 37, 5):
        _later(tmp_path / "data" / f"{at}.wav")
    done = extract(manifest, "log-mel", out=tmp_path / "feats", dtype="float32")
    assert done.grew is not None
    assert (done.store, done.grew.changed) == (store, 0)


def test_numbers_that_are_none_are_compared() -> None:
    one = torch.tensor([[1.0, torch.nan], [1.0, torch.nan], [1.0, 2.0], [torch.inf, 1.0]])
    two = torch.tensor([[1.0, torch.nan], [1.0, 2.0], [1.0, torch.nan], [torch.inf, 1.0]])
    assert _apart(one, two, 0.01).tolist() == [False, True, True, False]
    assert _apart(one, two, 0.0).tolist() == [False, True, True, False]


def test_an_array_that_was_only_touched_is_not(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    manifest = _arrays(tmp_path / "data", values)
    store = extract(manifest, "identity", out=tmp_path / "feats").store
    _later(tmp_path / "data" / "3.npy")
    done = extract(manifest, "identity", out=tmp_path / "feats")
    assert done.grew is not None
    assert (done.store, done.grew.changed) == (store, 0)


def test_a_file_that_changes_during_an_interrupted_append_is_encoded_again(tmp_path: Path) -> None:
    data, feats = tmp_path / "data", tmp_path / "feats"
    first = _pictures(data, {f"{at:03}.png": at for at in range(30)})
    extract(first, "pixels", out=feats, batch_size=8)
    more = _pictures(data, {f"{at:03}.png": at for at in range(30, 200)})
    stops: Any = Stops(load_encoder("pixels"), 12)
    with pytest.raises(WorkError, match="stopped"):
        extract(more, stops, out=feats, batch_size=8)
    more = _pictures(data, {"030.png": 999})  # its first features are in the increment already
    _later(data / "030.png")
    extract(more, "pixels", out=feats, batch_size=8)
    done = extract(more, "pixels", out=feats, batch_size=8)
    fresh = extract(more, "pixels", out=tmp_path / "fresh", batch_size=8)
    grown, made = open_features(done.store), open_features(fresh.store)
    np.testing.assert_array_equal(
        grown.pooled[grown.id.index("030.png")], made.pooled[made.id.index("030.png")]
    )
    again = extract(more, "pixels", out=feats, batch_size=8)
    assert again.grew is not None
    assert (again.store, again.grew.changed) == (done.store, 0)


def test_other_settings_make_no_store_below_later_states(tmp_path: Path) -> None:
    data = tmp_path / "data"
    extract(_pictures(data, {f"{at}.png": at for at in range(9)}), "pixels", out=tmp_path / "feats")
    more = _pictures(data, {"x.png": 50})
    grown = extract(more, "pixels", out=tmp_path / "feats")
    collect(tmp_path / "feats")
    with pytest.raises(InputError, match=r"pixels~2\.zarr was made with other settings \(batch_size"):
        extract(more, "pixels", out=tmp_path / "feats", batch_size=3)
    assert [store.path for store in find_stores(tmp_path / "feats", states=True)] == [grown.store]


def test_a_store_with_a_slash_behind_it_is_collected(tmp_path: Path) -> None:
    data = tmp_path / "data"
    first = extract(_pictures(data, {f"{at}.png": at for at in range(9)}), "pixels", out=tmp_path / "feats")
    grown = extract(_pictures(data, {"x.png": 50}), "pixels", out=tmp_path / "feats")
    assert [one.removed for one in collect(f"{grown.store}/")] == [[first.store]]


def test_nothing_is_written_where_nothing_has_changed(tmp_path: Path) -> None:
    manifest = _pictures(tmp_path / "data", {f"{at}.png": at for at in range(9)})
    extract(manifest, "pixels", out=tmp_path / "feats")
    manifest = _pictures(tmp_path / "data", {"x.png": 50})
    grown = extract(manifest, "pixels", out=tmp_path / "feats")

    def there() -> dict[Path, tuple[int, int]]:
        stats = {path: path.stat() for path in (tmp_path / "feats").rglob("*") if path.name != "lock"}
        return {path: (status.st_ino, status.st_mtime_ns) for path, status in stats.items()}

    before = there()
    again = extract(manifest, "pixels", out=tmp_path / "feats")
    assert again.store == grown.store
    assert there() == before


def test_going_back_is_advised_only_to_a_sound_state(tmp_path: Path) -> None:
    data = tmp_path / "data"
    first = extract(_pictures(data, {f"{at:03}.png": at for at in range(200)}), "pixels", out=tmp_path / "f")
    more = _pictures(data, {"x.png": 500})
    grown = extract(more, "pixels", out=tmp_path / "f")
    shard = "pooled/c/0/0"
    assert os.path.samefile(first.store / shard, grown.store / shard)
    with open(grown.store / shard, "r+b") as file:  # in place: both states have the damage
        file.seek(40)
        byte = file.read(1)[0]
        file.seek(40)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(WorkError, match=r"damaged in task 0: `uml extract --overwrite`"):
        extract(more, "pixels", out=tmp_path / "f")
