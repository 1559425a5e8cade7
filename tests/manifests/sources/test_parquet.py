"""Parquet files as `--data`: texts, paths, media in cells, classes in the schema, folders of the hub."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from uml_cache import Choice, InputError
from uml_extract import read_sample
from uml_manifests import Manifest, resolve_data


def _png(value: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (value, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def _red(manifest: Manifest, row: int) -> int:
    return int(np.asarray(read_sample(manifest, row, rate=16_000, seconds=1.0))[0, 0, 0])


def _write(path: Path, columns: dict[str, Sequence[Any]], features: dict[str, Any] | None = None) -> Path:
    table = pyarrow.table(columns)
    if features is not None:
        told = {"huggingface": json.dumps({"info": {"features": features}})}
        table = table.replace_schema_metadata(told)
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path, row_group_size=2)
    return path


_CLASSES = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}


def _pictures(values: Sequence[int]) -> list[dict[str, Any]]:
    return [{"bytes": _png(value), "path": f"{value}.png"} for value in values]


def test_pictures_in_cells_of_a_hub_s_folder(tmp_path: Path) -> None:
    data = tmp_path / "pets" / "data"
    for name, values in (("train-00000-of-00002", [10, 20, 30, 40, 50]), ("train-00001-of-00002", [60]),
                         ("test-00000-of-00001", [70])):  # fmt: skip
        labels = [value // 10 % 2 for value in values]
        _write(data / f"{name}.parquet", {"image": _pictures(values), "label": labels}, _CLASSES)
    found = resolve_data(tmp_path / "pets", modality="image")
    assert found.classes == ("cat", "dog")
    assert found.splits.tolist() == [2, 0, 0, 0, 0, 0, 0]
    assert found.labels.tolist() == [1, 1, 0, 1, 0, 1, 0]
    assert found.ids[0] == "data/test-00000-of-00001.parquet/0"
    assert found.remarks == ("splits are read from the files' names",)
    order = [*range(len(found)), 3, 0, 6]  # in order, and back and forth over the groups of rows
    values = [_red(found, row) for row in order]
    assert values == [70, 10, 20, 30, 40, 50, 60, 30, 70, 60]


@pytest.mark.parametrize("kind", ["struct", "bytes"])
def test_media_without_a_word_in_the_schema(tmp_path: Path, kind: str) -> None:
    cells: list[Any] = _pictures([1, 2]) if kind == "struct" else [_png(1), _png(2)]
    path = _write(tmp_path / "p.parquet", {"photo": cells, "label": ["a", "b"], "id": ["x", "y"]})
    found = resolve_data(path, modality="image")
    assert (found.ids, found.classes) == (["x", "y"], ("a", "b"))
    assert _red(found, 1) == 2
    if kind == "struct":
        assert resolve_data(path).modality == "image"  # the cells' paths tell it
    else:
        with pytest.raises(InputError, match="pictures or sounds"):
            resolve_data(path)


def test_texts_beside_pictures_are_chosen_by_the_encoder(tmp_path: Path) -> None:
    columns = {"image": _pictures([1, 2]), "text": ["one", "two"], "label": [0, 1]}
    path = _write(tmp_path / "p.parquet", columns, _CLASSES)
    texts = resolve_data(path, modality="text")
    assert (texts.sources, texts.classes) == (["one", "two"], ("cat", "dog"))
    assert resolve_data(path, choice=Choice(text="text")).modality == "text"


def test_paths_start_beside_the_file_or_at_the_root(tmp_path: Path) -> None:
    (tmp_path / "pics").mkdir()
    (tmp_path / "pics" / "a.png").write_bytes(_png(9))
    path = _write(tmp_path / "p.parquet", {"path": ["pics/a.png"], "label": ["a"], "split": ["test"]})
    found = resolve_data(path)
    assert (found.modality, found.splits.tolist()) == ("image", [2])
    assert _red(found, 0) == 9
    moved = _write(tmp_path / "elsewhere" / "p.parquet", {"path": ["a.png"], "label": ["a"]})
    assert resolve_data(moved, root=tmp_path / "pics").path(0) == tmp_path / "pics" / "a.png"


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"number": [1.0, 2.0]}, "has no column of path or text; its columns are number"),
        ({"text": ["a", None]}, "row 1: has no string 'text'"),
        ({"a": [b"x"], "b": [b"y"]}, "'a' and 'b' are columns of media"),
        ({"text": pyarrow.array([], pyarrow.string())}, "there are columns but no samples"),
        ({"text": ["a"], "label": [0.5]}, "0.5"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, columns: dict[str, Any], said: str) -> None:
    path = _write(tmp_path / "p.parquet", columns)
    with pytest.raises(InputError) as caught:
        resolve_data(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_differ_and_files_that_are_broken(tmp_path: Path) -> None:
    _write(tmp_path / "d" / "train.parquet", {"text": ["a"], "label": ["x"]})
    _write(tmp_path / "d" / "val.parquet", {"text": ["a"], "class": ["x"]})
    with pytest.raises(InputError, match=r"not those of train\.parquet"):
        resolve_data(tmp_path / "d")
    whole = (tmp_path / "d" / "train.parquet").read_bytes()
    for at in range(0, len(whole), 23):
        (tmp_path / "cut.parquet").write_bytes(whole[:at])
        with pytest.raises(InputError, match="cannot be read as parquet"):
            resolve_data(tmp_path / "cut.parquet")


@pytest.mark.parametrize("role", ["label", "split", "group", "id"])
@pytest.mark.parametrize("kind", ["date", "struct", "list"])
def test_a_column_with_a_role_s_name_is_never_passed_over(tmp_path: Path, role: str, kind: str) -> None:
    cells = {
        "date": pyarrow.array([1, 2], pyarrow.timestamp("s")),
        "struct": pyarrow.array([{"name": "cat"}, {"name": "dog"}]),
        "list": pyarrow.array([["cat"], ["dog"]]),
    }[kind]
    path = _write(tmp_path / "a.parquet", {"text": ["a", "b"], role: cells})
    with pytest.raises(InputError, match=role):
        resolve_data(path, modality="text")
    with pytest.raises(InputError, match="row 0"):
        resolve_data(path, modality="text", choice=Choice(**{role: role}))


@pytest.mark.parametrize("kind", [pyarrow.string_view(), pyarrow.binary(), pyarrow.binary_view()])
@pytest.mark.parametrize("media", [False, True])
def test_labels_splits_and_groups_are_text_in_every_type_of_text(
    tmp_path: Path, kind: pyarrow.DataType, media: bool
) -> None:
    columns = {
        name: pyarrow.array(
            [cell.encode() if pyarrow.types.is_binary(kind) else cell for cell in cells]
        ).cast(kind)
        for name, cells in (("label", ["dog", "cat"]), ("split", ["train", "test"]), ("group", ["g", "h"]))
    }
    samples = {"image": _pictures([10, 20])} if media else {"text": ["a", "b"]}
    path = _write(tmp_path / "a.parquet", {**samples, **columns})
    found = resolve_data(path, modality="image" if media else "text")
    assert found.classes == ("cat", "dog")
    assert found.labels.tolist() == [1, 0]
    assert found.splits.tolist() == [0, 2]
    assert found.groups is not None
    assert [str(group) for group in found.groups] == ["g", "h"]
