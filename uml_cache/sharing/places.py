"""Where things are handed on to: a folder, or a bucket (`hub.py` has repositories of the hub).

A folder appears at once, under its name. In a bucket the list comes last.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from uml_cache.errors import InputError
from uml_cache.files.disk import make_folder, scratch_folder, sync_folder, write_atomic, write_together
from uml_cache.remote import RemotePath, as_path
from uml_cache.sharing.card import CARD
from uml_cache.sharing.hub import HubPlace, is_hub
from uml_cache.sharing.kinds import Kind
from uml_cache.sharing.share_list import LIST

_BATCH_BYTES = 64_000_000

Copies = Iterable[tuple[str, bytes]]
Progress = Callable[[int], Any]


class Place(Protocol):
    """A place that things are pushed to and pulled from; as a text it is what a user types."""

    def check(self, kind: Kind) -> None:
        """Raise `InputError` where things of this kind do not belong here."""

    def listed(self) -> bytes | None:
        """The list that is here, or None."""

    def put(self, copies: Copies, card: bytes, listed: bytes, progress: Progress) -> None:
        """Write the files, then the card, then the list.

        Raises:
            InputError: something else is here.
        """

    def root(self, names: Sequence[str], scratch: Path) -> Path:
        """A folder (or what behaves like one) in which the files of these names can be read.

        Args:
            scratch: an empty folder for what has to be fetched first.
        """


def open_place(place: Path | str) -> Place:
    """The place that a text names: `hf://…`, a URL of object storage, or a folder."""
    if is_hub(place):
        return HubPlace(str(place))
    path = as_path(place)
    return _Bucket(path) if isinstance(path, RemotePath) else _Folder(path)


class _Files:
    """What a folder and a bucket have in common."""

    def __init__(self, path: Any) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    def check(self, kind: Kind) -> None:
        return None

    def listed(self) -> bytes | None:
        try:
            data: bytes = (self._path / LIST).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return data

    def root(self, names: Sequence[str], scratch: Path) -> Path:
        path: Path = self._path
        return path


class _Folder(_Files):
    def put(self, copies: Copies, card: bytes, listed: bytes, progress: Progress) -> None:
        target: Path = self._path
        if target.is_file() or (target.is_dir() and any(target.iterdir())):
            raise InputError(f"{target} is not empty; nothing was written: name a new folder")
        with scratch_folder(target.parent) as scratch:
            write_below(scratch / "new", copies, progress)
            write_atomic(scratch / "new" / CARD, card)
            write_atomic(scratch / "new" / LIST, listed)
            appear(scratch / "new", target)


class _Bucket(_Files):
    def put(self, copies: Copies, card: bytes, listed: bytes, progress: Progress) -> None:
        target: RemotePath = self._path
        for name, data in copies:
            place = target / name
            if not place.create(data) and place.read_bytes() != data:
                raise InputError(f"{place} is there already and is another file: name an empty place")
            progress(1)
        target.joinpath(CARD).replace(card)
        if not target.joinpath(LIST).create(listed) and self.listed() != listed:
            raise InputError(f"another command wrote to {target} meanwhile: name an empty place")


def write_below(folder: Path, files: Copies, progress: Progress) -> None:
    """Write files a batch at a time: a disk flushes many in the time of a few, and memory holds one batch."""
    for batch in _batches(folder, files):
        write_together(batch)
        progress(len(batch))


def _batches(folder: Path, files: Copies) -> Iterator[dict[Path, bytes]]:
    batch: dict[Path, bytes] = {}
    held = 0
    for name, data in files:
        batch[folder.joinpath(*PurePosixPath(name).parts)] = data
        held += len(data)
        if held >= _BATCH_BYTES:
            yield batch
            batch, held = {}, 0
    yield batch


def appear(made: Path, place: Path) -> None:
    """Give a finished file or folder its name; what came there meanwhile stays.

    Raises:
        InputError: another command made something there meanwhile.
    """
    make_folder(place.parent)
    try:
        if made.is_file() and place.exists():
            raise FileExistsError
        os.rename(made, place)
    except OSError:
        if not place.exists():
            raise
        raise InputError(f"another command created {place} meanwhile; nothing was changed") from None
    sync_folder(place.parent)
