"""Which rows a run uses: views stay together, made ids name nobody, every row that is left out is counted."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from run_records import change_record
from toy_stores import clusters, write_store
from uml_cache import export_features, import_features, open_features
from uml_cache.errors import InputError
from uml_cache.store.catalogue import store_info
from uml_cache.tables.views import sample_keys, without_view_numbers
from uml_manifests import stratified_split
from uml_train import load_run, train
from uml_train.commands import train as train_command
from uml_train.data.selection import Role
from uml_train.problem import Problem, open_problem
from uml_train.training import open_run_problem

Settings = Callable[..., Any]
LABELS = np.tile(np.arange(5), 12)


def problem(feats: Path, **options: Any) -> Problem:
    roles = [Role(path.parent.name, store_info(path)) for path in sorted(feats.glob("toy/*/*.zarr"))]
    target = next(role for role in roles if role.label == "image")
    return open_problem("toy", target, [role for role in roles if role is not target], **options)


def parts_of(opened: Problem) -> dict[str, np.ndarray]:
    return {name: getattr(opened, name) for name in ("train", "val", "test")}


@given(
    sizes=st.lists(st.integers(1, 5), min_size=6, max_size=40),
    classes=st.integers(1, 4),
    grouped=st.floats(0, 1),
    crossing=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_drawn_splits_part_neither_samples_nor_groups(
    sizes: list[int], classes: int, grouped: float, crossing: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    samples = rng.permutation(np.repeat(np.arange(len(sizes)), sizes)).astype(np.uint64)
    labels = rng.integers(classes, size=len(samples))
    of_sample = [f"g{rng.integers(5)}" if rng.random() < grouped else "" for _ in sizes]
    groups = [of_sample[int(s)] for s in samples]
    if crossing:
        groups[0] = "another"
    try:
        codes = stratified_split(labels, groups, seed, samples=samples)
    except InputError:  # everything hangs together
        assert len({*groups} - {""}) < 3
        return
    assert set(codes.tolist()) == {0, 1, 2}
    for key in set(samples.tolist()):
        assert len(set(codes[samples == key].tolist())) == 1
    for name in {*groups} - {""}:
        assert len(set(codes[np.array(groups) == name].tolist())) == 1


def test_rows_without_views_are_drawn_as_before() -> None:
    alone = np.arange(60, dtype=np.uint64)[::-1]
    plain = stratified_split(LABELS, None, 0)
    np.testing.assert_array_equal(stratified_split(LABELS, None, 0, samples=alone), plain)
    np.testing.assert_array_equal(stratified_split(LABELS, [""] * 60, 0, samples=alone), plain)
    groups = [f"g{row % 7}" for row in range(60)]
    np.testing.assert_array_equal(
        stratified_split(LABELS, groups, 0, samples=alone), stratified_split(LABELS, groups, 0)
    )


def test_an_empty_group_is_no_group() -> None:
    groups = [""] * 57 + ["a", "a", "a"]
    codes = stratified_split(LABELS, groups, 0)
    assert np.bincount(codes).tolist() == pytest.approx([36, 12, 12], abs=4)
    assert len(set(codes[57:].tolist())) == 1


@given(st.lists(st.sampled_from(["a", "b", "a#2", "a#10", "b#1", "c#2", "", "x#y"]), max_size=8))
def test_view_numbers_go_only_where_the_rest_is_an_id(ids: list[str]) -> None:
    found = without_view_numbers(ids)
    for before, after in zip(ids, found, strict=True):
        assert after == before or (before.startswith(f"{after}#") and after in ids)
    keys = sample_keys(found)
    assert keys.dtype == np.uint64
    assert len(set(keys.tolist())) == len({*found})


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".safetensors", ".parquet"])
def test_views_are_kept_by_import_export_and_draws(suffix: str, tmp_path: Path) -> None:
    ids = np.array([f"p{row // 3}.jpg" for row in range(60)])
    labels = np.repeat(np.arange(5), 12)
    np.savez(tmp_path / "f.npz", features=clusters(1, labels, 6, 1.0), labels=labels, paths=ids)
    names = {"dataset": "toy", "modality": "image", "encoder": "e"}
    store = import_features([tmp_path / "f.npz"], tmp_path / "c", **names)
    features = open_features(store.path)
    assert features.id[:4] == ["p0.jpg", "p0.jpg#2", "p0.jpg#3", "p1.jpg"]
    np.testing.assert_array_equal(features.samples, sample_keys(ids.tolist()))
    assert features.id_kind == "given"
    export_features(store.path, tmp_path / f"again{suffix}")
    again = open_features(import_features([tmp_path / f"again{suffix}"], tmp_path / "d", **names).path)
    np.testing.assert_array_equal(again.samples, features.samples)
    opened = problem(tmp_path / "c")
    names_in = [{ids[row] for row in rows} for rows in parts_of(opened).values()]
    assert all(names_in)
    assert sum(map(len, names_in)) == len({*ids})
    assert any("60 rows are views of 20 samples" in remark for remark in opened.remarks)


def test_views_in_given_splits_are_counted(tmp_path: Path) -> None:
    labels = np.tile([0, 1], 30)
    ids = [f"p{row // 2}" for row in range(60)]  # two views each, of which one may be tested
    splits = np.repeat([0, 1, 2], 20).astype(np.uint8)
    splits[[0, 2, 20]] = 2
    np.savez(tmp_path / "f.npz", features=clusters(1, labels, 6, 1.0), labels=labels, ids=ids, splits=splits)
    import_features([tmp_path / "f.npz"], tmp_path / "c", dataset="toy", modality="image", encoder="e")
    (said,) = [r for r in problem(tmp_path / "c").remarks if "views of samples" in r]
    assert said.startswith("warning: 3 of 23 test rows of image are views of samples")


def _two(tmp_path: Path, ours: str, theirs: str, **options: Any) -> Problem:
    """Pictures and texts with the same ids, of these kinds."""
    for modality, kind, seed in (("image", ours, 1), ("text", theirs, 2)):
        values = clusters(seed, LABELS, 6, 1.0)
        write_store(
            tmp_path / "f", modality, values, LABELS.tolist(), [255] * 60,
            ids=[str(row) for row in range(60)], id_kind=kind,
        )  # fmt: skip
    return problem(tmp_path / "f", **options)


@pytest.mark.parametrize(
    ("ours", "theirs", "ids", "excluded"),
    [
        ("given", "given", "recorded", True),
        ("shared", "shared", "recorded", True),
        ("given", "shared", "recorded", True),
        ("made", "given", "recorded", False),
        ("given", "made", "recorded", False),
        ("made", "made", "recorded", False),
        ("own", "given", "recorded", False),
        ("given", "given", "own", False),
        ("made", "made", "shared", True),
    ],
)
def test_only_ids_that_name_samples_exclude_rows(
    tmp_path: Path, ours: str, theirs: str, ids: str, excluded: bool
) -> None:
    opened = _two(tmp_path, ours, theirs, ids=ids)
    held = len(opened.val) + len(opened.test)
    used = opened.used["text"]
    reason = "same id or group as validation and test rows of image"
    assert used.left_out == ({reason: held} if excluded else {})
    assert used.used + held * excluded == 60
    said = [remark for remark in opened.remarks if "rows are left out" in remark]
    assert bool(said) == excluded
    if excluded:
        assert said[0].startswith(f"warning: text: {held} of 60 rows are left out")
        assert "--ids own" in said[0]
    elif "made" in (ours, theirs):
        assert any("--ids shared" in remark for remark in opened.remarks)


def test_a_store_that_does_not_say_keeps_its_ids_and_that_is_said(tmp_path: Path) -> None:
    _two(tmp_path, "given", "given")
    for path in tmp_path.glob("f/toy/*/*.zarr"):  # as version 0.1 wrote it
        content = json.loads((path / "zarr.json").read_text())
        del content["attributes"]["ids"]
        (path / "zarr.json").write_text(json.dumps(content))
        (path / "journal").rename(path / "kept")  # its checksums are of the file as it was
    opened = problem(tmp_path / "f")
    assert opened.target.features.id_kind is None
    (said,) = [remark for remark in opened.remarks if "rows are left out" in remark]
    assert "version 0.1 does not say" in said


def test_empty_groups_exclude_nothing(tmp_path: Path) -> None:
    groups = ["s1", *[""] * 59]
    write_store(
        tmp_path / "f", "image", clusters(1, LABELS, 6, 1.0), LABELS.tolist(), [255] * 60, groups=groups
    )
    write_store(
        tmp_path / "f", "text", clusters(2, LABELS, 6, 1.0), LABELS.tolist(), [255] * 60, groups=groups
    )
    opened = problem(tmp_path / "f")
    assert len(opened.train) >= 30
    assert opened.used["text"].used >= 59


def test_every_row_that_is_left_out_is_counted_recorded_and_listed(
    tmp_path: Path, settings_for: Settings, small_grid: str
) -> None:
    labels = LABELS.copy()
    labels[:2] = -1
    splits = np.array([0, 0, 0, 1, 2] * 12).reshape(5, 12).T.flatten()  # every class in every part
    splits[10:14] = 255
    write_store(
        tmp_path / "f", "image", clusters(1, LABELS, 6, 1.0), labels.tolist(), splits.tolist(), failed=[5]
    )
    texts = np.tile(np.arange(5), 8)
    write_store(
        tmp_path / "f", "text", clusters(2, texts, 6, 1.0), texts.tolist(), np.repeat([0, 2], 20).tolist()
    )
    arguments = ["--cache", str(tmp_path / "f"), "--shots", "1", "--seeds", "1", "--grid", small_grid,
                 "--json", "--method", "unimodal", "--out", str(tmp_path / "r"),
                 "--left-out", str(tmp_path / "left.csv")]  # fmt: skip
    answer = CliRunner().invoke(train_command, arguments, catch_exceptions=False)
    value = json.loads(answer.stdout)
    expected = {
        "image": {"used": 53, "of": 60, "left_out": {"unreadable": 1, "no label": 2, "in no split": 4}},
        "text": {"used": 20, "of": 40, "left_out": {"not in its training part": 20}},
    }
    assert value["rows"] == expected
    assert load_run(value["run"]).config["used"] == expected
    assert answer.stderr.splitlines()[-2:] == [
        "image: 53 of 60 used; left out: unreadable (1), no label (2), in no split (4)",
        "text: 20 of 40 used; left out: not in its training part (20)",
    ]
    with (tmp_path / "left.csv").open(newline="") as file:
        listed = list(csv.DictReader(file))
    assert [(r["source"], r["id"], r["reason"]) for r in listed[:3]] == [
        ("toy/image", "image-0", "no label"),
        ("toy/image", "image-1", "no label"),
        ("toy/image", "image-5", "unreadable"),
    ]
    assert len(listed) == 7 + 20


def test_a_run_keeps_the_parts_that_were_drawn_for_it(tmp_path: Path, settings_for: Settings) -> None:
    write_store(tmp_path / "f", "image", clusters(1, LABELS, 6, 1.0), LABELS.tolist(), [255] * 60)
    run = train(settings_for(tmp_path / "f", methods=("unimodal",)))
    assert run.config["drawn"] is True

    def swap(splits: dict[str, Any]) -> None:
        splits["train"][0], splits["test"][0] = splits["test"][0], splits["train"][0]

    change_record(run.path / "splits.json", swap)
    splits = json.loads((run.path / "splits.json").read_text())
    opened = open_run_problem(run)
    assert set(opened.ids(opened.test)) == set(splits["test"])


def test_one_class_alone_is_refused_and_classes_without_training_rows_are_said(tmp_path: Path) -> None:
    write_store(tmp_path / "one", "image", clusters(1, LABELS * 0, 6, 1.0), [0] * 60, [255] * 60)
    with pytest.raises(InputError, match="36 training rows are of one class, 'red circle'"):
        problem(tmp_path / "one")
    labels = np.r_[np.tile([0, 1], 20), [2] * 10]
    splits = np.r_[np.repeat([0, 1, 2], [20, 10, 10]), [2] * 10]
    write_store(tmp_path / "new", "image", clusters(1, labels, 6, 1.0), labels.tolist(), splits.tolist())
    (said,) = problem(tmp_path / "new").remarks
    assert said.startswith(
        "warning: 10 of 20 test rows of image are of a class (red square) without a training row"
    )
    assert "only the other 50.0 % of the test rows measure" in said
