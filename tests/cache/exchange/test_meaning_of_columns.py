"""`uml cache import` and `uml extract --encoder identity`: columns keep their meaning, or are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from uml_cache import Columns, InputError, import_features, open_features
from uml_cache.exchange.importing import import_counted
from uml_manifests.sources.records import from_arrays

NAMED: dict[str, Any] = {"dataset": "pets", "modality": "image", "encoder": "net"}
FEATURES = np.arange(16, dtype=np.float32).reshape(4, 4)
LABELS = np.array([0, 1, 0, 1])


def _npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **{"features": FEATURES, "labels": LABELS, **arrays})
    return path


def _hdf5(path: Path, **columns: Any) -> Path:
    with h5py.File(path, "w") as file:
        file["features"] = FEATURES
        for name, given in columns.items():
            file.create_dataset(name, **given)
    return path


def _refused(words: str, *sources: Path | str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words) as caught:
        import_features(sources, tmp_path / "feats", **NAMED)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "feats").exists()
    if len(sources) == 1:
        with pytest.raises(InputError, match=words):
            from_arrays(sources[0])


@pytest.mark.parametrize("dtype", ["S1", h5py.string_dtype()])
def test_text_of_hdf5_that_is_not_utf_8_is_refused_and_never_merged(tmp_path: Path, dtype: Any) -> None:
    data = np.array([b"\xe9", b"\xfc", b"\xe9", b"c"], dtype=object if dtype != "S1" else "S1")
    file = _hdf5(tmp_path / "latin.h5", labels={"data": data, "dtype": dtype})
    _refused("the label of row 0 is not UTF-8", file, tmp_path=tmp_path)
    other = _hdf5(
        tmp_path / "note.h5",
        labels={"data": np.array(["a", "b", "a", "b"], dtype=object), "dtype": h5py.string_dtype()},
        note={"data": data, "dtype": dtype},
    )
    store = import_features([other], tmp_path / "feats", **NAMED)  # nobody needs the note
    assert open_features(store.path).classes == ("a", "b")


def test_an_enumeration_of_hdf5_has_its_names(tmp_path: Path) -> None:
    kind = h5py.enum_dtype({"cat": 2, "dog": 0, "eel": 1}, basetype="i1")
    file = _hdf5(tmp_path / "enum.h5", labels={"data": np.array([2, 0, 1, 1], "i1"), "dtype": kind})
    features = open_features(import_features([file], tmp_path / "feats", **NAMED).path)
    manifest = from_arrays(file)
    assert features.classes == manifest.classes == ("cat", "dog", "eel")
    assert features.label.tolist() == manifest.labels.tolist() == [0, 1, 2, 2]


@pytest.mark.parametrize(
    "status", [np.array([256, 0, 0, 0]), np.array([0.5, 0, 0, 0]), np.array([-1, 0, 0, 0]),
               np.array([np.nan, 0, 0, 0]), np.array(["bad", "ok", "ok", "ok"])],
)  # fmt: skip
def test_a_status_that_is_none(tmp_path: Path, status: np.ndarray) -> None:
    file = _npz(tmp_path / "some.npz", status=status)
    _refused("the status of row 0 is .*; expected 0 where the sample could be read", file, tmp_path=tmp_path)


def test_unreadable_rows_are_left_out_of_arrays_too(tmp_path: Path) -> None:
    file = _npz(tmp_path / "some.npz", status=np.array([0, 1, 0, 0]), ids=np.array(list("abcd")))
    manifest = from_arrays(file)
    assert manifest.ids == ["a", "c", "d"]
    assert manifest.sources == [f"some.npz::features::{row}" for row in (0, 2, 3)]
    assert manifest.account().left_out == (("b", "unreadable where the file was made"),)


def test_ids_that_one_of_two_files_lacks_are_missed_in_words(tmp_path: Path) -> None:
    first = _npz(tmp_path / "first.npz", ids=np.array(list("abcd")))
    second = _npz(tmp_path / "second.npz", features=-FEATURES)
    read = import_counted([f"train={first}", f"test={second}"], tmp_path / "feats", **NAMED)
    said = f"{second} has no ids: those of the others are not used, all rows are numbered"
    assert said in read.remarks
    groups = _hdf5(
        tmp_path / "both.h5",
        **{"train/features": {"data": FEATURES}, "train/ids": {"data": np.arange(4)}},
        **{"test/features": {"data": FEATURES}},
    )
    with h5py.File(groups, "a") as file:
        del file["features"]
    assert any("has no ids" in remark for remark in from_arrays(groups).remarks)


def test_features_beside_those_of_splits(tmp_path: Path) -> None:
    file = _npz(tmp_path / "some.npz", **{"test/features": FEATURES, "test/labels": LABELS})
    _refused("has features, and more of them in its group 'test'", file, tmp_path=tmp_path)


@pytest.mark.parametrize(
    ("kind", "dtype", "first"),
    [("ids", "f4", 2**24), ("ids", "f8", 2**53), ("labels", "f2", 2048), ("groups", "f4", 2**24)],
)
def test_numbers_beyond_what_their_type_tells_apart(
    tmp_path: Path, kind: str, dtype: str, first: int
) -> None:
    numbers = np.array([first, first + 1, first + 2, 3]).astype(dtype)
    assert len(np.unique(numbers)) < 4  # this is what would be one sample, or one class
    file = _npz(tmp_path / "some.npz", **{kind: numbers})
    _refused(rf"{kind} are float\d\d and reach {first} \(row 0\)", file, tmp_path=tmp_path)
    whole = np.array([first - 1, first - 2, first - 3, 3])
    kept = _npz(tmp_path / "kept.npz", **{kind: whole.astype(dtype)})
    features = open_features(import_features([kept], tmp_path / "feats", **NAMED).path)
    found = {"ids": features.id, "groups": features.groups}.get(kind) or [
        features.classes[code] for code in features.label
    ]
    assert [int(float(one)) for one in found] == whole.tolist()


def test_padding_is_no_token(tmp_path: Path) -> None:
    tokens = np.arange(4 * 3 * 2, dtype=np.float32).reshape(4, 3, 2)
    file = _npz(tmp_path / "some.npz", features=tokens, lengths=np.array([1, 2, 3, 0]))
    read = import_counted([file], tmp_path / "feats", **NAMED)
    assert open_features(read.store.path).tokens.lengths.tolist() == [1, 2, 3, 0]
    assert any("'lengths'" in remark for remark in read.remarks)
    with pytest.raises(InputError, match="3 of 4 samples have fewer than 3 tokens, the rest is padding"):
        from_arrays(file)
    named = Columns(lengths="length")
    with pytest.raises(InputError, match="unknown array 'length'"):
        import_features([file], tmp_path / "other", columns=named, **NAMED)


def test_true_and_false_beside_whole_numbers(tmp_path: Path) -> None:
    first = _npz(tmp_path / "first.npz")
    second = _npz(tmp_path / "second.npz", features=-FEATURES, labels=LABELS == 1)
    words = "second.npz: its labels are true and false, those of .*first.npz whole numbers"
    _refused(words, f"train={first}", f"test={second}", tmp_path=tmp_path)
