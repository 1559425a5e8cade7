"""Several files written as one: each whole or as it was, and all on the disk afterwards."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from uml_cache import sync_folder

_THREADS = 16  # a journaling file system flushes what many ask for in the time of one


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write every file under a temporary name, flush all, rename all, flush their folders.

    Where this ends by an error some files are new and some as they were; none is torn.
    """
    if not files:
        return
    temporary = {path: path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp") for path in files}
    try:
        with ThreadPoolExecutor(min(_THREADS, len(files))) as pool:
            list(pool.map(_flushed, temporary.values(), files.values()))
            for path, new in temporary.items():
                os.replace(new, path)
            list(pool.map(sync_folder, {path.parent for path in files}))
    except BaseException:
        for new in temporary.values():
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
        raise


def _flushed(path: Path, data: bytes) -> None:
    with open(path, "xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def write_changed(files: Mapping[Path, bytes]) -> None:
    """Write those of the files that do not hold what is given already."""
    write_together({path: data for path, data in files.items() if not _holds(path, data)})


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.stat().st_size == len(data) and path.read_bytes() == data
    except OSError:
        return False


def make_folder(path: Path) -> None:
    """Make a folder and what lies above it; the names last through a power cut."""
    new = []
    while not path.is_dir():
        new.append(path)
        path = path.parent
    for folder in reversed(new):
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def flush_folder(path: Path) -> None:
    """Flush a folder that others have written, with all that is in it and its own name."""
    for folder, _, names in os.walk(path):
        for name in names:
            handle = os.open(os.path.join(folder, name), os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        sync_folder(Path(folder))
    sync_folder(path.parent)
