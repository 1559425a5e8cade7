"""What is looked at before features count: every small column at opening, every shard before its first use.

Shapes: V rows of the array, n rows asked for, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from uml_cache.errors import WorkError
from uml_cache.reading.sources import RowSource
from uml_cache.remote import is_remote
from uml_cache.store.catalogue import StoreInfo
from uml_cache.store.checking import Memory, damage, is_sound

if TYPE_CHECKING:
    import torch

_FEATURES = ("pooled/c/", "tokens/values/c/")
_BLOCK = 1024  # rows of a foreign array that are looked at together, at least
_SHOWN = 5  # rows that a message names


class Checks(Protocol):
    """Looks at the rows of one array, each part of it once."""

    def need(self, rows: np.ndarray | None) -> None:
        """See to it that `rows` (n,) int64, or all rows, are sound. `WorkError` for those that are not."""
        ...


def check_columns(info: StoreInfo) -> None:
    """Compare the store's files with the journal: all of them in size, all but the features in content.

    Raises `WorkError` with the first file that differs and how to mend it.
    """
    again = "run the same `uml extract` command again to make what is missing"
    for name, record in info.records.items():
        if record["fingerprint"] != info.stamp:
            raise WorkError(f"{info.path}: journal/{name}.json belongs to another store; extract again")
        for entry in record["files"]:
            path = info.path / entry["path"]
            size = path.stat().st_size if path.exists() else None
            if size != entry["bytes"]:
                what = "is missing" if size is None else f"has {size} bytes instead of {entry['bytes']}"
                raise WorkError(f"{path} {what}: the store is damaged; {again}")
            if entry["path"].startswith(_FEATURES) or is_sound(path, entry):
                continue
            if name == "plan" or not is_remote(path):
                raise WorkError(
                    f"{path} does not match the journal's checksum: the store is damaged; {again}"
                )
            raise damage(info.path, [entry])


class ShardChecks:
    """The shards of one array, by the journal's checksums."""

    def __init__(self, info: StoreInfo, name: str, memory: Memory) -> None:
        self._store, self._memory, self._name = info.path, memory, name
        self._metadata = info.arrays[name]
        self._shard_rows = int(self._metadata["chunk_grid"]["configuration"]["chunk_shape"][0])
        files = [entry for record in info.records.values() for entry in record["files"]]
        prefix = f"{name}/c/"
        self._left: dict[int, Mapping[str, Any]] = {
            int(entry["path"][len(prefix) :].partition("/")[0]): entry
            for entry in files
            if entry["path"].startswith(prefix)
        }

    def need(self, rows: np.ndarray | None) -> None:
        """Compare the shards that hold `rows` (n,) int64 (all where None) with their checksums, once.

        Raises:
            WorkError: a shard is damaged.
        """
        if not self._left:
            return
        shards = [*self._left] if rows is None else np.unique(rows // self._shard_rows).tolist()
        wanted = {shard: self._left[shard] for shard in shards if shard in self._left}
        bad = self._memory.unsound(list(wanted.values())) if wanted else []
        if bad:
            raise damage(self._store, bad, self._not_finite(bad[0]))
        for shard in wanted:
            del self._left[shard]

    def _not_finite(self, entry: Mapping[str, Any]) -> str:
        """Which rows of a damaged shard hold NaN or infinity, for its error; nothing where none do."""
        dtype = np.dtype(self._metadata["data_type"]).newbyteorder("<")
        path = self._store / entry["path"]
        if dtype.kind != "f" or is_remote(path):
            return ""
        width = int(self._metadata["shape"][-1])
        try:
            values = np.fromfile(path, dtype, self._shard_rows * width)
        except OSError:
            return ""
        values = values[: len(values) // width * width].reshape(-1, width)
        first = int(entry["path"][len(f"{self._name}/c/") :].partition("/")[0]) * self._shard_rows
        return _named(first + np.flatnonzero(~np.isfinite(values).all(axis=1)), ", and ")


class FiniteChecks:
    """An array without a journal: another tool wrote it, and its values may be anything.

    `valid()` is (N,) bool: which rows count. Pooled rows that do not count may hold anything.
    """

    def __init__(
        self, info: StoreInfo, name: str, source: RowSource, valid: Callable[[], np.ndarray]
    ) -> None:
        metadata = info.arrays[name]
        chunk = int(metadata["chunk_grid"]["configuration"]["chunk_shape"][0])
        self._path, self._name, self._source, self._valid = info.path, name, source, valid
        self._rows = source.shape[0]
        self._block = -(-_BLOCK // chunk) * chunk
        self._left = set(range(-(-self._rows // self._block)))

    def need(self, rows: np.ndarray | None) -> None:
        """Refuse values that are not finite in the blocks that hold `rows` (n,) int64 (all where None), once.

        Raises:
            WorkError: a value is NaN or infinite.
        """
        import torch

        if not self._left or not self._source.dtype.is_floating_point:
            return
        wanted = self._left if rows is None else self._left.intersection((rows // self._block).tolist())
        for block in sorted(wanted):
            first, last = block * self._block, min((block + 1) * self._block, self._rows)
            values = torch.empty((last - first, self._source.shape[1]), dtype=self._source.dtype)
            self._source.read(torch.arange(first, last), values)
            bad = ~torch.isfinite(values).all(dim=1).numpy()
            if self._name == "pooled":
                bad &= self._valid()[first:last]
            if bad.any():
                found = _named(first + np.flatnonzero(bad), "")
                raise WorkError(
                    f"{self._path}: {found} in {self._name}: repair the store, or give these rows a `status` "
                    "other than 0"
                )
            self._left.discard(block)


class CheckedSource:
    """A source whose rows are looked at before they are first given."""

    def __init__(self, inner: RowSource, checks: Checks) -> None:
        self.inner, self.checks = inner, checks
        self.shape, self.dtype = inner.shape, inner.dtype

    def read(self, rows: torch.Tensor, out: torch.Tensor) -> None:
        """Read rows (n,) int64 into `out` once they are checked."""
        self.checks.need(rows.numpy())
        self.inner.read(rows, out)

    def whole(self) -> torch.Tensor:
        """The whole array (N, D) in the stored dtype, checked."""
        self.checks.need(None)
        return self.inner.whole()


def checked(
    info: StoreInfo, name: str, source: RowSource, valid: Callable[[], np.ndarray], memory: Memory
) -> CheckedSource:
    """`source` of the array `name`, with what there is to look at. `valid` gives (N,) bool: readable rows."""
    checks = ShardChecks(info, name, memory) if info.own else FiniteChecks(info, name, source, valid)
    return CheckedSource(source, checks)


def _named(rows: np.ndarray, before: str) -> str:
    if not len(rows):
        return ""
    shown = ", ".join(map(str, rows[:_SHOWN].tolist())) + (" …" if len(rows) > _SHOWN else "")
    return f"{before}{len(rows)} rows hold NaN or infinite values (rows {shown})"
