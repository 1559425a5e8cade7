"""MultiBench pickles, MIMIC and .csd files: every step against a plain computation, every option recorded."""

from __future__ import annotations

import pickle
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from uml_cache.errors import InputError
from uml_manifests import Built, build_benchmark, get_benchmark, load_manifest
from uml_manifests.benchmarks.building import build_csd
from uml_manifests.benchmarks.layouts.mimic import tenths

WIDTHS = {"vision": 4, "audio": 3, "text": 6}
STEPS = 7


def sample_part(rng: np.random.Generator, rows: int, labels: Any = None) -> dict[str, Any]:
    """One split as the pickles have it: sequences stand at the end of their steps, zeros before them."""
    part: dict[str, Any] = {name: np.zeros((rows, STEPS, width)) for name, width in WIDTHS.items()}
    for row in range(rows):
        length = int(rng.integers(1, STEPS + 1))
        for name, width in WIDTHS.items():
            part[name][row, STEPS - length :] = rng.normal(size=(length, width)) + 3
    part["labels"] = (rng.normal(size=rows) if labels is None else np.asarray(labels, float)).reshape(
        -1, 1, 1
    )
    part["id"] = np.array([[f"v{row}", "0.5"] for row in range(rows)])
    return part


@pytest.fixture
def mosi(tmp_path: Path) -> tuple[dict[str, Any], Path]:
    rng = np.random.default_rng(0)
    content = {name: sample_part(rng, rows) for name, rows in (("train", 9), ("valid", 4), ("test", 5))}
    content["train"]["text"][2] = 0  # a sample without text
    content["train"]["audio"][3, -1, 1] = -np.inf
    content["valid"]["labels"][1] = 0
    content["test"]["vision"][0, STEPS - 1 :] = 0
    path = tmp_path / "mosi_raw.pkl"
    path.write_bytes(pickle.dumps(content))
    return content, path


def rows_of(built: Built, name: str) -> list[np.ndarray]:
    sequences = built.found.arrays[name]
    return np.split(sequences.values, np.cumsum(sequences.lengths)[:-1])


def test_mosi_as_its_loader_gives_it(mosi: tuple[dict[str, Any], Path]) -> None:
    content, path = mosi
    built = build_benchmark(get_benchmark("mosi"), path.parent)
    vision, _, text = built.manifests
    assert [m.store_name for m in built.manifests] == ["array.vision", "array.audio", "array.text"]
    assert text.ids == vision.ids
    assert len(text) == 17
    assert text.split_counts == {"train": 8, "val": 4, "test": 5}
    assert text.classes == ("negative", "non-negative")
    at, labels = 0, []
    for part in content.values():
        for row in range(len(part["labels"])):
            if not part["text"][row].any():
                continue
            start = next(step for step in range(STEPS) if part["text"][row, step].any())
            for name in WIDTHS:
                expected = np.where(np.isneginf(part[name][row, start:]), 0, part[name][row, start:])
                np.testing.assert_array_equal(rows_of(built, name)[at], expected.astype(np.float32))
            labels.append(int(part["labels"][row, 0, 0] >= 0))
            at += 1
    assert text.labels.tolist() == labels
    assert text.options == (
        "empty=drop",
        "nonfinite=zero",
        "trim=text",
        "vision-scale=none",
        "neutral=positive",
    )
    said = " | ".join(built.remarks)
    assert "1 samples whose text is all zero are left out (empty=drop)" in said
    assert "1 values that are not finite became 0 (nonfinite=zero)" in said
    assert "9 train samples instead of 1284 (the published sizes could not be verified)" in said
    assert built.differences == ()


@pytest.mark.parametrize(
    ("option", "rows", "first_classes"),
    [
        ("neutral=negative", 17, ("non-positive", "positive")),
        ("neutral=drop", 16, ("negative", "positive")),
        ("empty=keep", 18, ("negative", "non-negative")),
    ],
)
def test_options_change_what_they_say(
    mosi: tuple[dict[str, Any], Path], option: str, rows: int, first_classes: tuple[str, ...]
) -> None:
    key, _, value = option.partition("=")
    built = build_benchmark(get_benchmark("mosi"), mosi[1], options={key: value})
    assert len(built.manifest) == rows
    assert built.manifest.classes == first_classes
    assert option in built.manifest.options
    usual = build_benchmark(get_benchmark("mosi"), mosi[1])
    assert built.manifest.digest != usual.manifest.digest
    if key == "neutral":
        position = usual.manifest.ids.index("v1_0.5#2")  # the validation sample with a score of 0
        assert usual.manifest.labels[position] == 1
        assert value == "drop" or built.manifest.labels[position] == 0


