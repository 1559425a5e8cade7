"""`verify` finds damage wherever it is, and names the file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uml_cache import InputError, verify

Maker = Callable[..., Any]


def files_of(store: Path) -> list[Path]:
    return sorted(path for path in store.rglob("*") if path.is_file() and path.name != "lock")


def named(entry: dict[str, str]) -> str:
    return f"{entry['array']}/{entry['shard']}".lstrip("/")


def test_a_sound_store(sealed: Any) -> None:
    report = verify(sealed.path)
    assert report.ok
    assert report.sealed
    assert report.bad == []
    assert report.checked == len(files_of(sealed.path))


def flip_and_verify(store: Path, path: Path, byte: int, bit: int) -> list[dict[str, str]]:
    with open(path, "r+b") as stream:
        stream.seek(byte)
        value = stream.read(1)[0]
        for changed in (value ^ (1 << bit), value):
            stream.seek(byte)
            stream.write(bytes([changed]))
            stream.flush()
            if changed != value:
                report = verify(store)
                assert verify(store, quick=True) == report
    assert not report.ok
    return report.bad


def test_200_flipped_bits_in_shards_are_each_named(sealed: Any, tmp_path: Path) -> None:
    store = tmp_path / "store.zarr"
    shutil.copytree(sealed.path, store)
    shards = [path for path in files_of(store) if "/c/" in str(path)]
    kinds = {path.relative_to(store).as_posix().split("/c/")[0] for path in shards}
    assert {"pooled", "tokens/values", "tokens/start", "tokens/length", "status", "label", "id"} <= kinds
    generator = np.random.default_rng(7)
    for _ in range(200):
        path = shards[generator.integers(len(shards))]
        byte, bit = int(generator.integers(path.stat().st_size)), int(generator.integers(8))
        bad = flip_and_verify(store, path, byte, bit)
        assert [named(entry) for entry in bad] == [path.relative_to(store).as_posix()]
    assert verify(store).ok


def test_flipped_bits_in_metadata_and_journal_are_named(sealed: Any, tmp_path: Path) -> None:
    store = tmp_path / "store.zarr"
    shutil.copytree(sealed.path, store)
    generator = np.random.default_rng(8)
    for path in files_of(store):
        if path.suffix == ".json":
            for _ in range(3):
                byte, bit = int(generator.integers(path.stat().st_size)), int(generator.integers(8))
                bad = flip_and_verify(store, path, byte, bit)
                assert path.relative_to(store).as_posix() in [named(entry) for entry in bad]


def test_missing_and_cut_files(maker: Maker) -> None:
    made = maker().fill()
    (made.path / "status/c/2").unlink()
    shard = made.path / "tokens/values/c/1/0"
    shard.write_bytes(shard.read_bytes()[:-1])
    report = verify(made.path)
    assert verify(made.path, quick=True) == report
    assert {named(entry): entry["reason"].split()[0] for entry in report.bad} == {
        "status/c/2": "missing",
        "tokens/values/c/1/0": "has",
    }


def test_an_unsealed_store_is_reported_as_such(maker: Maker) -> None:
    report = verify(maker().fill([0, 3]).path)
    assert not report.ok
    assert not report.sealed
    assert report.bad == []


def test_records_of_another_store(maker: Maker) -> None:
    one, other = maker("a.zarr").fill(), maker("b.zarr", batch_size=8).fill()
    shutil.copy(other.path / "journal/1.json", one.path / "journal/1.json")
    assert [named(entry) for entry in verify(one.path).bad] == ["journal/1.json"]
    assert "another store" in verify(one.path).bad[0]["reason"]


def test_paths_without_a_journal(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        verify(tmp_path / "none.zarr")
    with pytest.raises(InputError, match="no journal"):
        verify(tmp_path)
