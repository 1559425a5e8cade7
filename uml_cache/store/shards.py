"""Shard files: written in one stream, with their index; checked for being flat before they are mapped.

A shard is its filled chunks one after the other, then the index (offset and length of every chunk, uint64
little-endian, absent chunks all ones) and the index's crc32c. Shapes: n rows given, C rows a chunk.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numpy as np

from uml_cache.store.plans.layout import ShardedArray

_PIECE = 1 << 20  # bytes that are worth handing to other threads
_ABSENT = np.uint64(0xFFFF_FFFF_FFFF_FFFF)


class ShardWriter:
    """Streams rows into one shard file, then closes it with padding, index and checksum.

    At most two of the pieces given to `write` are held; they must not change any more. `size` describes the
    file once it is finished. The file is left in the page cache: who renames it into place calls `os.fsync`
    first.
    """

    def __init__(self, stream: BinaryIO, array: ShardedArray) -> None:
        self._stream = stream
        self._array = array
        self._hash = hashlib.sha256()
        self._crc = 0
        self._data_bytes = 0
        self._helpers: tuple[ThreadPoolExecutor, ...] = ()
        self._under_way: deque[Future[Any]] = deque()
        self.size = 0

    def write(self, rows: np.ndarray) -> None:
        """Append `rows`, (n,) or (n, D) of the array's dtype.

        Raises:
            ValueError: there are more rows than the shard holds.
        """
        values = np.ascontiguousarray(rows, dtype=np.dtype(self._array.dtype).newbyteorder("<"))
        self._data_bytes += values.nbytes
        if self._data_bytes > self._array.shard_rows * self._array.row_bytes:
            raise ValueError(f"a shard of {self._array.name} holds {self._array.shard_rows} rows, got more")
        if values.nbytes:
            self._put(values.data.cast("B"))

    def finish(self) -> dict[str, str]:
        """Pad the last chunk with zeros, write index and crc32c; returns the file's sha256 and crc32c."""
        chunk_bytes = self._array.chunk_rows * self._array.row_bytes
        filled = -(-self._data_bytes // chunk_bytes)
        self._put(memoryview(bytes(filled * chunk_bytes - self._data_bytes)))
        chunks = self._array.shard_rows // self._array.chunk_rows
        index = np.full((chunks, 2), _ABSENT, dtype="<u8")
        index[:filled, 0] = np.arange(filled, dtype=np.uint64) * np.uint64(chunk_bytes)
        index[:filled, 1] = chunk_bytes
        encoded = index.tobytes()
        self._put(memoryview(encoded + google_crc32c.value(encoded).to_bytes(4, "little")))
        self._settle()
        self.close()
        return {"sha256": self._hash.hexdigest(), "crc32c": f"{self._crc:08x}"}

    def _hashed(self, data: memoryview) -> None:
        self._hash.update(data)
        self._crc = google_crc32c.extend(self._crc, np.frombuffer(data, np.uint8))

    def _put(self, data: memoryview) -> None:
        self.size += len(data)
        if len(data) < _PIECE // 4:
            self._settle()
            self._hashed(data)
            self._stream.write(data)
            return
        # While the caller makes the next piece, one thread hashes this one and another writes it.
        if not self._helpers:  # one thread for each, so that both see the pieces in order
            self._helpers = tuple(ThreadPoolExecutor(1, f"shard-{name}") for name in ("hash", "write"))
        self._settle(1)
        hashing, writing = self._helpers
        self._under_way.append(hashing.submit(self._hashed, data))
        self._under_way.append(writing.submit(self._stream.write, data))

    def _settle(self, pieces: int = 0) -> None:
        while len(self._under_way) > 2 * pieces:
            self._under_way.popleft().result()

    def close(self) -> None:
        """Wait for what is under way; nothing may be written afterwards."""
        for helper in self._helpers:
            helper.shutdown()
        self._helpers = ()


@dataclass(frozen=True)
class ShardIndex:
    """What a shard's index says. `flat_rows`: rows that lie in order from byte 0, or None if it is not so."""

    flat_rows: int | None
    damaged: bool = False


def read_index(path: Path, array: ShardedArray) -> ShardIndex:
    """Read and judge the index of one shard file; raises FileNotFoundError when there is no file."""
    chunks = array.shard_rows // array.chunk_rows
    length = 16 * chunks
    with open(path, "rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size < length + 4:
            return ShardIndex(None, damaged=True)
        tail = os.pread(stream.fileno(), length + 4, size - length - 4)
    if google_crc32c.value(tail[:-4]) != int.from_bytes(tail[-4:], "little"):
        return ShardIndex(None, damaged=True)
    index = np.frombuffer(tail, dtype="<u8", count=2 * chunks).reshape(chunks, 2)
    filled = int((index[:, 0] != _ABSENT).sum())
    chunk_bytes = array.chunk_rows * array.row_bytes
    here = index[:filled]
    in_order = np.array_equal(here[:, 0], np.arange(filled, dtype=np.uint64) * np.uint64(chunk_bytes))
    whole = bool((here[:, 1] == chunk_bytes).all()) and bool((index[filled:] == _ABSENT).all())
    if not (in_order and whole):
        return ShardIndex(None)
    if size < filled * chunk_bytes + length + 4:
        return ShardIndex(None, damaged=True)
    return ShardIndex(filled * array.chunk_rows)
