"""`uml cache import`: sources that contradict each other, and columns that cannot be read, are refused."""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from uml_cache import InputError, import_features, open_features

NAMED: dict[str, Any] = {"dataset": "pets", "modality": "image", "encoder": "net"}
FEATURES = np.arange(16, dtype=np.float32).reshape(4, 4)
LABELS = np.array([0, 1, 0, 1])


def _refused(words: str, *sources: str | Path, out: Path) -> None:
    with pytest.raises(InputError, match=words) as caught:
        import_features(sources, out, **NAMED)
    assert "\n" not in str(caught.value)
    assert not out.exists()


def test_a_split_before_the_name_contradicts_the_column(tmp_path: Path) -> None:
    file = tmp_path / "some.npz"
    np.savez(file, features=FEATURES, labels=LABELS, split=np.array(["train", "test", "", "test"]))
    _refused("2 of its 4 rows have a split other than train", f"train={file}", out=tmp_path / "feats")
    np.savez(file, features=FEATURES, labels=LABELS, split=np.array(["train", "", "", "train"]))
    store = import_features([f"train={file}"], tmp_path / "feats", **NAMED)
    assert open_features(store.path).split.tolist() == [0, 0, 0, 0]


def test_an_unknown_split_before_the_name_is_named(tmp_path: Path) -> None:
    file = tmp_path / "some.npz"
    np.savez(file, features=FEATURES)
    _refused("unknown split 'test1'; did you mean test", f"test1={file}", out=tmp_path / "feats")


@pytest.mark.parametrize("second", ["{}", "test={}", "{}/../some.npz"])
def test_one_file_twice(tmp_path: Path, second: str) -> None:
    file = tmp_path / "some.npz"
    np.savez(file, features=FEATURES)
    again = second.format(file if "/.." not in second else tmp_path)
    again = again if "/.." not in second else f"{tmp_path}/../{tmp_path.name}/some.npz"
    _refused("are the same file", f"train={file}", again, out=tmp_path / "feats")


def test_an_array_that_is_in_an_archive_twice(tmp_path: Path) -> None:
    def write(*arrays: np.ndarray) -> Path:
        file = tmp_path / "some.npz"
        with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # zipfile says that the name is there already
            for array in arrays:
                data = io.BytesIO()
                np.save(data, array)
                archive.writestr("features.npy", data.getvalue())
        return file

    _refused("'features' is in it twice", write(FEATURES, FEATURES + 1), out=tmp_path / "feats")
    same = import_features([write(FEATURES, FEATURES)], tmp_path / "feats", **NAMED)
    np.testing.assert_array_equal(open_features(same.path).pooled.numpy(), FEATURES)


@pytest.mark.parametrize("how", ["references", "external", "dangling"])
@pytest.mark.parametrize("column", ["labels", "split", "id"])
def test_a_column_of_hdf5_that_cannot_be_read(tmp_path: Path, how: str, column: str) -> None:
    file = tmp_path / "some.h5"
    with h5py.File(file, "w") as opened:
        opened["features"] = FEATURES
        if how == "references":
            opened.create_dataset(column, data=[opened["features"].ref] * 4, dtype=h5py.ref_dtype)
        elif how == "external":
            opened[column] = h5py.ExternalLink("other.h5", "/labels")
        else:
            opened[column] = h5py.SoftLink("/nowhere")
    _refused(f"'{column}' cannot be read", file, out=tmp_path / "feats")


def test_groups_of_hdf5_in_a_circle(tmp_path: Path) -> None:
    file = tmp_path / "some.h5"
    with h5py.File(file, "w") as opened:
        opened["train/features"] = FEATURES
        opened["train/again"] = h5py.SoftLink("/train")
    _refused("lead in a circle", file, out=tmp_path / "feats")


@pytest.mark.parametrize("place", ["file", "labels"])
@pytest.mark.parametrize("name", ["classes", "class_names"])
def test_a_class_list_in_an_attribute(tmp_path: Path, place: str, name: str) -> None:
    file = tmp_path / "some.h5"
    with h5py.File(file, "w") as opened:
        opened["features"] = FEATURES
        opened["labels"] = LABELS
        (opened if place == "file" else opened["labels"]).attrs[name] = ["wren", "owl"]
    store = import_features([file], tmp_path / "feats", **NAMED)
    assert open_features(store.path).classes == ("wren", "owl")
    with h5py.File(file, "a") as opened:
        opened["classnames"] = ["owl", "wren"]
    _refused("classnames and an attribute of the file list different", file, out=tmp_path / "other")


def test_two_class_lists_in_attributes(tmp_path: Path) -> None:
    file = tmp_path / "some.h5"
    with h5py.File(file, "w") as opened:
        opened["features"] = FEATURES
        opened["labels"] = LABELS
        opened.attrs["classes"] = ["wren", "owl"]
        opened["labels"].attrs["classes"] = ["owl", "wren"]
    _refused("two attributes list different classes", file, out=tmp_path / "feats")
