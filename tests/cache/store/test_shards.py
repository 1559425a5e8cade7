"""Shard files against zarr-python, which must read back what was written."""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from uml_cache import open_features
from uml_cache.store.checking import checksums
from uml_cache.store.plans.layout import ShardedArray
from uml_cache.store.shards import ShardWriter, read_index


@given(data=st.data())
@settings(deadline=None, max_examples=30, derandomize=True)
def test_zarr_reads_shards_back(data: st.DataObject) -> None:
    chunk = data.draw(st.integers(1, 9))
    shard = chunk * data.draw(st.integers(1, 5))
    rows = data.draw(st.integers(1, 60))
    width = data.draw(st.none() | st.integers(1, 7))
    dtype = data.draw(st.sampled_from(["float16", "float32"])) if width else "uint8"
    array = ShardedArray("values", rows, width, dtype, shard, chunk)
    values = np.random.default_rng(rows).integers(0, 200, array.shape).astype(dtype)
    with tempfile.TemporaryDirectory() as folder:
        _write_array(Path(folder), array, values, pieces=data.draw(st.integers(1, 4)))
        assert np.array_equal(zarr.open_array(Path(folder) / "values", mode="r")[:], values)


def _write_array(folder: Path, array: ShardedArray, values: np.ndarray, pieces: int) -> None:
    import json

    for task, at in enumerate(range(0, array.rows, array.shard_rows)):
        path = folder / array.shard_path(task)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as stream:
            writer = ShardWriter(stream, array)
            for piece in np.array_split(values[at : at + array.shard_rows], pieces):
                writer.write(piece)
            writer.finish()
        assert path.stat().st_size == writer.size
    (folder / "values" / "zarr.json").write_text(json.dumps(array.metadata()))


@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=200),
    dim=st.sampled_from([1, 3, 32]),
    dtype=st.sampled_from(["float16", "float32"]),
)
@settings(deadline=None, max_examples=12, derandomize=True)
def test_whole_stores_read_back(
    make_at: Callable[..., Any], lengths: list[int], dim: int, dtype: str
) -> None:
    counts = np.array(lengths, np.int32)
    with tempfile.TemporaryDirectory() as folder:
        made = make_at(
            Path(folder) / "s.zarr",
            rows=len(lengths),
            dim=dim,
            token_dim=dim,
            token_counts=counts,
            dtype=dtype,
        ).fill()
        group = zarr.open_group(made.path, mode="r")
        pooled, tokens = made.pooled.astype(dtype), made.tokens.astype(dtype)
        assert np.array_equal(group["pooled"][:], pooled)
        assert group["id"][:].tolist() == made.plan.ids
        assert np.array_equal(group["label"][:], made.plan.labels)
        assert np.array_equal(group["tokens/length"][:], counts)
        values, start = group["tokens/values"][:], group["tokens/start"][:]
        read = [values[at : at + length] for at, length in zip(start, counts, strict=True)]
        assert np.array_equal(np.concatenate(read), tokens)
        rows = np.random.default_rng(1).permutation(len(lengths))
        ends = np.concatenate([[0], np.cumsum(counts)])
        for access in ("auto", "memory", "zarr"):
            features = open_features(made.path, access=access)
            assert np.array_equal(features.pooled.numpy(), pooled)
            packed, offsets = features.tokens.packed(rows)
            expected = np.concatenate([tokens[ends[row] : ends[row + 1]] for row in rows])
            assert np.array_equal(packed.numpy(), expected)
            assert np.array_equal(np.diff(offsets.numpy()), counts[rows])


def test_unfilled_chunks_do_not_exist() -> None:
    array = ShardedArray("values", 100, 4, "float16", 100, 10)
    stream = io.BytesIO()
    writer = ShardWriter(stream, array)
    writer.write(np.ones((25, 4), np.float16))
    writer.finish()
    chunks = 3  # 25 rows: two whole chunks and one padded with zeros
    assert len(stream.getvalue()) == chunks * 10 * 8 + 10 * 16 + 4
    assert not any(stream.getvalue()[25 * 8 : 30 * 8])


def test_a_shard_cannot_be_overfilled() -> None:
    writer = ShardWriter(io.BytesIO(), ShardedArray("values", 100, 4, "float16", 20, 10))
    with pytest.raises(ValueError, match="holds 20 rows"):
        writer.write(np.ones((21, 4), np.float16))


def test_index_out_of_order_is_not_flat(tmp_path: Path) -> None:
    import google_crc32c

    array = ShardedArray("values", 20, 1, "uint8", 20, 10)
    path = tmp_path / "shard"
    with open(path, "wb") as stream:
        writer = ShardWriter(stream, array)
        writer.write(np.arange(20, dtype=np.uint8)[:, None])
        writer.finish()
    assert read_index(path, array).flat_rows == 20
    content = bytearray(path.read_bytes())
    index = np.frombuffer(content, "<u8", 4, 20).reshape(2, 2)[::-1].tobytes()
    content[20:] = index + google_crc32c.value(index).to_bytes(4, "little")
    path.write_bytes(content)
    swapped = read_index(path, array)
    assert swapped.flat_rows is None
    assert not swapped.damaged
    content[21] ^= 1
    path.write_bytes(content)
    assert read_index(path, array).damaged


def test_pieces_keep_their_order_whatever_the_disk_is_doing() -> None:
    """The file and its checksum are those of the rows in order, with a stream that dawdles now and then."""

    class Dawdling(io.BytesIO):
        def write(self, data: Any) -> int:
            if self.tell() % 3 == 0:
                time.sleep(0.01)
            return super().write(data)

    array = ShardedArray("pooled", 8192, 301, "float32", 8192, 1024)
    values = np.random.default_rng(0).standard_normal((8192, 301), dtype=np.float32)
    stream = Dawdling()
    writer = ShardWriter(stream, array)
    for at in range(0, 8192, 870):
        writer.write(values[at : at + 870])
    checksum = writer.finish()
    assert stream.getvalue()[: values.nbytes] == values.tobytes()
    assert checksum == checksums(stream.getvalue())
    assert writer.size == len(stream.getvalue())
