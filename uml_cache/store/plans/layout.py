"""Store format 1 on paper: which arrays a store holds, how they are cut, and the metadata that says so.

Shapes: N samples, D features, S samples a task, C rows an inner chunk, R token rows a task, V = tasks * R.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

FORMAT_VERSION = 1
SPLIT_NAMES = ("train", "val", "test")
NO_SPLIT = 255
REPLACED, REMOVED = 254, 253  # `status` of rows that a later state of the store has no use for
FLAGGED = (REPLACED, REMOVED)

SHARD_BYTES = 64_000_000  # no shard is larger, so that losing a task costs little
TASK_ROWS = tuple(1 << power for power in range(13, 5, -1))  # 8192 … 64, the largest that fits is taken
LEAST_TASKS = 8  # fewer would leave nothing to resume and no work to share out
CHUNK_ROWS = 1024
PLANNED_ROWS = 1 << 20  # rows of one chunk of the arrays that are written whole, at planning

DTYPES = ("float16", "float32")
IDS = "int32"  # of a store of discrete tokens, and of no other


@dataclass(frozen=True)
class ShardedArray:
    """One array that tasks fill, a shard each. Its chunks lie in order in the shard, uncompressed."""

    name: str
    rows: int
    width: int | None  # None: a vector
    dtype: str
    shard_rows: int
    chunk_rows: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return (self.width or 1) * np.dtype(self.dtype).itemsize

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows,) or (rows, width)."""
        return (self.rows,) if self.width is None else (self.rows, self.width)

    def shard_path(self, task: int) -> str:
        """Path of the shard of `task` inside the store."""
        return f"{self.name}/c/{task}" + ("" if self.width is None else "/0")

    def metadata(self) -> dict[str, Any]:
        """The array's `zarr.json`."""
        codecs: list[dict[str, Any]] = [_bytes_codec(self.dtype)]
        tail = () if self.width is None else (self.width,)
        sharding = {
            "chunk_shape": [self.chunk_rows, *tail],
            "codecs": codecs,
            "index_codecs": [_bytes_codec("uint64"), {"name": "crc32c"}],
            "index_location": "end",
        }
        zero: int | float = 0.0 if self.dtype.startswith("float") else 0
        return _array_metadata(
            self.shape,
            self.dtype,
            [self.shard_rows, *tail],
            zero,
            [{"name": "sharding_indexed", "configuration": sharding}],
        )


