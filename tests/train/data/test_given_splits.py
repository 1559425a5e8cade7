"""`uml train --splits`: a file's splits stand for the store's own, in the run and when it is reopened."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from toy_stores import clusters, write_store
from uml_cache.errors import InputError
from uml_train import TrainSettings, load_run, read_class_map, train
from uml_train.data.given_splits import read_splits
from uml_train.training import open_run_problem

Settings = Callable[..., TrainSettings]


def fold(path: Path, test_from: int) -> Path:
    """Of 160 pictures (5 classes in turn): 10 train, 10 validate, and those from `test_from` on test."""
    parts = {"train": range(100, 110), "val": range(110, 120), "test": range(test_from, test_from + 20)}
    lines = [f"image-{row},{part}" for part, rows in parts.items() for row in rows]
    path.write_text("\n".join(["id,split", *lines, "image-99,"]) + "\n")
    return path


def test_the_file_decides(cache: Path, settings_for: Settings, tmp_path: Path) -> None:
    splits = fold(tmp_path / "fold1.csv", 0)
    common = {"methods": ("unimodal", "uml"), "auxiliaries": (("text",),), "shots": (2,)}
    run = train(settings_for(cache, splits=splits, **common))
    recorded = json.loads((run.path / "splits.json").read_text())
    assert recorded["train"] == [f"image-{row}" for row in range(100, 110)]
    assert recorded["test"] == [f"image-{row}" for row in range(20)]
    # k = 2 of 2 a class: every seed's draw is the whole fold.
    for seed in (1, 2):
        assert sorted(recorded["draws"][f"k2-s{seed}"]["train"]) == sorted(recorded["train"])
    assert run.test_labels.tolist() == [row % 5 for row in range(20)]
    assert run.config["used"]["image"] == {
        "used": 40, "of": 160, "left_out": {"in no split of --splits": 120}
    }  # fmt: skip
    other = train(settings_for(cache, splits=fold(tmp_path / "fold2.csv", 20), **common))
    own = train(settings_for(cache, **common))
    assert len({run.path, other.path, own.path}) == 3
    assert train(settings_for(cache, splits=splits, **common)).path == run.path
    splits.unlink()  # a run knows its splits
    problem = open_run_problem(load_run(run.path))
    assert problem.ids(problem.test) == recorded["test"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("sample,split\nimage-1,train\n", "expected id,split"),
        ("id,split,split\nimage-1,train,test\n", "column 'split' occurs twice; keep one"),
        ("id,split\nimage,1,train\n", "line 2: has more cells than the header"),
        ("id,split\nimage-1,tset\n", "line 2: unknown split 'tset'; did you mean test"),
        ("id,split\nimage-1,train\nimage-1,test\n", "line 3: 'image-1' is in two different splits"),
        (
            "id,split\nother,train\n",
            "names no sample of image: it has 'other', the samples are such as 'image-0'",
        ),
        ("id,split\nimage-1,train\n", "no readable val row"),
    ],
)
def test_files_that_are_none(
    cache: Path, settings_for: Settings, tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        train(settings_for(cache, splits=tmp_path / "x.csv"))


def test_a_published_index_is_read_where_it_lies(cache: Path, settings_for: Settings, tmp_path: Path) -> None:
    def part(rows: range, shift: int = 0) -> dict[str, object]:
        data = [
            {"impath": f"./data/toy/images/image-{row}", "label": (row + shift) % 5, "classname": "x"}
            for row in rows
        ]
        return {"data": data, "indices": list(rows)}

    index = tmp_path / "shot_2-seed_1.json"
    index.write_text(json.dumps({"train": part(range(10)), "val": part(range(40, 50))}))
    run = train(settings_for(cache, splits=index, methods=("unimodal",)))
    recorded = json.loads((run.path / "splits.json").read_text())
    assert recorded["train"] == [f"image-{row}" for row in range(10)]
    assert recorded["val"] == [f"image-{row}" for row in range(40, 50)]
    assert recorded["test"] == [f"image-{row}" for row in range(60, 160)]  # the store's own test part
    index.write_text(json.dumps({"train": part(range(10), 1), "val": part(range(40, 50))}))
    with pytest.raises(
        InputError, match=r"image-0' class 1, but it is 0 in image; the index belongs to another"
    ):
        train(settings_for(cache, splits=index, methods=("unimodal",)))
    index.write_text('{"train": []}')
    with pytest.raises(InputError, match="is no few-shot index; expected train and val"):
        train(settings_for(cache, splits=index, methods=("unimodal",)))


def test_splits_are_spelled_as_in_every_table(tmp_path: Path) -> None:
    file = tmp_path / "splits.csv"
    file.write_text("id,split\na,Train\nb, VALIDATION\nc,testing \nd,\ne,nan\n")
    assert read_splits(file).codes == {"a": 0, "b": 1, "c": 2, "d": 255, "e": 255}


def test_a_class_map_has_each_column_once(tmp_path: Path) -> None:
    file = tmp_path / "map.csv"
    file.write_text("auxiliary,target,target\nrobins,robin,canary\n")
    with pytest.raises(InputError, match="column 'target' occurs twice; keep one"):
        read_class_map(file)


def test_no_file_and_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_splits(tmp_path / "none.csv")
    with pytest.raises(InputError, match="is a folder"):
        read_splits(tmp_path)
    (tmp_path / "x.csv").write_bytes(b"id,split\n\xff,train\n")
    with pytest.raises(InputError, match="is not UTF-8"):
        read_splits(tmp_path / "x.csv")


def test_a_group_may_not_lie_in_two_parts(tmp_path: Path, settings_for: Settings) -> None:
    labels = np.tile(np.arange(5), 32)
    groups = [f"g{row // 10}" for row in range(160)]
    features = clusters(1, labels, 12, 1.5)
    write_store(tmp_path / "feats", "image", features, labels, np.full(160, 255), groups=groups)
    file = fold(tmp_path / "fold.csv", 0)
    train(settings_for(tmp_path / "feats", splits=file, methods=("unimodal",)))
    file.write_text(file.read_text() + "image-120,train\nimage-121,test\n")
    with pytest.raises(InputError, match="group 'g12' occurs in train and test"):
        train(settings_for(tmp_path / "feats", splits=file, methods=("unimodal",)))
