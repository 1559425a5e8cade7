"""Rows of different length in HDF5 files through the encoder `identity`; processed data from end to end."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from uml_cache import InputError, open_features
from uml_cache.cli import main
from uml_extract import extract
from uml_manifests import Manifest, build_benchmark, get_benchmark, load_manifest

WIDTHS = {"vision": 6, "audio": 3, "text": 8}


def ragged(path: Path, lengths: list[int], values: np.ndarray) -> Manifest:
    with h5py.File(path, "w") as file:
        file["steps/values"] = values
        file["steps/length"] = lengths
    rows = len(lengths)
    return Manifest(
        name="walks", modality="array", set="steps", classes=("a", "b"), root=path.parent,
        ids=[str(row) for row in range(rows)], sources=[f"{path.name}::steps::{row}" for row in range(rows)],
        labels=np.arange(rows) % 2, splits=np.full(rows, 255),
    )  # fmt: skip


def test_tokens_and_means_of_ragged_rows(tmp_path: Path) -> None:
    lengths = [3, 1, 5, 2]
    values = np.random.default_rng(0).normal(size=(11, 4)).astype(np.float32)
    done = extract(
        ragged(tmp_path / "x.h5", lengths, values), "identity", out=tmp_path, tokens=True, dtype="float32"
    )
    features = open_features(done.store)
    assert features.tokens.lengths.tolist() == lengths
    packed, offsets = features.tokens.packed(np.array([2, 0]))
    np.testing.assert_array_equal(packed.numpy(), np.concatenate([values[4:9], values[:3]]))
    assert offsets.tolist() == [0, 5, 8]
    np.testing.assert_allclose(features.pooled[3], values[9:].mean(0), rtol=1e-6)


def test_rows_without_steps_and_files_that_disagree(tmp_path: Path) -> None:
    values = np.ones((3, 4), np.float32)
    done = extract(
        ragged(tmp_path / "x.h5", [2, 0, 1], values), "identity", out=tmp_path, tokens=True, max_errors=1
    )
    assert done.failed == 1
    assert open_features(done.store).valid.tolist() == [True, False, True]
    manifest = ragged(tmp_path / "y.h5", [2, 2], values)
    with pytest.raises(InputError, match=r"its arrays cannot be read .*does not add up"):
        extract(manifest, "identity", out=tmp_path)
    (tmp_path / "y.h5").unlink()
    with pytest.raises(InputError, match="its arrays cannot be read"):
        extract(manifest, "identity", out=tmp_path)


def test_a_file_that_is_written_anew_is_read_anew(tmp_path: Path) -> None:
    manifest = ragged(tmp_path / "x.h5", [1, 2], np.zeros((3, 4), np.float32))
    extract(manifest, "identity", out=tmp_path / "a")
    (tmp_path / "x.h5").unlink()
    manifest = ragged(tmp_path / "x.h5", [1, 2], np.ones((3, 4), np.float32))
    done = extract(manifest, "identity", out=tmp_path / "b")
    assert float(open_features(done.store).pooled.float().min()) == 1


def part(rng: np.random.Generator, rows: int) -> dict[str, Any]:
    """A split of a MultiBench pickle whose modalities both tell the label."""
    found: dict[str, Any] = {name: np.zeros((rows, 9, width), np.float32) for name, width in WIDTHS.items()}
    labels = rng.normal(size=rows)
    for row in range(rows):
        length = int(rng.integers(2, 9))
        for name, width in WIDTHS.items():
            signal = np.where(np.arange(width) == 0, np.sign(labels[row]), 0)
            found[name][row, 9 - length :] = signal + 0.3 * rng.normal(size=(length, width))
    return {**found, "labels": labels.reshape(-1, 1, 1), "id": np.array([f"v{n}[0]" for n in range(rows)])}


def test_a_pickle_becomes_a_trained_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    content = {name: part(rng, rows) for name, rows in (("train", 40), ("valid", 12), ("test", 30))}
    for split in content.values():
        split["labels"] = np.sign(split["labels"])
    Path("humor.pkl").write_bytes(pickle.dumps(content))

    def uml(*words: str) -> Any:
        with pytest.raises(SystemExit) as left:
            main([*words, "--json", "--quiet"])
        captured = capsys.readouterr()
        assert left.value.code == 0, captured.err
        return json.loads(captured.out)

    built = uml("data", "build", "humor", "--root", "humor.pkl")
    assert [one["set"] for one in built["manifests"]] == ["vision", "audio", "text"]
    for one in ("vision", "text"):
        done = uml("extract", "--encoder", "identity", "--tokens", "--data", "humor", "--set", one)
        assert done["rows"] == 82
    manifest = load_manifest("data/humor/array.text")
    features = open_features("feats/humor/array.text/identity@tokens.zarr")
    expected = build_benchmark(get_benchmark("humor"), "humor.pkl").found.arrays["text"]
    assert features.tokens.lengths.tolist() == expected.lengths.tolist()
    packed, _ = features.tokens.packed(np.arange(82))
    np.testing.assert_array_equal(packed.numpy(), expected.values.astype(np.float32))
    assert list(features.id) == manifest.ids
    run = uml(
        "train", "--target", "array.vision", "--aux", "array.text", "--shots", "2", "--seeds", "1",
        "--method", "unimodal,uml",
    )  # fmt: skip
    rows = Path(run["results"]).read_text().splitlines()
    assert len(rows) > 2
    table = uml("eval", "--probe", "fewshot", "--k", "2")["table"]
    assert {row["method"] for row in table} == {"unimodal", "uml", "textbook"}
    assert all(row["mean"] > 60 for row in table)
