"""Three ways to get rows of one array: mapped, by positioned reads, or through zarr.

Shapes: V rows of the array, D features, n rows asked for. Every source gives the same rows.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from uml_cache.errors import InputError, WorkError
from uml_cache.reading.mapping import NotMappable, advise, fetch, map_shards
from uml_cache.store.plans.layout import ShardedArray
from uml_cache.store.shards import read_index

if TYPE_CHECKING:
    import torch

_FEW_ROWS = 1 << 14
_GAP_BYTES = 1 << 16  # reading on through a gap this small is cheaper than a second call


class RowSource(Protocol):
    """Rows of one (V, D) array, by number."""

    shape: tuple[int, int]
    dtype: torch.dtype

    def read(self, rows: torch.Tensor, out: torch.Tensor) -> None:
        """Copy `rows` (n,) int64, in any order, repeated or not, into `out` (n, D)."""
        ...

    def whole(self) -> torch.Tensor:
        """The (V, D) tensor in the stored dtype: the map itself where there is one, else a copy."""
        ...


class MappedSource:
    """All shards as one tensor over the files."""

    def __init__(self, paths: Sequence[Path], used_rows: Sequence[int], array: ShardedArray) -> None:
        self._tensor, self._address = map_shards(paths, used_rows, array)
        self._bytes, self._row_bytes = array.rows * array.row_bytes, array.row_bytes
        self.shape = (array.rows, array.width or 1)
        self.dtype = self._tensor.dtype

    def read(self, rows: torch.Tensor, out: torch.Tensor) -> None:
        """Read rows (n,) int64 into `out`, which has the stored dtype."""
        import torch

        torch.index_select(self._tensor, 0, rows, out=out)

    def whole(self) -> torch.Tensor:
        """The mapped array (N, D) in the stored dtype, without a copy."""
        return self._tensor

    def fetch(self, rows: np.ndarray) -> None:
        """Have rows (n,) int64 read that are going to be asked for; of many rows the system reads ahead."""
        if 0 < len(rows) <= _FEW_ROWS:
            fetch(self._address, rows, self._row_bytes)

    def advise(self, pattern: str) -> None:
        """Tell the system how pages will be read: `random`, `sequential` and the like."""
        advise(self._address, self._bytes, pattern)


class FlatSource:
    """Positioned reads from shard files whose rows lie in order."""

    def __init__(self, paths: Sequence[Path], used_rows: Sequence[int], array: ShardedArray) -> None:
        import torch

        self._paths, self._used, self._array = paths, used_rows, array
        self.shape = (array.rows, array.width or 1)
        self.dtype = getattr(torch, array.dtype)

    def read(self, rows: torch.Tensor, out: torch.Tensor) -> None:
        """Read rows (n,) int64 into `out`, which has the stored dtype."""
        wanted = rows.numpy()
        if len(wanted) == 0:
            return
        order = np.argsort(wanted, kind="stable")
        ordered = wanted[order]
        shard = ordered // self._array.shard_rows
        gap = max(_GAP_BYTES // self._array.row_bytes, 1)
        breaks = (np.diff(ordered) > gap) | (np.diff(shard) > 0)
        firsts = np.concatenate([[0], np.flatnonzero(breaks) + 1])
        lasts = np.concatenate([firsts[1:], [len(ordered)]])
        target = out.numpy()
        opened, handle = -1, -1
        try:
            for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
                if shard[first] != opened:
                    if handle >= 0:
                        os.close(handle)
                    opened = int(shard[first])
                    handle = os.open(self._paths[opened], os.O_RDONLY | os.O_CLOEXEC)
                low, high = int(ordered[first]), int(ordered[last - 1]) + 1
                run = np.empty((high - low, self.shape[1]), target.dtype)
                at = (low - opened * self._array.shard_rows) * self._array.row_bytes
                _read_into(handle, run, at, self._paths[opened])
                target[order[first:last]] = run[ordered[first:last] - low]
        finally:
            if handle >= 0:
                os.close(handle)

    def whole(self) -> torch.Tensor:
        """The whole array (N, D) in the stored dtype, read."""
        import torch

        tensor = torch.empty(self.shape, dtype=self.dtype)
        target = tensor.numpy()
        for at, (path, used) in enumerate(zip(self._paths, self._used, strict=True)):
            first = at * self._array.shard_rows
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                _read_into(handle, target[first : first + used], 0, path)
            finally:
                os.close(handle)
        return tensor


class ZarrSource:
    """Through zarr-python: whatever codecs a store has."""

    def __init__(self, array: Any) -> None:
        import torch

        self._array = array
        self.shape = tuple(array.shape)
        try:
            self.dtype = getattr(torch, np.dtype(array.dtype).name)
        except AttributeError:
            raise InputError(
                f"array {array.path} has dtype {array.dtype}, which torch does not know"
            ) from None

    def read(self, rows: torch.Tensor, out: torch.Tensor) -> None:
        """Read rows (n,) int64 into `out`, which has the stored dtype."""
        distinct, back = np.unique(rows.numpy(), return_inverse=True)
        if len(distinct) == 0:
            return
        low, high = int(distinct[0]), int(distinct[-1]) + 1
        if high - low == len(distinct):
            found = self._array[low:high]
        else:
            found = self._array.oindex[distinct]
        out.numpy()[...] = found[back]

    def whole(self) -> torch.Tensor:
        """The whole array (N, D) in the stored dtype, read."""
        import torch

        tensor = torch.empty(self.shape, dtype=self.dtype)
        target = tensor.numpy()
        step = (self._array.shards or self._array.chunks)[0]
        for first in range(0, self.shape[0], step):  # shard by shard: half the memory of reading at once
            target[first : first + step] = self._array[first : first + step]
        return tensor


def flat_files(
    store: Path, name: str, metadata: dict[str, Any], used_rows: Sequence[int] | None = None
) -> tuple[ShardedArray, list[Path], list[int]] | str:
    """The array's cut, shard files and rows used in each, if every shard is flat; else why it is not.

    `used_rows` tells how many rows of each shard hold something (default: all the array has). Raises
    `WorkError` for a shard whose index is damaged.
    """
    array = _as_sharded(name, metadata)
    if array is None:
        return f"{name} is compressed, or not cut the way this project cuts arrays"
    shards = -(-array.rows // array.shard_rows)
    if used_rows is None:
        used_rows = [min(array.shard_rows, array.rows - at * array.shard_rows) for at in range(shards)]
    paths = [store / array.shard_path(at) for at in range(shards)]
    for path, used in zip(paths, used_rows, strict=True):
        try:
            index = read_index(path, array)
        except FileNotFoundError:
            return f"{path} does not exist"
        if index.damaged:
            raise WorkError(f"{path} is damaged; `uml cache verify {store}` names what else is")
        if index.flat_rows is None or index.flat_rows < used:
            return f"the chunks of {path} do not lie in order"
    return array, paths, list(used_rows)


def _as_sharded(name: str, metadata: dict[str, Any]) -> ShardedArray | None:
    """The array behind a `zarr.json`, if its metadata is exactly what this project writes."""
    shape = metadata["shape"]
    try:
        sharding = metadata["codecs"][0]["configuration"]
        array = ShardedArray(
            name,
            rows=shape[0],
            width=shape[1] if len(shape) > 1 else None,
            dtype=metadata["data_type"],
            shard_rows=metadata["chunk_grid"]["configuration"]["chunk_shape"][0],
            chunk_rows=sharding["chunk_shape"][0],
        )
        expected = array.metadata()
    except (KeyError, IndexError, TypeError):
        return None
    compared = [key for key in expected if key not in ("attributes", "fill_value")]
    return array if all(metadata.get(key) == expected[key] for key in compared) else None


def _read_into(handle: int, target: np.ndarray, at: int, path: Path) -> None:
    view = target.reshape(-1).view(np.uint8).data
    done = 0
    while done < len(view):
        count = os.preadv(handle, [view[done : done + (1 << 30)]], at + done)
        if count == 0:
            raise WorkError(f"{path} ends before its last row; `uml cache verify` names the damage")
        done += count


def mapped_or_reason(
    flat: tuple[ShardedArray, list[Path], list[int]] | str,
) -> MappedSource | str:
    """A mapped source, or why there can be none."""
    if isinstance(flat, str):
        return flat
    array, paths, used = flat
    try:
        return MappedSource(paths, used, array)
    except NotMappable as reason:
        return str(reason)