@dataclass(frozen=True)
class Layout:
    """How the rows of one store are cut into tasks.

    `task_rows` is S, `token_rows` is R (0 without tokens); `token_start` (N,) int64 is where each sample's
    tokens begin in `tokens/values`.
    """

    rows: int
    task_rows: int
    pooled_dim: int | None
    token_dim: int | None
    token_rows: int
    dtype: str
    token_start: np.ndarray | None

    @property
    def tasks(self) -> int:
        """How many tasks the rows are cut into."""
        return -(-self.rows // self.task_rows)

    @property
    def arrays(self) -> tuple[ShardedArray, ...]:
        """The arrays that tasks fill."""
        chunk = min(self.task_rows, CHUNK_ROWS)
        found = []
        if self.pooled_dim is not None:
            found.append(
                ShardedArray("pooled", self.rows, self.pooled_dim, self.dtype, self.task_rows, chunk)
            )
        if self.token_dim is not None:
            rows = self.tasks * self.token_rows
            found.append(
                ShardedArray("tokens/values", rows, self.token_dim, self.dtype, self.token_rows, chunk)
            )
        found.append(ShardedArray("status", self.rows, None, "uint8", self.task_rows, chunk))
        return tuple(found)


def plan_layout(
    rows: int,
    dtype: str,
    pooled_dim: int | None,
    token_dim: int | None,
    token_counts: np.ndarray | None,
    *,
    kept: tuple[int, int] = (0, 0),
) -> Layout:
    """Choose S: the largest power of two of 64 … 8192 with shards of at most 64 MB and at least 8 tasks.

    Fewer than 8 tasks, or larger shards, are accepted at S = 64 only. `token_counts` is (N,) int32.
    `kept` are the S and R of the state that a store has grown from: S stays, and R unless a task has more
    tokens.
    """
    if kept[0]:
        token_rows, start = 0, None
        if token_dim is not None and token_counts is not None:
            token_rows, start = _token_rows(token_counts, kept[0], kept[1])
        return Layout(rows, kept[0], pooled_dim, token_dim, token_rows, dtype, start)
    itemsize = np.dtype(dtype).itemsize
    for task_rows in TASK_ROWS:
        largest = task_rows * (pooled_dim or 0) * itemsize
        token_rows, start = 0, None
        if token_dim is not None and token_counts is not None:
            token_rows, start = _token_rows(token_counts, task_rows)
            largest = max(largest, token_rows * token_dim * itemsize)
        if task_rows == TASK_ROWS[-1] or (largest <= SHARD_BYTES and -(-rows // task_rows) >= LEAST_TASKS):
            break
    return Layout(rows, task_rows, pooled_dim, token_dim, token_rows, dtype, start)


def _token_rows(counts: np.ndarray, task_rows: int, least: int = 0) -> tuple[int, np.ndarray]:
    """R, the largest task's token count in whole chunks, and the (N,) int64 starts task * R + offset."""
    chunk = min(task_rows, CHUNK_ROWS)
    before = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    firsts = np.arange(0, len(counts), task_rows)
    lasts = np.minimum(firsts + task_rows, len(counts))
    token_rows = max(-(-int((before[lasts] - before[firsts]).max()) // chunk), 1) * chunk
    token_rows = max(token_rows, least)
    task = np.arange(len(counts)) // task_rows
    return token_rows, task * token_rows + before[:-1] - before[firsts][task]


def planned_metadata(rows: int, dtype: str) -> dict[str, Any]:
    """`zarr.json` of an array that is written whole at planning; `dtype` is a numeric name or "string"."""
    chunk = [min(rows, PLANNED_ROWS)]
    if dtype == "string":
        codec: dict[str, Any] = {"name": "vlen-utf8", "configuration": {}}
        return _array_metadata((rows,), "string", chunk, "", [codec])
    return _array_metadata((rows,), dtype, chunk, 0, [_bytes_codec(dtype)])


def group_metadata(attributes: dict[str, Any]) -> dict[str, Any]:
    """`zarr.json` of a group."""
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes}


def empty_metadata() -> dict[str, Any]:
    """`zarr.json` of an array without elements: what lies beside it is no business of a Zarr tool's."""
    return _array_metadata((0,), "uint8", [1], 0, [_bytes_codec("uint8")])


def planned_chunks(values: np.ndarray | Sequence[str], dtype: str) -> list[bytes]:
    """The chunk files of a planned array (N,) in this dtype, the last one padded to a whole chunk."""
    chunk = min(len(values), PLANNED_ROWS)
    parts = [values[at : at + chunk] for at in range(0, len(values), chunk)]
    if dtype == "string":
        return [_vlen_utf8(part, chunk) for part in parts]
    encoded = []
    for part in parts:
        whole = np.zeros(chunk, np.dtype(dtype).newbyteorder("<"))
        whole[: len(part)] = part
        encoded.append(whole.tobytes())
    return encoded


def _vlen_utf8(texts: Sequence[str] | np.ndarray, count: int) -> bytes:
    encoded = bytearray(count.to_bytes(4, "little"))  # a list of pieces takes some ten times as much memory
    for text in texts:
        piece = text.encode()
        encoded += len(piece).to_bytes(4, "little")
        encoded += piece
    encoded += bytes(4 * (count - len(texts)))
    return bytes(encoded)


def _bytes_codec(dtype: str) -> dict[str, Any]:
    if np.dtype(dtype).itemsize == 1:
        return {"name": "bytes"}
    return {"name": "bytes", "configuration": {"endian": "little"}}


def _array_metadata(
    shape: tuple[int, ...],
    dtype: str,
    chunk_shape: list[int],
    fill_value: int | float | str,
    codecs: list[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk_shape}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill_value,
        "codecs": codecs,
        "attributes": {},
    }
