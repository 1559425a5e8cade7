"""Push and pull, the same way whatever is handed on and wherever it goes.

PLACE/README.md      the card, for people
PLACE/share.json     what is here; it comes last
PLACE/<folder>/…     the thing's files, as they are
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from uml_cache.errors import InputError, WorkError
from uml_cache.files.disk import scratch_folder
from uml_cache.remote import as_path, is_remote
from uml_cache.sharing.hub import is_hub
from uml_cache.sharing.kinds import Content, Kind, Thing
from uml_cache.sharing.places import Place, appear, open_place, write_below
from uml_cache.sharing.share_list import LIST, Shared, list_of, parse_list, summary
from uml_cache.store import journal


def push_thing(thing: Thing, place: Path | str, *, progress: Callable[[int], Any] = lambda _: None) -> Shared:
    """Copy a thing to a place: a new or an empty folder, a prefix of a bucket, or a repository of the hub.

    On a disk and on the hub all appears at once; in a bucket the list comes last, and without it there is
    nothing to pull, so that a push that broke off is repeated.

    Raises:
        InputError: something else is at the place, or such things do not belong there.
        WorkError: a file of it changed meanwhile, or the place failed.
    """
    target = open_place(place)
    target.check(thing.kind)
    content = list_of(thing)
    listed = journal.record_bytes(content)
    parse_list(listed, str(place), {thing.kind.name: thing.kind})  # what cannot be pulled is not pushed
    shared = summary(target, content, new=True)
    there = target.listed()
    if there is not None:
        if there != listed:
            raise InputError(
                f"{target} holds another shared {thing.kind.name}; nothing was written: name an empty place"
            )
        return replace(shared, new=False)
    card = thing.card(str(target), shared.digest).encode()
    copies = ((thing.kind.path(name), _read(one, one.source)) for name, one in thing.files.items())
    target.put(copies, card, listed, progress)
    return shared


def pull_thing(
    place: Path | str,
    kinds: Mapping[str, Kind],
    out: Path | str | None = None,
    *,
    digest: str | None = None,
    progress: Callable[[int], Any] = lambda _: None,
) -> Shared:
    """Copy what was pushed to a place into the folder `out` (None: the usual one of its kind).

    Every file is compared with its checksum, and the whole looked through, before it appears, at once.
    `digest` is what the push returned: with it a list that somebody replaced is refused, too.

    Raises:
        InputError: nothing of these kinds was pushed to the place, or something else is where it would go.
        WorkError: what is at the place is not what was pushed; nothing is left in `out`.
    """
    source = open_place(place)
    listed = source.listed()
    if listed is None:
        raise InputError(f"{source} holds nothing that was shared (no {LIST}): `uml push` puts it there")
    content = parse_list(listed, f"{source}/{LIST}", kinds)
    kind = kinds[content["kind"]]
    folder = as_path(kind.out if out is None else out)
    if is_remote(folder) or is_hub(folder):
        raise InputError(f"{folder}: a {kind.name} is pulled into a folder; `uml push` takes it elsewhere")
    shared = summary(source, content, new=True)
    if digest is not None and digest != shared.digest:
        raise WorkError(f"{source} has the digest {shared.digest}, not {digest}; nothing was pulled")
    with scratch_folder(folder) as scratch:
        draft = scratch / "new"
        _fetch(source, kind, content, scratch, progress)
        accepted = _accepted(kind, draft, source, content)
        there = folder / accepted.place
        pulled = replace(shared, place=str(there))
        if there.exists():
            if not kind.same(there, content):
                raise InputError(
                    f"{there} is another {kind.name}; nothing was changed: pull into another --out"
                )
            return replace(pulled, new=False)
        appear(accepted.made, there)
    return pulled


def digested(data: bytes) -> Content:
    """A file that is handed on, by its content."""
    return Content(len(data), hashlib.sha256(data).hexdigest(), data)


def _fetch(
    source: Place, kind: Kind, content: Mapping[str, Any], scratch: Path, progress: Callable[[int], Any]
) -> None:
    """The listed files below `scratch / "new"`, each compared with its checksum."""
    names = [kind.path(entry["path"]) for entry in content["files"]]
    with TemporaryDirectory(dir=scratch) as fetched:
        root = source.root(names, Path(fetched))
        copies = (
            (
                entry["path"],
                _read(Content(entry["bytes"], entry["sha256"], root / name), f"{source}/{name}"),
            )
            for name, entry in zip(names, content["files"], strict=True)
        )
        write_below(scratch / "new", copies, progress)


def _accepted(kind: Kind, draft: Path, source: Place, content: Mapping[str, Any]) -> Any:
    """The kind's own record is asked as well: a list can be written by anybody."""
    try:
        return kind.accept(draft, content)
    except (InputError, WorkError, ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        why = " ".join(str(error).replace(f"{draft}/", "").split())
        raise WorkError(
            f"{source} is not an undamaged {kind.name} as listed; nothing was pulled ({why})"
        ) from None


def _read(one: Content, shown: object) -> bytes:
    """A file's content, which must be what was listed; `shown` is how a message names it."""
    if isinstance(one.source, bytes):
        return one.source
    try:
        data = one.source.read_bytes()
    except FileNotFoundError:
        raise WorkError(f"{shown} is missing; the incomplete copy was removed") from None
    if len(data) != one.size or hashlib.sha256(data).hexdigest() != one.sha256:
        raise WorkError(
            f"{shown} does not match its checksum: it is damaged or was tampered with. The copy was removed"
        )
    return data
