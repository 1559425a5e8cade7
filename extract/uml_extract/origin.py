"""Where the samples of a store came from, so that a report can show them: a file beside the store.

    FEATS/<dataset>/<modality>/<encoder>.zarr
    FEATS/<dataset>/<modality>/<encoder>.origin.json

It is a hint and no part of the store: samples count only where the manifest that it leads to has the digest
that the store was planned with.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from uml_cache import InputError, is_remote, open_features, parse_json, recorded_plan, write_changed
from uml_manifests import HeldManifest

if TYPE_CHECKING:
    from uml_cache import StoreInfo
    from uml_manifests import Manifest


def record_origin(store: Path, manifest: Manifest) -> None:
    """Write down where a manifest was found; nothing for one that cannot be found again, or far away."""
    if manifest.origin is not None and not is_remote(store):
        words = {"manifest_digest": manifest.digest, **manifest.origin}
        write_changed({_beside(store): f"{json.dumps(words, indent=1)}\n".encode()})


def samples_of(store: StoreInfo) -> Manifest:
    """The manifest that a store was made of, row by row.

    Raises:
        InputError: it was not written down, is not there any more, or is not the same.
    """
    from uml_manifests import resolve_origin

    place = store.path
    try:
        words = parse_json(_beside(place).read_bytes())
        digest = words.pop("manifest_digest")
    except (OSError, ValueError, KeyError, AttributeError):
        raise InputError("the store does not say where its samples came from") from None
    plan = recorded_plan(place)
    try:
        manifest = resolve_origin(words)
    except (KeyError, TypeError, OSError):
        raise InputError(
            f"{_beside(place)} is damaged; run the same `uml extract` to write it again"
        ) from None
    if plan is None or not digest == manifest.digest == plan["manifest_digest"]:
        raise InputError(f"{words['data']} has changed since the features were made")
    return manifest if "grown" not in plan else _by_rows(manifest, store)


def _by_rows(manifest: Manifest, store: StoreInfo) -> Manifest:
    """The manifest in the order of a store that has grown; rows whose sample is gone name a file that is not
    there, or an empty text."""
    features = open_features(store.path, check=False)
    try:
        ids = features.id
    finally:
        features.close()
    place = {id: row for row, id in enumerate(manifest.ids)}
    rows = np.array([place.get(id, -1) for id in ids], np.int64)
    gone = rows < 0
    if not gone.any():
        return replace(manifest.some(rows), origin=manifest.origin)
    if isinstance(manifest, HeldManifest):
        raise InputError("samples of the store are gone from its data")
    taken = np.maximum(rows, 0)
    groups = manifest.groups
    return replace(
        manifest,
        ids=ids,
        sources=[" " if row < 0 else manifest.sources[row] for row in rows.tolist()],
        labels=np.where(gone, -1, manifest.labels[taken]),
        splits=manifest.splits[taken],
        groups=None if groups is None else [groups[row] for row in taken.tolist()],
    )


def _beside(store: Path) -> Path:
    return store.with_name(f"{store.stem}.origin.json")