def test_trim_and_nonfinite(mosi: tuple[dict[str, Any], Path]) -> None:
    whole = build_benchmark(get_benchmark("mosi"), mosi[1], options={"trim": "none"})
    assert set(whole.found.arrays["text"].lengths.tolist()) == {STEPS}
    own = build_benchmark(get_benchmark("mosi"), mosi[1], options={"trim": "own"})
    usual = build_benchmark(get_benchmark("mosi"), mosi[1])
    first_test = 12
    assert own.found.arrays["text"].lengths.tolist() == usual.found.arrays["text"].lengths.tolist()
    # The vision of this sample has no step at all: it is kept whole, and never empty.
    assert own.found.arrays["vision"].lengths[first_test] >= 1
    kept = build_benchmark(get_benchmark("mosi"), mosi[1], options={"nonfinite": "keep"})
    assert np.isneginf(kept.found.arrays["audio"].values).sum() == 1


def test_sarcasm_is_scaled_by_its_training_part(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    content = {name: sample_part(rng, 6, [-1, 1] * 3) for name in ("train", "valid", "test")}
    for part in content.values():
        part["vision"][..., 2] = 5.0  # a feature that never changes: 0/0 without a guard
    (tmp_path / "sarcasm.pkl").write_bytes(pickle.dumps(content))
    sarcasm = get_benchmark("sarcasm")
    raw = build_benchmark(sarcasm, tmp_path, options={"vision-scale": "none"})
    train = np.concatenate(rows_of(raw, "vision")[:6]).astype(np.float64)
    built = build_benchmark(sarcasm, tmp_path)
    assert built.manifest.classes == ("not sarcastic", "sarcastic")
    assert built.manifest.labels.tolist() == [0, 1] * 9
    scaled = built.found.arrays["vision"].values
    expected = (raw.found.arrays["vision"].values - train.mean(0)) / np.where(
        train.std(0) < 1e-8, 1, train.std(0)
    )
    expected[:, 2] = 0
    np.testing.assert_allclose(scaled, expected, atol=1e-5)
    assert any("1 constant features of vision became 0" in remark for remark in built.remarks)
    np.testing.assert_array_equal(built.found.arrays["text"].values, raw.found.arrays["text"].values)
    each = build_benchmark(sarcasm, tmp_path, options={"vision-scale": "split"})
    for start in (0, 6, 12):
        part = np.concatenate(rows_of(each, "vision")[start : start + 6])
        np.testing.assert_allclose(part.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(part.std(0)[[0, 1, 3]], 1, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": 3}, "expected train, valid and test"),
        ({"valid": {}}, "valid: vision is NoneType; expected numbers of shape samples"),
        ({"labels": np.zeros((6, 1))}, "labels are -1, 0, 1, 2"),
        ({"vision": np.zeros((6, 3, 4))}, r"train: vision has shape \(6, 3, 4\), text \(6, 7, 6\)"),
        ({"text": np.zeros((6, 7, 6))}, "no sample is left|text"),
        ({"text": np.array([["words"]], dtype=object)}, r"text is object \(1, 1\)"),
    ],
)
def test_pickles_of_another_form(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    rng = np.random.default_rng(1)
    content: dict[str, Any] = {name: sample_part(rng, 6, [-1, 1] * 3) for name in ("train", "valid", "test")}
    for key, value in change.items():
        if key in content:
            content[key] = value
        else:
            for part in content.values() if key == "text" else [content["train"]]:
                part[key] = value
    if "labels" in change:
        content["train"]["labels"] = np.array([0, 2, 0, 2, 0, 2])
    (tmp_path / "sarcasm.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=message) as caught:
        build_benchmark(get_benchmark("sarcasm"), tmp_path)
    assert "\n" not in str(caught.value)


def test_mimic(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    content = {
        "ep_tdata": rng.normal(2, 3, size=(40, 24, 12)), "adm_features_all": rng.normal(size=(40, 5)),
        "y_icd9": rng.integers(0, 2, size=(40, 20)), "adm_labels_all": np.eye(40, 6, k=0, dtype=int),
    }  # fmt: skip
    content["ep_tdata"][0, 0, 0] = np.nan
    (tmp_path / "im.pk").write_bytes(pickle.dumps(content))
    built = build_benchmark(get_benchmark("mimic"), tmp_path)
    series, static = built.manifests
    assert (series.store_name, static.store_name) == ("array.timeseries", "array.static")
    order = list(range(40))
    random.seed(10)
    random.shuffle(order)  # as MultiBench does it
    val, test = {f"stay-{row}" for row in order[:4]}, {f"stay-{row}" for row in order[4:8]}
    assert {one for one, code in zip(series.ids, series.splits, strict=True) if code == 1} == val
    assert {one for one, code in zip(series.ids, series.splits, strict=True) if code == 2} == test
    assert series.labels.tolist() == content["y_icd9"][:, 7].tolist()
    assert set(built.found.arrays["static"].lengths.tolist()) == {1}
    assert set(built.found.arrays["timeseries"].lengths.tolist()) == {24}
    train = np.nan_to_num(content["ep_tdata"])[series.splits == 0].reshape(-1, 12)
    expected = (np.nan_to_num(content["ep_tdata"]).reshape(-1, 12) - train.mean(0)) / train.std(0)
    np.testing.assert_allclose(built.found.arrays["timeseries"].values, expected, atol=1e-4)
    assert "scale=train" in series.options
    mortality = build_benchmark(get_benchmark("mimic"), tmp_path, options={"task": "-1"}).manifest
    assert mortality.labels[:7].tolist() == [0, 1, 2, 3, 4, 5, 0]
    assert len(mortality.classes) == 6
    assert np.bincount(tenths(105)).tolist() == [84, 10, 11]
    with pytest.raises(InputError, match="unknown value of option task: '20'"):
        build_benchmark(get_benchmark("mimic"), tmp_path, options={"task": "20"})


def csd_file(path: Path, videos: dict[str, tuple[Any, Any]]) -> Path:
    with h5py.File(path, "w") as file:
        for video, (features, intervals) in videos.items():
            group = file.create_group(f"{path.stem}/data/{video}")
            group["features"] = features
            group["intervals"] = intervals
        file.create_group(f"{path.stem}/metadata")
    return path


@pytest.fixture
def sdk(tmp_path: Path) -> Path:
    folder = tmp_path / "sdk"
    folder.mkdir()
    seconds = np.stack([np.arange(6), np.arange(1, 7)], axis=1)
    csd_file(folder / "Opinion Labels.csd", {
        "b": ([[1.5], [-2.0]], [[0, 2], [2, 6]]), "a": ([[0.0], [3.0]], [[0, 3], [50, 60]]),
    })  # fmt: skip
    features = np.arange(12.0).reshape(6, 2)
    features[0, 0] = -np.inf
    csd_file(folder / "COVAREP.csd", {"a": (features, seconds), "b": (features + 100, seconds)})
    words = np.array([[b"so"], [b"sp"], [b"good"], [b"and"], [b"not"], [b"bad"]])
    csd_file(folder / "words.csd", {"a": (words, seconds), "b": (words, seconds)})
    return folder


def test_csd_segments(sdk: Path, tmp_path: Path) -> None:
    built = build_csd("talks", sdk, {})
    sounds, texts = built.manifests
    assert (sounds.store_name, texts.store_name) == ("array.COVAREP", "text.words")
    assert sounds.ids == texts.ids == ["a[0]", "b[0]", "b[1]"]
    assert sounds.groups == ["a", "b", "b"]
    assert sounds.labels.tolist() == [1, 1, 0]
    assert texts.sources == ["so good", "so", "good and not bad"]
    assert built.found.arrays["COVAREP"].lengths.tolist() == [3, 2, 4]
    assert built.found.arrays["COVAREP"].values[:, 1].tolist() == [1, 3, 5, 101, 103, 105, 107, 109, 111]
    assert built.found.arrays["COVAREP"].values[0, 0] == 0
    assert "1 of 4 segments lack steps and are left out" in built.remarks
    assert len(build_csd("talks", sdk, {"neutral": "drop"}).manifest) == 2
    # The same files in the folder of a known data set without its pickle.
    known = build_benchmark(get_benchmark("mosi"), sdk)
    assert known.manifest.labels.tolist() == [1, 1, 0]
    written = built.write(tmp_path / "out")
    assert [load_manifest(folder).digest for _, folder in written] == [m.digest for m, _ in written]


def test_csd_without_labels_and_broken_ones(sdk: Path, tmp_path: Path) -> None:
    alone = build_csd("talks", sdk / "COVAREP.csd", {})
    assert alone.manifest.ids == ["a", "b"]
    assert alone.manifest.labels.tolist() == [-1, -1]
    (tmp_path / "bad.csd").write_bytes(b"not hdf5")
    with pytest.raises(InputError, match="cannot be read as a computational sequence"):
        build_csd("talks", tmp_path / "bad.csd", {})
    with h5py.File(tmp_path / "other.csd", "w") as file:
        file["x"] = [1]
    with pytest.raises(InputError, match="has no NAME/data group"):
        build_csd("talks", tmp_path / "other.csd", {})
    csd_file(sdk / "more labels.csd", {"a": ([[1.0]], [[0, 1]])})
    with pytest.raises(InputError, match="may be the labels; choose with --option labels="):
        build_csd("talks", sdk, {})
    with pytest.raises(InputError, match=r"has no nolabels; it has COVAREP\.csd"):
        build_csd("talks", sdk, {"labels": "nolabels"})


def test_arrays_move_with_their_manifests(mosi: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    written = build_benchmark(get_benchmark("mosi"), mosi[1]).write(tmp_path / "data/mosi")
    (tmp_path / "data").rename(tmp_path / "moved")
    again = load_manifest(tmp_path / "moved/mosi/array.text")
    assert again.digest == written[2][0].digest
    assert again.path(0) == tmp_path / "moved/mosi/arrays.h5::text::0"
    assert replace(again, options=()).digest != again.digest
    with h5py.File(tmp_path / "moved/mosi/arrays.h5") as file:
        assert list(file.attrs["options"]) == list(again.options)
