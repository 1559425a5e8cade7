"""Features that lie beside a recipe's data as files, and the classes of them that it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from uml_cache import InputError, import_features

_KEYS = {"dataset", "place", "encoder", "file", "classes"}


@dataclass(frozen=True, kw_only=True)
class FeatureFile:
    """A file of features below `--data`, and the store that it becomes.

    Args:
        place: `modality[.set]`.
        file: npz with `features`, `labels`, `ids`, and `splits` or `classes` where it has them.
        classes: the classes that are taken: their names, or how many, drawn from all; every smaller number is
            part of a larger one. None: all.
    """

    dataset: str
    place: str
    encoder: str
    file: str
    classes: tuple[str, ...] | int | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """Data set, place and encoder: what a run's need must be."""
        return self.dataset, self.place, self.encoder

    def make(self, data: Path, cache: Path) -> None:
        """Write the store into the cache.

        Raises:
            InputError: the file is not there, is damaged, or lacks a class.
        """
        path = data / self.file
        if not path.is_file():
            raise InputError(f"no data: {path} is not there")
        modality, _, chosen = self.place.partition(".")
        names: dict[str, Any] = {
            "dataset": self.dataset, "modality": modality, "encoder": self.encoder, "set": chosen or None,
        }  # fmt: skip
        if self.classes is None:
            import_features([path], cache, **names)
            return
        with TemporaryDirectory() as scratch:
            some = Path(scratch) / path.name
            np.savez(some, **self._some(path))
            import_features([some], cache, **names)

    def _some(self, path: Path) -> dict[str, Any]:
        try:
            with np.load(path) as arrays:
                found = {name: arrays[name] for name in arrays.files}
            labels = found["labels"]
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise InputError(f"{path} has no labels that can be read: {error}") from None
        names = found.pop("classes")[labels] if "classes" in found else labels.astype(str)
        every = sorted(set(names.tolist()))
        if isinstance(self.classes, int):
            order = np.random.default_rng(0).permutation(len(every))
            wanted = {every[i] for i in order[: self.classes]}
        else:
            wanted = set(self.classes or every)
        if missing := sorted(wanted - set(every)):
            raise InputError(f"{path} has no class {missing[0]!r}")
        rows = np.isin(names, sorted(wanted))
        return {**{name: values[rows] for name, values in found.items()}, "labels": names[rows]}


def read_files(values: Any) -> tuple[FeatureFile, ...]:
    """The tables `[[files]]` of a recipe. Raises `InputError` for what is none."""
    if not isinstance(values, list) or not all(isinstance(one, Mapping) for one in values):
        raise InputError("files is no list of tables; write [[files]]")
    found = []
    for one in values:
        wrong = {*one} - _KEYS or (_KEYS - {"classes"}) - {*one}
        if wrong:
            raise InputError(
                f"[[files]] {', '.join(sorted(wrong))}: a table has dataset, place, encoder and file; "
                "and classes, if it takes some only"
            )
        classes = one.get("classes")
        listed = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
        if classes is not None and not listed and not (type(classes) is int and classes >= 2):
            raise InputError(f"[[files]] classes is {classes!r}; expected names, or a number from 2 on")
        found.append(FeatureFile(**{**one, "classes": tuple(classes) if listed else classes}))
    return tuple(found)
