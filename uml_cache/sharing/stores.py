"""Handing a feature store on: its files as its journal lists them, and the journal.

Nothing that runs is written or taken: a store holds arrays and JSON, and files of other names are refused.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from uml_cache.errors import InputError, WorkError
from uml_cache.remote import as_path, is_remote
from uml_cache.sharing.card import card_text
from uml_cache.sharing.kinds import Accepted, Content, Kind, Thing
from uml_cache.sharing.moving import digested, pull_thing, push_thing
from uml_cache.sharing.share_list import Shared
from uml_cache.store import journal
from uml_cache.store.catalogue import StoreInfo, store_info
from uml_cache.store.locks import Reader
from uml_cache.store.plans.plan import store_path
from uml_cache.store.verification import verify

_NAMES = re.compile(
    r"(?:[a-z_]+/){0,2}(?:zarr\.json|c(?:/(?:0|[1-9][0-9]*)){1,2})|journal/(?:plan|[0-9]+)\.json"
)


def push_store(
    store: Path | str,
    place: Path | str,
    *,
    licence: str | None = None,
    progress: Callable[[int], Any] = lambda _: None,
) -> Shared:
    """Copy the sealed store at `store` to `place`, an empty folder, a new one, a prefix of a bucket, or a
    repository of the hub (`hf://datasets/ORG/NAME`).

    The store is verified first. `progress` is called with the number of files done since its last call.

    Raises:
        InputError: `store` is none of this project's, is not finished, or something else is at `place`.
        WorkError: `store` is damaged.
    """
    source = as_path(store)
    hold = contextlib.nullcontext() if is_remote(source) else contextlib.closing(Reader(source))
    with hold:
        _check_whole(source)
        info = store_info(source)
        thing = Thing(
            kind=STORE,
            about={"fingerprint": str(info.fingerprint)},
            files=_files_of(info),
            card=lambda where, digest: _card(info, licence, where, digest),
        )
        return push_thing(thing, place, progress=progress)


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
        InputError: no store was pushed to `place`, or another store is where this one would go.
        WorkError: what is at `place` is not what was pushed; nothing is left in `feats`.
    """
    return pull_thing(place, {STORE.name: STORE}, feats, digest=digest, progress=progress)


def _check_whole(store: Path) -> None:
    report = verify(store)
    if report.bad:
        raise WorkError(
            f"{store} is damaged ({len(report.bad)} files) and was not pushed; `uml cache verify` names them"
        )
    if not report.ok:
        raise InputError(f"{store} is not finished and was not pushed: run its `uml extract` command again")


def _files_of(info: StoreInfo) -> dict[str, Content]:
    """Each file of a store, by its path there: those that its journal lists, and it."""
    found = {
        entry["path"]: Content(
            (info.path / entry["path"]).stat().st_size, entry["sha256"], info.path / entry["path"]
        )
        for record in info.records.values()
        for entry in record["files"]
    }
    for name in info.records:
        data = (info.path / journal.JOURNAL / f"{name}.json").read_bytes()
        found[f"{journal.JOURNAL}/{name}.json"] = digested(data)
    return dict(sorted(found.items()))


def _accept(draft: Path, content: Mapping[str, Any]) -> Accepted:
    sound = verify(draft).ok
    info = store_info(draft)
    if not sound or info.fingerprint != content["fingerprint"]:
        raise WorkError("its journal says otherwise")
    there = store_path(Path(), info.dataset, info.modality, info.set, info.encoder_name, info.variant)
    return Accepted(draft, there)


def _same(there: Path, content: Mapping[str, Any]) -> bool:
    return store_info(there).fingerprint == content["fingerprint"]


STORE = Kind(
    name="store", folder="store", names=_NAMES, hub="dataset", out="feats", accept=_accept, same=_same
)


def _card(info: StoreInfo, licence: str | None, place: str, digest: str) -> str:
    kind = info.modality if info.set is None else f"{info.modality}, set {info.set}"
    rows = [
        ("Data set", info.dataset),
        ("Modality", kind),
        ("Rows", f"{info.rows:,}, of which {len(info.failed()):,} could not be read"),
        ("Classes", f"{len(info.classes):,}"),
        *encoder_rows(info.encoder),
        ("Width", str(info.dim if info.dim is not None else info.token_dim)),
        ("Store's fingerprint", str(info.fingerprint)),
        ("Licence of the features", licence or "not stated by who pushed them"),
        ("Licence of the data", "not recorded; ask whoever made the data set"),
    ]
    return card_text(
        title=f"Features of {info.dataset} by {info.encoder_name}",
        what="Features of a frozen encoder, stored by `uml extract` as a Zarr v3 group.",
        rows=rows,
        hub={"tags": ["uml", "features"], "viewer": False},
        licence=licence,
        place=place,
        digest=digest,
        after=f"uml train --cache ./feats --dataset {info.dataset}" if _plain(info.dataset) else None,
    )


def encoder_rows(encoder: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a card says of an encoder, from its recorded spec."""
    return [
        ("Encoder", str(encoder["name"])),
        ("Encoder's model", str(encoder.get("model") or "not recorded")),
        (
            "sha256 of its weights",
            _weights(encoder),
        ),
        ("Licence of its weights", str(encoder.get("licence") or "not recorded")),
    ]


def _weights(encoder: Mapping[str, Any]) -> str:
    if encoder.get("parameters") == 0:
        return "it has no weights"
    return str(encoder.get("weights_digest") or "not recorded")


def _plain(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9._-]+", text) is not None
