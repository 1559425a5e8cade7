"""Class folders on object storage: listed once, and each object fetched when its sample is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uml_cache import InputError, RemotePath
from uml_manifests.manifest.fetched import Fetched
from uml_manifests.manifest.held import HeldManifest
from uml_manifests.sources.builders import modality_of
from uml_manifests.sources.folders import Walked, read_tree, skipped


def from_bucket(
    place: RemotePath, *, name: str | None = None, set: str | None = None, modality: str | None = None
) -> HeldManifest:
    """A manifest of the objects below `place`, by the rules of `from_folder`; nothing is copied to this disk.

    What the storage says of each object's state is part of the manifest's digest: a store that was begun with
    other objects is not gone on with.

    Raises:
        InputError: nothing is there; one object that is no folder; what `from_folder` refuses.
        WorkError: the storage cannot be reached.
    """
    states = place.states()
    if not states:
        try:
            place.stat()
        except FileNotFoundError:
            raise InputError(f"{place}: nothing is there") from None
        raise InputError(
            f"{place}: of object storage a folder of class folders is read; copy a single file here first"
        )
    fields = read_tree(_Listing(place, states), modality)
    names: list[str] = fields["sources"]
    fields["sources"] = [f"{one} {states[one]}" for one in names]
    held = Fetched(place, names)
    return HeldManifest(name=name or place.name, set=set, root=Path("."), held=held, **fields)


class _Listing:
    """The objects below a URL as a tree of folders."""

    def __init__(self, place: RemotePath, names: Mapping[str, Any]) -> None:
        self._place = place
        self._folders: dict[str, tuple[dict[str, None], list[str]]] = {"": ({}, [])}
        self._below: dict[str, list[str]] = {}
        for name in sorted(names):
            *above, last = name.split("/")
            if not last:  # a console's mark of an empty folder
                continue
            here = ""
            for part in above:
                self._folders[here][0][part] = None
                here = f"{here}/{part}" if here else part
                self._folders.setdefault(here, ({}, []))
                self._below.setdefault(here, []).append(name)
            self._folders[here][1].append(last)

    def __str__(self) -> str:
        return str(self._place)

    def inside(self, where: str) -> tuple[list[str], list[str]]:
        folders, files = self._folders[where]
        return [one for one in folders if not skipped(one)], [one for one in files if not skipped(one)]

    def walk(self, where: str) -> Walked:
        found = Walked()
        depth = where.count("/") + 1
        for name in self._below.get(where, []):
            *folders, last = name.split("/")[depth:]
            if any(one.startswith(".") for one in folders):
                continue
            odd = next((one for one in folders if skipped(one)), None)
            if odd is None and not skipped(last):
                found.files.append(name)
            elif modality_of(last):
                found.left_out.append((name, "hidden file" if odd is None else f"thumbnail in {odd}"))
        return found
