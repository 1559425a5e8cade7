"""Whether the files that a store was made from are still the same, by their sizes and times.

Shapes: n samples of a task.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from uml_cache import InputError
from uml_extract.readers import read_for
from uml_extract.readers.members import MARK, file_and_part
from uml_extract.spec import Encoder, SampleError
from uml_manifests import HeldManifest

if TYPE_CHECKING:
    from uml_cache import FeatureStore
    from uml_manifests import Manifest


def sources_digest(manifest: Manifest, rows: range) -> str | None:
    """sha256 over (n, 2) int64: size and time of last change (ns) of each sample's file, -1 where it is gone.

    None for texts and what is in memory, which the manifest's own digest covers. A file that is copied with
    a new time counts as another one; one that is replaced with size and time kept cannot be told.
    """
    if is_in_memory(manifest):
        return None
    stamps: dict[str, tuple[int, int]] = {}
    found = np.empty((len(rows), 2), "<i8")
    for at, row in enumerate(rows):
        path = file_of(manifest, row)
        if path not in stamps:
            stamps[path] = stamp_of(path)
        found[at] = stamps[path]
    return hashlib.sha256(found.tobytes()).hexdigest()


def content_digest(manifest: Manifest) -> str:
    """sha256 of a manifest and of what all its files hold: it changes whenever a sample does."""
    found = hashlib.sha256(manifest.digest.encode())
    if not is_in_memory(manifest):
        paths = dict.fromkeys(file_of(manifest, row) for row in range(len(manifest)))
        with ThreadPoolExecutor() as pool:  # hashing and reading leave the interpreter to others
            for digest in pool.map(_file_digest, paths):
                found.update(digest)
    return found.hexdigest()


def _file_digest(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except OSError:
        return bytes(32)


def changed_tasks(store: FeatureStore, manifest: Manifest) -> list[int]:
    """The finished tasks, in order, whose files are not what they were."""
    was = store.sources()
    return [task for task in was if sources_digest(manifest, store.rows_of(task)) != was[task]]


def mended_tasks(store: FeatureStore, manifest: Manifest, encoder: Encoder) -> list[int]:
    """The finished tasks, in order, of whose unreadable samples one at least can be read now."""
    mended: dict[int, bool] = {}
    for sample in store.failed():
        if not mended.get(sample.task):
            try:
                encoder.prepare(read_for(encoder, manifest, sample.row))
            except SampleError:
                continue
            mended[sample.task] = True
    return sorted(mended)


def need_files(store: FeatureStore, manifest: Manifest, tasks: Iterable[int]) -> None:
    """Look whether `tasks` can be made again before their records are taken away.

    `InputError` where a file is gone that was read: its features may be all that is left of it.
    """
    if is_in_memory(manifest):
        return
    failed = {sample.row for sample in store.failed()}
    there: dict[str, bool] = {}
    for task in tasks:
        for row in store.rows_of(task):
            path = file_of(manifest, row)
            if path not in there:
                there[path] = os.access(path, os.R_OK)
            if row not in failed and not there[path]:
                what = "cannot be opened" if os.path.exists(path) else "is gone"
                raise InputError(
                    f"{path} of sample {manifest.ids[row]} {what} since it was extracted; nothing was "
                    "changed: bring it back, or leave --check-sources and --retry-failed out"
                )


def is_in_memory(manifest: Manifest) -> bool:
    """Whether the manifest itself says what its samples are: the texts, or digests of what it holds."""
    return manifest.modality == "text" or isinstance(manifest, HeldManifest)


def file_of(manifest: Manifest, row: int) -> str:
    """The file that a sample lies in: its own, or the one that it is a part of."""
    path = str(manifest.path(row))
    return file_and_part(path)[0] if MARK in path and not os.path.exists(path) else path


def stamp_of(path: str) -> tuple[int, int]:
    """Size in bytes and time of last change in nanoseconds of a file; -1 and -1 where it is gone."""
    try:
        status = os.stat(path)
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns
