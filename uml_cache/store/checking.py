"""Whether files still are what the journal says, at the speed of memory, and never twice.

A file's checksum is computed when it is first read; what was sound is remembered by the file's identity, size
and times, in the user's cache folder and not in the store, which may be read-only. Where nothing can be
remembered each process checks anew. CRC-32C runs in hardware, several times as fast as sha256, which is all
that stores of version 0.1 have.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from uml_cache.errors import WorkError
from uml_cache.files.disk import write_atomic
from uml_cache.remote import RemotePath

_PIECE = 1 << 20
_YOUNG_NS = 100_000_000  # a change this soon after another may leave the same time behind
_FORMAT = 1


def checksums(data: bytes) -> dict[str, str]:
    """What a record says of a file's content."""
    return {"sha256": hashlib.sha256(data).hexdigest(), "crc32c": f"{google_crc32c.value(data):08x}"}


def is_sound(path: Path, entry: Mapping[str, Any]) -> bool:
    """Whether a file is what its entry in a record says; all of it is read. False where there is none."""
    try:
        if isinstance(path, RemotePath):
            data = path.read_bytes()
            return hashlib.sha256(data).hexdigest() == entry["sha256"]
        with path.open("rb", buffering=0) as stream:
            if os.fstat(stream.fileno()).st_size != entry["bytes"]:
                return False
            if "crc32c" in entry:
                return f"{_crc32c(stream):08x}" == entry["crc32c"]
            return hashlib.file_digest(stream, "sha256").hexdigest() == entry["sha256"]
    except (FileNotFoundError, NotADirectoryError):
        return False


class Memory:
    """Which files of one store were sound when they were last read, and which objects on object storage were
    not; kept in the user's cache folder."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._file = _place(store)
        self._known: dict[str, list[Any]] = {}
        self._new: dict[str, list[Any]] = {}
        self._bad: dict[str, list[Any]] = {}
        self._load()

    def unsound(self, entries: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Those of the files that are not what their entries say; only what is not known yet is read."""
        bad = []
        for entry in entries:
            state = self._state(entry)
            if state is not None and state == self._known.get(entry["path"]):
                continue
            if not is_sound(self._store / entry["path"], entry):
                bad.append(entry)
            elif state is not None and state == self._state(entry) and _settled(state):
                self._known[entry["path"]] = self._new[entry["path"]] = state
        self.save()
        return bad

    def note_damage(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Keep in mind that these objects are not what their entries say: whoever mends them need not read
        the whole store for that."""
        states = {entry["path"]: self._state(entry) for entry in entries}
        self._bad |= {name: state for name, state in states.items() if state is not None}
        self._write()

    def known_damage(self, entries: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Those of the files that `note_damage` was told of and that nobody has replaced since. Where nothing
        can be kept in mind all of them are read."""
        if self._file is None:
            return self.unsound(entries)
        noted = [entry for entry in entries if entry["path"] in self._bad]
        return [entry for entry in noted if self._state(entry) == self._bad[entry["path"]]]

    def sha256(self, name: str) -> str:
        """The sha256 of a file that no record lists; it is read if it is not known."""
        state = _stamp(self._store / name)
        known = self._known.get(name)
        if known is not None and known[:-1] == state:
            return str(known[-1])
        with open(self._store / name, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if state == _stamp(self._store / name) and _settled(state):
            self._known[name] = self._new[name] = [*state, digest]
        return digest

    def _state(self, entry: Mapping[str, Any]) -> list[Any] | None:
        """What tells one state of a file from another, and the content that the journal wants."""
        path = self._store / entry["path"]
        try:
            if isinstance(path, RemotePath):
                return [path.tag(), entry["bytes"], entry["sha256"]]
            return [*_stamp(path), entry["sha256"]]
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _load(self) -> None:
        if self._file is None:
            return
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            content = json.loads(self._file.read_bytes())
            if content["format"] == _FORMAT:
                self._known = {**dict(content["files"].items()), **self._known}
                self._bad = {**dict(content.get("damaged", {}).items()), **self._bad}

    def save(self) -> None:
        """Keep what `sha256` has found; `unsound` does so of itself."""
        if not self._new or self._file is None:
            return
        new, self._new = self._new, {}
        self._load()  # another process may have written meanwhile
        self._known.update(new)
        self._write()

    def _write(self) -> None:
        if self._file is None:
            return
        content: dict[str, Any] = {"format": _FORMAT, "store": str(self._store), "files": self._known}
        if self._bad:
            content["damaged"] = self._bad
        with contextlib.suppress(OSError):
            write_atomic(self._file, json.dumps(content, ensure_ascii=True).encode())


def damage(store: Path, bad: Sequence[Mapping[str, Any]], rows: str = "") -> WorkError:
    """The error that names damaged files of a store, and what to do about them. Damage on object storage is
    kept in mind for that."""
    first = store / bad[0]["path"]
    more = f" and {len(bad) - 1} more files" if len(bad) > 1 else ""
    if isinstance(first, RemotePath):
        Memory(store).note_damage(bad)
    return WorkError(
        f"{first}{more}: the content does not match the journal's checksum{rows}; the store is damaged: "
        "run the same `uml extract` or `uml cache import` command again to rebuild them"
    )


def _crc32c(stream: Any) -> int:
    buffer = np.empty(_PIECE, np.uint8)  # small enough to stay in the processor's cache
    value = 0
    while count := stream.readinto(buffer):
        value = google_crc32c.extend(value, buffer[:count])
    return value


def _stamp(path: Path) -> list[int]:
    """What tells one state of a file from another. The time of the last change of state cannot be set."""
    found = os.stat(path)
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _settled(state: Sequence[Any]) -> bool:
    times = [value for value in state[3:5] if isinstance(value, int)]
    return all(time.time_ns() - value > _YOUNG_NS for value in times)


def _place(store: Path) -> Path | None:
    """Where the memory of a store is kept; None where there is no home."""
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return None
    name = hashlib.sha256(str(store if isinstance(store, RemotePath) else os.path.realpath(store)).encode())
    return Path(home) / "uml-cache" / "checked" / f"{name.hexdigest()[:32]}.json"
