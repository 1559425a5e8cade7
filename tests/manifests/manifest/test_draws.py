"""Few-shot draws equal the benchmark's index files; stratified splits keep proportions and groups."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uml_cache.errors import InputError
from uml_manifests import Manifest, few_shot, from_coop, read_index, stratified_split, write_index

FORMATS = Path(__file__).resolve().parents[4] / "shared" / "data" / "formats"
real_files = pytest.mark.skipif(not FORMATS.is_dir(), reason="the real index files are not here")


def toy(classes: int = 3, per_class: int = 10) -> Manifest:
    count = classes * per_class
    labels = np.arange(count)[::-1] % classes  # the last class appears first
    return Manifest(
        name="toy",
        modality="image",
        classes=tuple("abcdef"[:classes]),
        root=Path("/toy"),
        ids=[f"id{i}" for i in range(count)],
        sources=[f"images/{i}.png" for i in range(count)],
        labels=labels,
        splits=np.arange(count) % 5 % 3,
    )


def test_golden_draw() -> None:
    manifest = toy()
    draw = few_shot(manifest.labels, manifest.splits, shots=2, seed=1)
    assert draw.train_rows.tolist() == [3, 15, 5, 8, 10, 13]
    assert draw.val_rows.tolist() == [19, 4, 24, 6, 11, 14]


@real_files
@pytest.mark.parametrize("shots", [1, 4, 16])
@pytest.mark.parametrize("seed", [1, 2])
def test_draws_equal_the_real_files(tmp_path: Path, shots: int, seed: int) -> None:
    manifest = from_coop(FORMATS / "split_zhou_OxfordPets.json", tmp_path, "oxford_pets")
    draw = few_shot(manifest.labels, manifest.splits, shots=shots, seed=seed)
    real = FORMATS / "indices" / "oxford_pets" / f"shot_{shots}-seed_{seed}.json"
    written = write_index(tmp_path / "draw.json", manifest, draw, prefix="./data/oxford_pets/images")
    assert json.loads(written.read_text()) == json.loads(real.read_text())
    again = read_index(real, manifest)
    np.testing.assert_array_equal(again.train_rows, draw.train_rows)
    np.testing.assert_array_equal(again.val_rows, draw.val_rows)


@given(st.integers(1, 6), st.integers(0, 2**32), st.integers(1, 6))
def test_a_draw_has_k_per_class_and_min_k_4_val(shots: int, seed: int, classes: int) -> None:
    labels = np.tile(np.arange(classes), 12)
    splits = np.repeat([0, 1], 6 * classes)
    draw = few_shot(labels, splits, shots=shots, seed=seed)
    for rows, count, split in ((draw.train_rows, shots, 0), (draw.val_rows, min(shots, 4), 1)):
        assert np.bincount(labels[rows]).tolist() == [count] * classes
        assert np.all(splits[rows] == split)
        assert len(set(rows.tolist())) == len(rows)


def test_rows_without_label_or_split_are_never_drawn() -> None:
    labels, splits = np.array([0, -1, 0, 0, 0]), np.array([0, 0, 255, 1, 2])
    draw = few_shot(labels, splits, shots=1, seed=3)
    assert draw.train_rows.tolist() == [0]
    assert draw.val_rows.tolist() == [3]
    assert draw.ids(["p", "q", "r", "s", "t"]) == {"train": ["p"], "val": ["s"]}


@pytest.mark.parametrize(
    ("labels", "splits", "shots", "message"),
    [
        ([0, 0, 1, 1], [0, 1, 0, 1], 0, "shots must be at least 1, got 0"),
        ([0, 0, 1, 1], [0, 1, 0, 1], 2, "class 'x' has 1 train samples, but 2"),
        ([0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1], 3, "class 'x' has 2 val samples, but 3"),
        ([0, 0], [0, 0], 1, "no labelled sample is in the val split"),
        ([0, 0], [255, 255], 1, "no labelled sample is in the train split"),
    ],
)
def test_too_small_data_is_named(labels: list[int], splits: list[int], shots: int, message: str) -> None:
    with pytest.raises(InputError) as caught:
        few_shot(np.array(labels), np.array(splits), shots=shots, seed=1, classes=("x", "y"))
    assert message in str(caught.value)


@given(
    counts=st.lists(st.tuples(st.integers(1, 7), st.integers(1, 6)), min_size=1, max_size=5),
    shots=st.integers(1, 7),
    seed=st.integers(0, 9),
)
def test_a_short_class_gives_all_it_has_as_in_the_public_code(
    counts: list[tuple[int, int]], shots: int, seed: int
) -> None:
    labels = np.array([label for label, both in enumerate(counts) for _ in range(sum(both))])
    splits = np.array([code for both in counts for code, count in enumerate(both) for _ in range(count)])

    def drawn(generator: random.Random, code: int, k: int) -> list[int]:
        by_class: dict[int, list[int]] = {}
        for row in np.flatnonzero(splits == code).tolist():
            by_class.setdefault(int(labels[row]), []).append(row)
        return [
            row
            for rows in by_class.values()
            for row in (generator.sample(rows, k) if len(rows) >= k else rows)
        ]

    if max(train for train, _ in counts) < shots:
        with pytest.raises(InputError, match=f"no class has {shots} train samples"):
            few_shot(labels, splits, shots=shots, seed=seed, short_classes="whole")
        return
    draw = few_shot(labels, splits, shots=shots, seed=seed, short_classes="whole")
    generator = random.Random(seed)
    assert draw.train_rows.tolist() == drawn(generator, 0, shots)
    assert draw.val_rows.tolist() == drawn(generator, 1, min(shots, 4))
    if min(min(both) for both in counts) < shots and min(train for train, _ in counts) < shots:
        with pytest.raises(InputError, match="--short-classes whole"):
            few_shot(labels, splits, shots=shots, seed=seed)


def test_index_files_of_texts_go_by_id(tmp_path: Path) -> None:
    manifest = toy()
    texts = Manifest(**{**vars(manifest), "modality": "text"})
    draw = few_shot(texts.labels, texts.splits, shots=1, seed=1)
    path = write_index(tmp_path / "x" / "draw.json", texts, draw)
    assert set(json.loads(path.read_text())["train"]["data"][0]) == {"id", "label", "classname"}
    assert read_index(path, texts).train_rows.tolist() == draw.train_rows.tolist()


def test_a_wrong_index_is_named(tmp_path: Path) -> None:
    manifest = toy()
    draw = few_shot(manifest.labels, manifest.splits, shots=1, seed=1)
    path = write_index(tmp_path / "draw.json", manifest, draw)
    content = json.loads(path.read_text())
    assert content["train"]["data"][0]["impath"].startswith("./data/toy/images/")
    content["train"]["data"][0]["label"] = 1 - content["train"]["data"][0]["label"] % 2
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="has label"):
        read_index(path, manifest)
    content["train"]["data"][0]["impath"] = "./data/toy/images/none.png"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"none\.png' is not in data set 'toy'"):
        read_index(path, manifest)
    path.write_text("[]")
    with pytest.raises(InputError, match="not a few-shot index"):
        read_index(path, manifest)


@given(st.lists(st.integers(-1, 4), min_size=3, max_size=80), st.integers(0, 1000))
def test_stratified_split_is_proportional(labels: list[int], seed: int) -> None:
    splits = stratified_split(np.array(labels), None, seed)
    assert set(splits.tolist()) <= {0, 1, 2}
    np.testing.assert_array_equal(splits, stratified_split(np.array(labels), None, seed))
    for label in set(labels):
        counts = np.bincount(splits[np.array(labels) == label], minlength=3)
        size = counts.sum()
        assert np.all(np.abs(counts - size * np.array([0.6, 0.2, 0.2])) <= 2)
        assert size < 3 or counts.min() >= 1


@given(st.data())
@settings(max_examples=60)
def test_groups_are_never_cut(data: st.DataObject) -> None:
    groups = data.draw(
        st.lists(st.sampled_from("abcdefgh"), min_size=3, max_size=60).filter(lambda g: len(set(g)) > 2)
    )
    labels = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(groups), max_size=len(groups))))
    splits = stratified_split(labels, groups, data.draw(st.integers(0, 99)))
    assert set(splits.tolist()) == {0, 1, 2}
    for group in set(groups):
        assert len(set(splits[np.array(groups) == group].tolist())) == 1


def test_four_speakers_go_two_one_one() -> None:
    groups = [speaker for speaker in "abcd" for _ in range(40)]
    splits = stratified_split(np.tile(np.arange(10), 16), groups, seed=0)
    assert np.bincount(splits).tolist() == [80, 40, 40]


@pytest.mark.parametrize(("groups", "what"), [(None, "3 samples"), (["a", "b"], "3 groups")])
def test_too_few_units(groups: list[str] | None, what: str) -> None:
    with pytest.raises(InputError, match=what):
        stratified_split(np.array([0, 0]), groups, 0)
