"""One byte flipped in any file of a store: noticed by who reads the store, or without effect."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uml_cache import InputError, WorkError, create_or_resume, open_features, verify
from uml_cache.store import checking

Maker = Callable[..., Any]
_EXAMPLES = 150


def seen(path: Path) -> list[Any]:
    """Everything that reading a store gives."""
    features = open_features(path)
    values, offsets = features.tokens.packed(np.arange(len(features)))
    columns = [features.label, features.split, features.status, np.array(features.id), features.groups]
    return [
        features.pooled.numpy().tobytes(),
        values.numpy().tobytes(),
        offsets.numpy().tobytes(),
        *[np.asarray(column).tobytes() for column in columns],
        features.classes,
        features.encoder,
        features.fingerprint,
    ]


@pytest.fixture(scope="module")
def store(make_at: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_at(tmp_path_factory.mktemp("flips") / "store.zarr", failed=(5, 290)).fill().path


@settings(max_examples=_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_byte_is_noticed_or_without_effect(store: Path, data: st.DataObject) -> None:
    files = sorted(path for path in store.rglob("*") if path.is_file() and path.stat().st_size)
    path = data.draw(st.sampled_from(files))
    at = data.draw(st.integers(0, path.stat().st_size - 1))
    change = data.draw(st.integers(1, 255))
    expected = seen(store)
    before = path.stat()
    with open(path, "r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)[0]
        stream.seek(at)
        stream.write(bytes([byte ^ change]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # the time alone must not decide
    try:
        assert seen(store) == expected
    except (InputError, WorkError):
        pass
    finally:
        with open(path, "r+b") as stream:
            stream.seek(at)
            stream.write(bytes([byte]))


def test_only_shards_that_are_read_are_looked_at(maker: Maker) -> None:
    made = maker().fill()
    shard = made.path / "pooled" / "c" / "3" / "0"
    shard.write_bytes(b"\xff" * 64 * 32 * 2 + shard.read_bytes()[64 * 32 * 2 :])
    features = open_features(made.path)
    if features.access == "mapped":
        assert features.pooled_of(np.arange(192)).shape == (300, 32)
    features.tokens.packed(np.arange(300))
    with pytest.raises(WorkError, match=r"64 rows hold NaN or infinite values \(rows 192, 193, "):
        features.pooled_of(np.array([200]))
    with pytest.raises(WorkError, match="run the same `uml extract`"):
        _ = open_features(made.path, access="memory").pooled
    features.close()
    store = create_or_resume(made.path, made.plan)
    assert store.damaged(range(5)) == [3]
    store.unseal([3])
    made.fill()
    assert verify(made.path).ok


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The shards whose content is looked at."""
    found: list[str] = []
    real = checking.is_sound

    def looked(path: Path, entry: Any) -> bool:
        found.append(entry["path"])
        return real(path, entry)

    monkeypatch.setattr(checking, "is_sound", looked)
    monkeypatch.setattr(checking, "_YOUNG_NS", 0)
    return found


def test_the_second_time_nothing_is_read(maker: Maker, reads: list[str]) -> None:
    made = maker().fill()
    _ = open_features(made.path).pooled
    assert sorted(reads) == [f"pooled/c/{task}/0" for task in range(5)]
    _ = open_features(made.path).pooled
    assert len(reads) == 5
    shard = made.path / "pooled" / "c" / "1" / "0"
    shutil.copy(shard, shard.with_name("copy"))
    os.replace(shard.with_name("copy"), shard)  # another file, though its content is the same
    _ = open_features(made.path).pooled
    assert reads[5:] == ["pooled/c/1/0"]


def test_where_nothing_can_be_remembered_all_is_read_again(
    maker: Maker, reads: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    made = maker().fill()
    for times in (1, 2):
        _ = open_features(made.path).pooled
        assert len(reads) == 5 * times


def test_a_memory_that_is_damaged_is_no_memory(maker: Maker, reads: list[str]) -> None:
    made = maker().fill()
    _ = open_features(made.path).pooled
    for content in (
        b"{",
        b"[]",
        b'{"format": 1, "files": []}',
        b'{"format": 1, "files": {"pooled/c/0/0": 1}}',
    ):
        place = checking._place(made.path)
        assert place is not None
        place.write_bytes(content)
        reads.clear()
        _ = open_features(made.path).pooled
        assert len(reads) == 5


def test_records_without_crc32c_are_checked_by_sha256(maker: Maker) -> None:
    made = maker().fill()
    shard = made.path / "pooled" / "c" / "0" / "0"
    entry = {"path": "pooled/c/0/0", "bytes": shard.stat().st_size}
    entry["sha256"] = checking.checksums(shard.read_bytes())["sha256"]
    assert checking.is_sound(shard, entry)
    shard.write_bytes(b"x" + shard.read_bytes()[1:])
    assert not checking.is_sound(shard, entry)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_foreign_features_that_are_not_finite_are_named(tmp_path: Path, value: float) -> None:
    group = zarr.create_group(tmp_path / "net.zarr")
    values = np.ones((3000, 8), np.float32)
    values[[7, 2500]] = value
    group.create_array("pooled", data=values, chunks=(100, 8))
    group.create_array("label", data=np.zeros(3000, np.int32))
    with pytest.raises(WorkError, match=r"1 rows hold NaN or infinite values \(rows 7\) in pooled"):
        _ = open_features(tmp_path / "net.zarr").pooled
    assert np.isnan(open_features(tmp_path / "net.zarr", check=False).pooled[7, 0].numpy()) or np.isinf(value)
    status = np.zeros(3000, np.uint8)
    status[[7, 2500]] = 1
    group.create_array("status", data=status)
    assert open_features(tmp_path / "net.zarr").pooled.shape == (3000, 8)
