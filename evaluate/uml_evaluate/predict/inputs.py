"""What is predicted: files here, or objects of a bucket, fetched while earlier ones are encoded."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache import MADE, Choice, InputError, RemotePath, as_path, is_remote
from uml_extract import SampleError, sources_digest
from uml_manifests import EXTENSIONS, NO_SPLIT, HeldManifest, Manifest, new_samples

_AHEAD = 64  # objects that are on their way at once


@dataclass(frozen=True, eq=False)
class Inputs:
    """The samples with their names in the table, and a digest of which they are and in which state.

    `remote`: they are fetched by this process, so that no other may read them.
    """

    manifest: Manifest
    names: list[str]
    digest: str
    remote: bool = False


def find_inputs(given: Sequence[str], modality: str, choice: Choice | None = None) -> Inputs:
    """The samples that a command line names: see `uml_manifests.new_samples`; or the objects at one URL.

    Raises:
        InputError: nothing of the modality is there.
    """
    if any(is_remote(as_path(one)) for one in given):
        if len(given) > 1:
            raise InputError(f"{given[0]}: of object storage give one URL, of an object or of many")
        return _remote(as_path(given[0]), modality)
    manifest, names = new_samples([str(as_path(one)) for one in given], modality, choice)
    words = [manifest.digest, sources_digest(manifest, range(len(manifest))), names]
    return Inputs(manifest, names, _digest(words))


def _remote(place: Any, modality: str) -> Inputs:
    if modality not in EXTENSIONS:
        raise InputError(f"{place}: {modality} is read from local tables; copy the file here first")
    found = {name: state for name, state in place.states().items() if _is_media(name, modality)}
    root = place
    if not found:
        try:
            place.stat()
        except FileNotFoundError:
            raise InputError(f"{place}: no {modality} file is there") from None
        found, root = {place.name: place.tag()}, place.parent
    names = sorted(found)
    rows = len(names)
    manifest = HeldManifest(
        name="new", modality=modality, classes=(), root=Path("."), ids=[str(row) for row in range(rows)],
        sources=names, labels=np.full(rows, -1), splits=np.full(rows, NO_SPLIT), id_kind=MADE,
        held=_Fetched(root, names),
    )  # fmt: skip
    return Inputs(manifest, names, _digest([str(root), found]), remote=True)


def _is_media(name: str, modality: str) -> bool:
    return name.rpartition(".")[2].lower() in EXTENSIONS[modality]


def _digest(words: Any) -> str:
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()


class _Fetched(Sequence[Any]):
    """The content of objects; who asks for one has the next ones fetched, too."""

    def __init__(self, root: RemotePath, names: Sequence[str]) -> None:
        self._root, self._names = root, names
        self._pool = ThreadPoolExecutor(_AHEAD, thread_name_prefix="fetch")
        self._waiting: dict[int, Future[bytes]] = {}
        self._lock = threading.Lock()
        self._next = 0  # rows below were asked for

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, row: Any) -> Any:
        """The bytes of one object. Raises `SampleError` where it is gone, `WorkError` where storage fails."""
        with self._lock:
            last = min(row + _AHEAD, len(self))
            for at in dict.fromkeys([row, *range(max(self._next, row + 1), last)]):
                if at not in self._waiting:
                    self._waiting[at] = self._pool.submit(self._fetch, at)
            self._next = max(self._next, last)
            own = self._waiting.pop(row)
        try:
            return own.result()
        except FileNotFoundError:
            raise SampleError("no such object") from None

    def _fetch(self, row: int) -> bytes:
        return (self._root / self._names[row]).read_bytes()
