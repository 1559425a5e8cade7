"""One random table in every format: the same rows, labels, splits and groups through every reader."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from uml_cache import Columns, import_features, open_features
from uml_manifests import Manifest, resolve_data

pyarrow = pytest.importorskip("pyarrow")
_NAMED: dict[str, Any] = {"dataset": "d", "modality": "text", "encoder": "e"}
_LABELS = st.sampled_from(
    [
        "cat",
        "Cat",
        " cat",
        "cafe\u0301",
        "caf\u00e9",
        "01",
        "1",
        "2",
        "\u092a\u093e\u0932",
        "red fox",
        "nan",
        "None",
        "",
        "-1",
        "a,b",
        'q"',
    ]
)


class Row(NamedTuple):
    label: str | None
    split: str
    group: str


_ROWS = st.lists(
    st.builds(
        Row, _LABELS, st.sampled_from(["train", "val", "Test", ""]), st.sampled_from(["g1", "g\u00e9", ""])
    ),
    min_size=1,
    max_size=8,
)


def _columns(rows: list[Row]) -> dict[str, list[str]]:
    return {
        "id": [f"r{number}" for number in range(len(rows))],
        "text": [f"text {number}" for number in range(len(rows))],
        "label": [str(row.label) for row in rows],
        "split": [row.split for row in rows],
        "group": [row.group for row in rows],
    }


def _write_csv(path: Path, table: dict[str, list[str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(table)
        out.writerows(zip(*table.values(), strict=True))
    return path


def _write_jsonl(path: Path, table: dict[str, list[str]]) -> Path:
    rows = [dict(zip(table, cells, strict=True)) for cells in zip(*table.values(), strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _write_separated(path: Path, table: dict[str, list[str]], separator: str) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, delimiter=separator)
        out.writerow(table)
        out.writerows(zip(*table.values(), strict=True))
    return path


def _write_rows(path: Path, table: dict[str, list[str]]) -> Path:
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(table), path, row_group_size=3)
    return path


def _write_tar(path: Path, table: dict[str, list[str]]) -> Path:
    with tarfile.open(path, "w") as opened:
        for row, name in enumerate(table["id"]):
            record = {key: table[key][row] for key in ("text", "label", "split", "group")}
            content = json.dumps(record).encode()
            header = tarfile.TarInfo(f"{name}.json")
            header.size = len(content)
            opened.addfile(header, io.BytesIO(content))
    return path


def _write_saved(folder: Path, table: dict[str, list[str]]) -> Path:
    folder.mkdir()
    content = pyarrow.table(table)
    with (
        pyarrow.OSFile(str(folder / "data.arrow"), "wb") as sink,
        pyarrow.ipc.new_stream(sink, content.schema) as out,
    ):
        out.write_table(content)
    kind = {"dtype": "string", "_type": "Value"}
    (folder / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": "data.arrow"}], "_split": None})
    )
    (folder / "dataset_info.json").write_text(json.dumps({"features": dict.fromkeys(table, kind)}))
    return folder


def _write_arrays(folder: Path, table: dict[str, list[str]]) -> list[tuple[Path, Columns | None]]:
    """The same table beside features, as .npz, HDF5, parquet, and as .npy with columns in files."""
    from pyarrow import parquet

    features = np.arange(2 * len(table["id"]), dtype=np.float32).reshape(-1, 2)
    columns = {name: cells for name, cells in table.items() if name != "text"}
    np.savez(
        folder / "t.npz", features=features, **{name: np.array(cells) for name, cells in columns.items()}
    )
    with h5py.File(folder / "t.h5", "w") as file:
        file["features"] = features
        for name, cells in columns.items():
            file.create_dataset(name, data=cells, dtype=h5py.string_dtype())
    parquet.write_table(pyarrow.table({"features": list(features), **columns}), folder / "t.parquet")
    np.save(folder / "t.npy", features)
    files = {}
    for name, cells in columns.items():
        files[name] = folder / f"{name}.txt"
        files[name].write_text("".join(f"{cell}\n" for cell in cells), encoding="utf-8")
    beside = Columns(
        labels=str(files["label"]),
        ids=str(files["id"]),
        splits=str(files["split"]),
        groups=str(files["group"]),
    )
    return [
        (folder / "t.npz", None),
        (folder / "t.h5", None),
        (folder / "t.parquet", None),
        (folder / "t.npy", beside),
    ]


def _of_manifest(manifest: Manifest) -> tuple[Any, ...]:
    names = [manifest.classes[label] if label >= 0 else None for label in manifest.labels]
    return list(manifest.ids), names, manifest.classes, manifest.splits.tolist(), manifest.groups


def _of_store(path: Path) -> tuple[Any, ...]:
    found = open_features(path)
    names = [found.classes[label] if label >= 0 else None for label in found.label]
    return list(found.id), names, found.classes, found.split.tolist(), found.groups


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=_ROWS)
def test_every_format_says_the_same(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> None:
    folder = tmp_path_factory.mktemp("table")
    table = _columns(rows)
    expected = _of_manifest(resolve_data(_write_csv(folder / "t.csv", table)))
    assert expected[0] == table["id"]
    for source in (
        _write_jsonl(folder / "t.jsonl", table),
        _write_separated(folder / "t.tsv", table, "\t"),
        _write_separated(folder / "semicolons.csv", table, ";"),
        _write_rows(folder / "rows.parquet", table),
        _write_tar(folder / "t.tar", table),
        _write_saved(folder / "saved", table),
    ):
        assert _of_manifest(resolve_data(source, modality="text")) == expected, source.name
    for source, columns in _write_arrays(folder, table):
        store = import_features([source], folder / source.suffix, **_NAMED, columns=columns)
        found = _of_store(store.path)
        assert found == expected, source.name
        if columns is None and source.suffix != ".parquet":
            assert _of_manifest(resolve_data(source)) == expected, source.name


_NUMBERS = st.lists(
    st.tuples(st.integers(-1, 2), st.sampled_from([0, 1, 2, 255])), min_size=2, max_size=8
).filter(lambda some: {label for label, _ in some} != {-1, 1})


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(numbers=_NUMBERS)
def test_whole_numbers_say_the_same_with_and_without_types(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("numbers")
    labels, codes = [label for label, _ in numbers], [code for _, code in numbers]
    features = np.zeros((len(labels), 2), np.float32)
    names = {0: "train", 1: "val", 2: "test", 255: ""}
    rows = [
        {"id": f"r{at}", "text": "x", "label": label, "split": names[code]}
        for at, (label, code) in enumerate(numbers)
    ]
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = _of_manifest(resolve_data(folder / "t.jsonl"))
    expected = said[1], said[3]
    assert said[3] == codes
    arrays = {"features": features, "label": np.array(labels), "split": np.array(codes, np.uint8)}
    np.savez(folder / "t.npz", **arrays)
    np.savez(folder / "float.npz", **{**arrays, "label": np.array(labels, np.float64)})
    save_file(arrays, folder / "t.safetensors")
    save_file({**arrays, "split": np.array(codes)}, folder / "wide.safetensors")
    table = {name: [str(row[name]) for row in rows] for name in ("id", "text", "label", "split")}
    found = _of_manifest(resolve_data(_write_csv(folder / "t.csv", table)))
    assert (found[1], found[3]) == expected
    for name in ("t.npz", "float.npz", "t.safetensors", "wide.safetensors"):
        store = import_features([folder / name], folder / f"feats {name}", **_NAMED)
        found = _of_store(store.path)
        assert (found[1], found[3]) == expected, name
