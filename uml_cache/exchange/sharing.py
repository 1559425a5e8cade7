"""Handing a feature store on: a folder or bucket with the store's files, a card, and a list of checksums.

    PLACE/README.md      the card, for people
    PLACE/share.json     what is here: path, bytes and sha256 of every file and of itself; it comes last
    PLACE/store/…        the store's files, as they are

Nothing that runs is written or taken: a store holds arrays and JSON, and files of other names are refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from uml_cache.errors import InputError, WorkError
from uml_cache.exchange.card import CARD, store_card
from uml_cache.files.disk import make_folder, scratch_folder, sync_folder, write_atomic, write_together
from uml_cache.remote import RemotePath, as_path, is_remote
from uml_cache.store import journal
from uml_cache.store.catalogue import StoreInfo, store_info
from uml_cache.store.locks import Reader
from uml_cache.store.plans.plan import store_path
from uml_cache.store.verification import verify

LIST = "share.json"
_STORE = "store"
_SHARE_VERSION = 1
_BATCH_BYTES = 64_000_000
_NAMES = re.compile(
    r"(?:[a-z_]+/){0,2}(?:zarr\.json|c(?:/(?:0|[1-9][0-9]*)){1,2})|journal/(?:plan|[0-9]+)\.json"
)
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Shared:
    """A store that was handed on: where it lies, the digest of its list, and what was moved."""

    place: str
    digest: str
    files: int
    bytes: int
    fingerprint: str
    new: bool

    def as_json(self) -> dict[str, Any]:
        """The answer of `uml cache push --json` and `uml cache pull --json`."""
        return dict(vars(self))


def push_store(
    store: Path | str,
    place: Path | str,
    *,
    licence: str | None = None,
    progress: Callable[[int], Any] = lambda _: None,
) -> Shared:
    """Copy the sealed store at `store` to `place`, an empty folder, a new one or a prefix of a bucket.

    The store is verified first. On a disk all appears at once; on object storage the list comes last, and
    without it there is nothing to pull, so that a push that broke off is repeated. `progress` is called with
    the number of files done since its last call.

    Raises:
        InputError: `store` is none of this project's, is not finished, or something else is at `place`.
        WorkError: `store` is damaged.
    """
    source, target = as_path(store), as_path(place)
    hold = contextlib.nullcontext() if is_remote(source) else contextlib.closing(Reader(source))
    with hold:
        _check_whole(source)
        info = store_info(source)
        files = _files_of(info)
        content = {
            "version": _SHARE_VERSION,
            "kind": "store",
            "fingerprint": info.fingerprint,
            "files": [
                {"path": name, "bytes": size, "sha256": sha256} for name, (size, sha256) in files.items()
            ],
        }
        listed = journal.record_bytes(content)
        shared = _summary(target, content, new=True)
        if (target / LIST).exists():
            if (target / LIST).read_bytes() != listed:
                raise InputError(
                    f"{target} holds another shared store; nothing was written: name an empty place"
                )
            return Shared(**{**vars(shared), "new": False})
        card = store_card(info, licence, str(target), shared.digest).encode()
        copies = ((f"{_STORE}/{name}", _checked(source / name, *known)) for name, known in files.items())
        if isinstance(target, RemotePath):
            _put_objects(target, copies, progress)
            target.joinpath(CARD).replace(card)
            if not target.joinpath(LIST).create(listed) and (target / LIST).read_bytes() != listed:
                raise InputError(f"another command wrote a store to {target} meanwhile: name an empty place")
        else:
            if target.is_file() or (target.is_dir() and any(target.iterdir())):
                raise InputError(f"{target} is not empty; nothing was written: name a new folder")
            with scratch_folder(target.parent) as scratch:
                _write_below(scratch / "new", copies, progress)
                write_atomic(scratch / "new" / CARD, card)
                write_atomic(scratch / "new" / LIST, listed)
                _appear(scratch / "new", target)
    return shared


def pull_store(
    place: Path | str,
    feats: Path | str,
    *,
    digest: str | None = None,
    progress: Callable[[int], Any] = lambda _: None,
) -> Shared:
    """Copy the store that was pushed to `place` into the cache folder `feats`, where `uml train` looks.

    Every file is compared with its checksum, and the whole store verified, before it appears, at once.
    `digest` is what `push_store` returned: with it a list that somebody replaced is refused, too.

    Raises:
        InputError: nothing was pushed to `place`, or another store is where this one would go.
        WorkError: what is at `place` is not what was pushed; nothing is left in `feats`.
    """
    source, cache = as_path(place), as_path(feats)
    if is_remote(cache):
        raise InputError(f"{cache}: a store is pulled into a folder; `uml cache push` takes it to a bucket")
    content = _read_list(source)
    shared = _summary(source, content, new=True)
    if digest is not None and digest != shared.digest:
        raise WorkError(f"{source} has the digest {shared.digest}, not {digest}; nothing was pulled")
    files = {entry["path"]: (entry["bytes"], entry["sha256"]) for entry in content["files"]}
    copies = ((name, _checked(source / _STORE / name, *known)) for name, known in files.items())
    with scratch_folder(cache) as scratch:
        draft = scratch / "new"
        _write_below(draft, copies, progress)
        info = _accepted(draft, source, content)
        there = store_path(cache, info.dataset, info.modality, info.set, info.encoder_name, info.variant)
        pulled = Shared(**{**vars(shared), "place": str(there)})
        if there.exists():
            if store_info(there).fingerprint != content["fingerprint"]:
                raise InputError(f"{there} is another store; nothing was changed: pull into another --out")
            return Shared(**{**vars(pulled), "new": False})
        make_folder(there.parent)
        _appear(draft, there)
    return pulled


def _check_whole(store: Path) -> None:
    report = verify(store)
    if report.bad:
        raise WorkError(
            f"{store} is damaged ({len(report.bad)} files) and was not pushed; `uml cache verify` names them"
        )
    if not report.ok:
        raise InputError(f"{store} is not finished and was not pushed: run its `uml extract` command again")


def _files_of(info: StoreInfo) -> dict[str, tuple[int, str]]:
    """Bytes and sha256 of each file of a store, by its path there: those that its journal lists, and it."""
    found = {
        entry["path"]: ((info.path / entry["path"]).stat().st_size, entry["sha256"])
        for record in info.records.values()
        for entry in record["files"]
    }
    for name in info.records:
        data = (info.path / journal.JOURNAL / f"{name}.json").read_bytes()
        found[f"{journal.JOURNAL}/{name}.json"] = (len(data), hashlib.sha256(data).hexdigest())
    return dict(sorted(found.items()))


def _summary(place: Path, content: dict[str, Any], *, new: bool) -> Shared:
    size = sum(entry["bytes"] for entry in content["files"])
    return Shared(
        str(place), journal.digest(content), len(content["files"]), size, content["fingerprint"], new
    )


def _read_list(place: Path) -> dict[str, Any]:
    try:
        content = journal.read_record(place / LIST)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{place} holds no shared store (no {LIST}): `uml cache push STORE PLACE` makes one"
        ) from None
    except journal.BrokenRecord as error:
        raise WorkError(f"{error}; it was damaged or tampered with, and nothing was pulled") from None
    if content.get("version") != _SHARE_VERSION or content.get("kind") != "store":
        raise InputError(f"{place / LIST} has a format that this version of uml does not know; update uml")
    try:
        names = [entry["path"] for entry in content["files"]]
        sound = all(
            isinstance(entry["bytes"], int) and entry["bytes"] >= 0 and _DIGEST.fullmatch(entry["sha256"])
            for entry in content["files"]
        )
        foreign = [name for name in names if not _NAMES.fullmatch(name)]
        sound = sound and len(set(names)) == len(names) and isinstance(content["fingerprint"], str)
    except (KeyError, TypeError):
        foreign, sound = [], False
    if foreign or not sound:
        what = (
            f"lists {foreign[0]!r}, which is not a file of a store" if foreign else "is not a list of files"
        )
        raise WorkError(f"{place / LIST} {what}; nothing was pulled")
    return content


def _checked(path: Path, size: int, sha256: str) -> bytes:
    """A file's content, which must be what was listed."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise WorkError(f"{path} is missing; the incomplete copy was removed") from None
    if len(data) != size or hashlib.sha256(data).hexdigest() != sha256:
        raise WorkError(
            f"{path} does not match its checksum: it is damaged or was tampered with. The copy was removed"
        )
    return data


