"""`uml cache import FOLDER` with one file per sample: bags of tokens, single vectors, what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from uml_cache import InputError, import_features, open_features, verify
from uml_cache.exchange.formats import sample_folder

_NAMES: Any = {"dataset": "slides", "modality": "image", "encoder": "uni"}


def _write(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".pt":
        torch.save(torch.from_numpy(values), path)
    else:
        with h5py.File(path, "w") as file:
            file["features"] = values
            file["coords"] = np.zeros((len(values), 2), np.int64)


@pytest.mark.parametrize("suffix", [".npy", ".pt", ".h5"])
def test_bags_of_class_folders(tmp_path: Path, suffix: str) -> None:
    chance = np.random.default_rng(0)
    bags: dict[str, np.ndarray] = {}
    for row in range(8):
        name = f"{'train' if row < 5 else 'test'}/{'tumour' if row % 2 else 'normal'}/slide_{row}"
        bags[name] = chance.normal(size=(3 + 7 * row, 6)).astype(np.float32)
        _write(tmp_path / "feats" / f"{name}{suffix}", bags[name])
    (tmp_path / "feats" / "train" / "notes.txt").write_text("no features")
    store = import_features([tmp_path / "feats"], tmp_path / "out", **_NAMES)
    found = open_features(store.path)
    assert list(found.id) == sorted(bags)
    assert tuple(found.classes) == ("normal", "tumour")
    values, offsets = found.tokens.packed(np.arange(8))
    np.testing.assert_array_equal(values, np.concatenate([bags[name] for name in sorted(bags)]))
    np.testing.assert_array_equal(np.diff(offsets), [len(bags[name]) for name in sorted(bags)])
    assert [found.classes[label] for label in found.label] == [name.split("/")[1] for name in sorted(bags)]
    assert np.asarray(found.split).tolist() == [
        {"train": 0, "test": 2}[n.split("/")[0]] for n in sorted(bags)
    ]
    assert verify(store.path).ok
    again = import_features([tmp_path / "feats"], tmp_path / "out", **_NAMES)
    assert again.path == store.path


def test_single_vectors_without_labels(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=(20, 5)).astype(np.float16)
    for row in range(20):
        _write(tmp_path / "feats" / f"{row:02d}.npy", values[row])
    found = open_features(import_features([tmp_path / "feats"], tmp_path / "out", **_NAMES).path)
    np.testing.assert_array_equal(found.pooled, values)
    assert str(np.asarray(found.pooled).dtype) == "float16"
    assert (np.asarray(found.label) == -1).all()


def test_files_are_not_in_memory_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read at once is a piece of rows and the file that it ends in, however many files there are."""
    for row in range(6):
        _write(tmp_path / f"{row}.npy", np.full((10, 4), row, np.float32))
    joined = sample_folder.read_sample_folder(tmp_path, None)["tokens"]
    read: list[str] = []
    real = sample_folder.read_file

    def counting(file: Path, stack: Any) -> Any:
        read.append(file.name)
        return real(file, stack)

    monkeypatch.setattr(sample_folder, "read_file", counting)
    np.testing.assert_array_equal(joined[15:25][:, 0], [1] * 5 + [2] * 5)
    np.testing.assert_array_equal(joined[25], [2] * 4)
    assert read == ["1.npy", "2.npy"]
    assert joined[60:].shape == (0, 4)
    _write(tmp_path / "5.npy", np.zeros((10, 5), np.float32))
    with pytest.raises(InputError, match=r"5\.npy: has changed since it was first read"):
        joined[50:]


def test_what_does_not_fit_is_one_line(tmp_path: Path) -> None:
    def refused(folder: str, match: str) -> None:
        with pytest.raises(InputError, match=match) as error:
            import_features([tmp_path / folder], tmp_path / "out", **_NAMES)
        assert "\n" not in str(error.value)

    for name, shape in {"a": (4, 6), "b": (4, 7)}.items():
        _write(tmp_path / "width" / f"{name}.npy", np.zeros(shape, np.float32))
    refused("width", r"b.npy has shape \(4, 7\), a.npy has \(4, 6\)")
    for suffix in (".npy", ".pt"):
        _write(tmp_path / "twice" / f"a{suffix}", np.zeros((4, 6), np.float32))
    refused("twice", "2 files are called a")
    (tmp_path / "code").mkdir()
    torch.save({"features": Path("x")}, tmp_path / "code" / "a.pt")
    refused("code", "such pickles can run code and are not loaded")
    _write(tmp_path / "flat" / "a.npy", np.zeros((1, 4, 6), np.float32))
    refused("flat", "save them without the first 1")
    (tmp_path / "empty").mkdir()
    refused("empty", "is a folder without")
    with h5py.File(tmp_path / "width" / "c.h5", "w") as file:
        file["other"] = np.zeros((2, 6))
    refused("width", "found no features; it holds other")
