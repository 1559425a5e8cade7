"""What is predicted: files here, or objects of a bucket, fetched while earlier ones are encoded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache import MADE, Account, Choice, InputError, as_path, is_remote
from uml_extract import sources_digest
from uml_manifests import EXTENSIONS, NO_SPLIT, Fetched, HeldManifest, Manifest, new_samples, why_not


@dataclass(frozen=True, eq=False)
class Inputs:
    """The samples with their names in the table, and a digest of which they are and in which state.

    `remote`: they are fetched by this process, so that no other may read them.
    """

    manifest: Manifest
    names: list[str]
    digest: str
    remote: bool = False

    @property
    def account(self) -> Account:
        """How many samples there are, and what was left out beside them; that they lack labels is no news."""
        return Account(used=len(self.names), left_out=self.manifest.left_out)


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
    states = place.states()
    found = {name: state for name, state in states.items() if _is_media(name, modality)}
    left_out = tuple((name, why_not(name)) for name in sorted(states) if name not in found)
    root = place
    if not found:
        try:
            place.stat()
        except FileNotFoundError:
            raise InputError(f"{place}: no {modality} file is there") from None
        found, root, left_out = {place.name: place.tag()}, place.parent, ()
    names = sorted(found)
    rows = len(names)
    manifest = HeldManifest(
        name="new", modality=modality, classes=(), root=Path("."), ids=[str(row) for row in range(rows)],
        sources=names, labels=np.full(rows, -1), splits=np.full(rows, NO_SPLIT), id_kind=MADE,
        held=Fetched(root, names), left_out=left_out,
    )  # fmt: skip
    return Inputs(manifest, names, _digest([str(root), found]), remote=True)


def _is_media(name: str, modality: str) -> bool:
    return name.rpartition(".")[2].lower() in EXTENSIONS[modality]


def _digest(words: Any) -> str:
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()