def _accepted(draft: Path, source: Path, content: dict[str, Any]) -> StoreInfo:
    """The pulled store, after its own journal was asked as well: a list can be written by anybody."""
    try:
        sound = verify(draft).ok
        info = store_info(draft) if sound else None
    except (InputError, WorkError):
        info = None
    if info is None or info.fingerprint != content["fingerprint"]:
        raise WorkError(f"{source} is not an undamaged store with the listed fingerprint; nothing was pulled")
    return info


def _write_below(folder: Path, files: Iterator[tuple[str, bytes]], progress: Callable[[int], Any]) -> None:
    """Write files a batch at a time: a disk flushes many in the time of a few, and memory holds one batch."""
    batch: dict[Path, bytes] = {}
    held = 0
    for name, data in files:
        batch[folder.joinpath(*PurePosixPath(name).parts)] = data
        held += len(data)
        if held >= _BATCH_BYTES:
            write_together(batch)
            progress(len(batch))
            batch, held = {}, 0
    write_together(batch)
    progress(len(batch))


def _put_objects(
    target: RemotePath, files: Iterator[tuple[str, bytes]], progress: Callable[[int], Any]
) -> None:
    for name, data in files:
        place = target / name
        if not place.create(data) and place.read_bytes() != data:
            raise InputError(f"{place} is there already and is another file: name an empty place")
        progress(1)


def _appear(made: Path, place: Path) -> None:
    """Give a finished folder its name; what came there meanwhile stays."""
    try:
        os.rename(made, place)
    except OSError:
        if not place.exists():
            raise
        raise InputError(f"another command created {place} meanwhile; nothing was changed") from None
    sync_folder(place.parent)
