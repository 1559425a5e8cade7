"""Reading a store: features as one tensor over the files, labels, splits, ids, and packed tokens.

Shapes: N samples, D features, n rows asked for, T their tokens together, V rows of `tokens/values`.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uml_cache.errors import InputError, unknown
from uml_cache.reading.checks import CheckedSource, check_columns, checked
from uml_cache.reading.mapping import ADVICE
from uml_cache.reading.sources import (
    FlatSource,
    MappedSource,
    RowSource,
    ZarrSource,
    flat_files,
    mapped_or_reason,
)
from uml_cache.reading.tokens import TokenAccess
from uml_cache.remote import RemotePath, as_path, is_remote
from uml_cache.store.catalogue import StoreInfo, store_info
from uml_cache.store.checking import Memory
from uml_cache.store.locks import Reader
from uml_cache.store.plans.layout import NO_SPLIT, SPLIT_NAMES
from uml_cache.tables.views import sample_keys, without_view_numbers

if TYPE_CHECKING:
    import torch

ACCESS = ("auto", "mapped", "memory", "zarr")


class FeatureSet:
    """One sealed store, opened for reading. Made by `open_features`.

    Row i is the same sample everywhere. `access` tells how `pooled` is read: `mapped`, `memory` or `zarr`.
    """

    def __init__(
        self, info: StoreInfo, access: str, *, reader: Reader | None = None, check: bool = True
    ) -> None:
        self.info = info
        self._reader = reader
        self._memory = Memory(info.path) if check else None
        self._wanted = access
        self._source: RowSource | None = None
        if info.dim is not None:
            self._source, self.access = self._checked("pooled")
        else:
            self.access = self.tokens.access

    @property
    def path(self) -> Path:
        """Where the store is."""
        return self.info.path

    @property
    def dataset(self) -> str:
        """The name of its data set."""
        return self.info.dataset

    @property
    def modality(self) -> str:
        """Its modality."""
        return self.info.modality

    @property
    def set(self) -> str | None:
        """Which samples of the modality, such as `cupl`; None for the only ones."""
        return self.info.set

    @property
    def encoder(self) -> dict[str, Any]:
        """The encoder's spec."""
        return self.info.encoder

    @property
    def encoder_name(self) -> str:
        """The name of its encoder."""
        return self.info.encoder_name

    @property
    def variant(self) -> str | None:
        """What differs from the encoder's defaults, such as `tokens`; None for nothing."""
        return self.info.variant

    @property
    def fingerprint(self) -> str | None:
        """Changes whenever a byte of an array does; None where another tool wrote the store."""
        return self.info.fingerprint

    @property
    def vocabulary(self) -> int | None:
        """Tokens are ids below this number, (T, 1) int32; None where they are vectors."""
        return self.encoder.get("vocabulary")

    @property
    def dim(self) -> int:
        """Width of `pooled`, or of the tokens where the store has no pooled features."""
        return self.source.shape[1] if self._source is not None else self.tokens.dim

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Class names; a foreign store without names gets the labels' numbers."""
        return self.info.classes or tuple(str(label) for label in range(int(self.label.max()) + 1))

    @property
    def source(self) -> RowSource:
        """Rows of `pooled` on demand, for what is larger than memory.

        Raises:
            InputError: the store has tokens only.
        """
        if self._source is None:
            raise InputError(f"{self.path} has no pooled features, only tokens; extract with `--pool`")
        return self._source

    @cached_property
    def pooled(self) -> torch.Tensor:
        """(N, D) in the stored dtype: a map of the files, or read into memory at the first use.

        All of it is looked at first, once; see `pooled_of`.
        """
        return self.source.whole()

    def pooled_of(self, rows: np.ndarray) -> torch.Tensor:
        """`pooled`, of which only `rows` (n,) int64 are going to be read: no more is looked at than need be,
        and the disk is asked for few rows all at once.

        Raises `WorkError` for shards that are not what the journal says, and for foreign rows that are not
        finite.
        """
        if self.access != "mapped" or not isinstance(self._source, CheckedSource):
            return self.pooled
        self._source.checks.need(rows)
        if isinstance(self._source.inner, MappedSource):
            self._source.inner.fetch(rows)
        return self._source.inner.whole()

    @cached_property
    def tokens(self) -> TokenAccess:
        """Packed tokens; `InputError` for a store without."""
        if self.info.token_dim is None:
            raise InputError(f"{self.path} has no tokens; extract with `--tokens`")
        start, lengths = self._column("tokens/start", None), self._column("tokens/length", None)
        source, access = self._checked("tokens/values", (start + lengths)[lengths > 0])
        return TokenAccess(source, start, lengths, access)

    @cached_property
    def label(self) -> np.ndarray:
        """(N,) int32 index into `classes`, -1 = none."""
        return self._column("label", -1).astype(np.int32, copy=False)

    @cached_property
    def split(self) -> np.ndarray:
        """(N,) uint8: 0 train, 1 val, 2 test, 255 none."""
        return self._column("split", NO_SPLIT).astype(np.uint8, copy=False)

    @cached_property
    def status(self) -> np.ndarray:
        """(N,) uint8, 0 where the sample could be read."""
        if not self.info.own or is_remote(self.path):
            return self._column("status", 0).astype(np.uint8, copy=False)
        flat = flat_files(self.path, "status", self.info.arrays["status"])
        if isinstance(flat, str):
            return self._column("status", 0).astype(np.uint8, copy=False)
        array, paths, used = flat
        return FlatSource(paths, used, array).whole().numpy().reshape(-1)

    @cached_property
    def valid(self) -> np.ndarray:
        """(N,) bool: rows that hold a sample. The others are zeros."""
        return self.status == 0

    @cached_property
    def id(self) -> list[str]:
        """Sample ids; a foreign store without ids gets row numbers."""
        if "id" not in self.info.arrays:
            return [str(row) for row in range(self.info.rows)]
        return [str(text) for text in self._zarr["id"][:].tolist()]

    @cached_property
    def groups(self) -> list[str] | None:
        """Group (speaker, patient, video) of each sample, if the manifest names one."""
        if "group" not in self.info.arrays:
            return None
        return [str(text) for text in self._zarr["group"][:].tolist()]

    @cached_property
    def samples(self) -> np.ndarray:
        """(N,) uint64, equal where rows are views of one sample (the same id, file or text in the source).

        A store that does not record it, as of version 0.1, has the views that import has numbered: `a`,
        `a#2`.
        """
        if "sample" in self.info.arrays:
            return self._column("sample", None).astype(np.uint64, copy=False)
        return sample_keys(without_view_numbers(self.id))

    @property
    def id_kind(self) -> str | None:
        """What the ids are (`uml_cache.tables.views.ID_KINDS`); None for a store that does not say."""
        return self.info.id_kind

    def __len__(self) -> int:
        return self.info.rows

    def rows(self, split: str | None = None, *, failed: bool = False) -> np.ndarray:
        """Rows (n,) int64 in store order, of one split or of all; `failed` keeps unreadable samples too.

        Raises:
            InputError: there is no such split.
        """
        chosen = np.ones(len(self), bool) if failed else self.valid.copy()
        if split is not None:
            if split not in SPLIT_NAMES:
                raise unknown("split", split, SPLIT_NAMES)
            chosen &= self.split == SPLIT_NAMES.index(split)
        return np.flatnonzero(chosen)

    def close(self) -> None:
        """Let other processes write the store anew: nothing may be read from it any more."""
        if self._reader is not None:
            self._reader.close()

    def advise(self, pattern: str) -> None:
        """Tell the kernel how mapped features will be read: `random` for a few rows, `normal` for epochs.

        Nothing happens where `pooled` is not mapped.

        Raises:
            InputError: there is no such advice.
        """
        if pattern not in ADVICE:
            raise unknown("advice", pattern, ADVICE)
        source = self._source.inner if isinstance(self._source, CheckedSource) else self._source
        if isinstance(source, MappedSource):
            source.advise(pattern)

    def _checked(self, name: str, ends: np.ndarray | None = None) -> tuple[RowSource, str]:
        source, access = self._choose(name, ends)
        if self._memory is None:
            return source, access
        return checked(self.info, name, source, lambda: self.valid, self._memory), access

    def _choose(self, name: str, ends: np.ndarray | None = None) -> tuple[RowSource, str]:
        """The best source that the wanted access allows, and its name."""
        if is_remote(self.path):
            if self._wanted == "mapped":
                raise InputError(f"{self.path} cannot be mapped: it is on object storage; use access `auto`")
            return ZarrSource(self._zarr[name]), "zarr"
        if self._wanted == "zarr":
            return ZarrSource(self._zarr[name]), "zarr"
        metadata = self.info.arrays[name]
        used = None
        if ends is not None:  # tokens: how far each task's part of the values is filled
            size = metadata["chunk_grid"]["configuration"]["chunk_shape"][0]
            used = np.zeros(-(-metadata["shape"][0] // size), np.int64)
            np.maximum.at(used, (ends - 1) // size, (ends - 1) % size + 1)
        flat = flat_files(self.path, name, metadata, None if used is None else used.tolist())
        if self._wanted != "memory":
            mapped = mapped_or_reason(flat)
            if isinstance(mapped, MappedSource):
                return mapped, "mapped"
            if self._wanted == "mapped":
                raise InputError(f"{self.path} cannot be mapped: {mapped}; use access `auto`")
        if isinstance(flat, str):
            return ZarrSource(self._zarr[name]), "zarr"
        array, paths, filled = flat
        return FlatSource(paths, filled, array), "memory"

    @cached_property
    def _zarr(self) -> Any:
        import zarr

        if isinstance(self.path, RemotePath):
            return self.path.zarr_group()
        return zarr.open_group(self.path, mode="r")

    def _column(self, name: str, default: int | None) -> np.ndarray:
        if name in self.info.arrays:
            return np.asarray(self._zarr[name][:])
        if default is None:
            raise InputError(f"{self.path} has tokens but no array {name}")
        return np.full(self.info.rows, default, np.int64)


def open_features(
    path: Path | str, *, access: str = "auto", advice: str | None = None, check: bool = True
) -> FeatureSet:
    """Open the store at `path` for reading.

    `access`: `auto` maps the files where that is possible, else reads them into memory, else goes through
    zarr; `mapped`, `memory` and `zarr` force one. `advice` is passed to `FeatureSet.advise`. While it is
    open no process can write the store anew. Features are looked at before they are first read (`check`):
    shards by the journal's checksums, foreign values for being finite.

    Raises `InputError` for a path without a store or an unsealed store, `WorkError` when a file that the
    journal lists is missing, or is not what the journal says: nothing is ever read as zeros in its place.
    """
    if access not in ACCESS:
        raise unknown("access", access, ACCESS)
    path = as_path(path)
    reader = None if is_remote(path) else Reader(path)
    info = store_info(path)
    if not info.sealed:
        if reader is not None:
            reader.close()
        raise InputError(
            f"{info.path} is not finished ({info.done} of {info.tasks} tasks): run the same `uml extract` "
            "command again to finish it"
        )
    if info.own:
        check_columns(info)
    features = FeatureSet(info, access, reader=reader, check=check)
    if advice is not None:
        features.advise(advice)
    return features
