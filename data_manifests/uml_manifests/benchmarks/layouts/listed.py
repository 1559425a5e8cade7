"""Pictures with lists of who is where: CoOp split files, and FGVC Aircraft's official lists."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from uml_cache import InputError, unknown
from uml_manifests.benchmarks.known import Benchmark
from uml_manifests.benchmarks.layouts.found import Found, counts_of, need_file, need_folder
from uml_manifests.manifest.manifest import SPLITS, Manifest
from uml_manifests.manifest.table import decode
from uml_manifests.sources.builders import from_coop

_LISTS = {"variant": "variants.txt", "family": "families.txt", "manufacturer": "manufacturers.txt"}
_CLASSES = {"variant": 100, "family": 70, "manufacturer": 30}


def coop(benchmark: Benchmark, root: Path, options: Mapping[str, str]) -> Found:
    """Pictures below `benchmark.images` and a split file `split_zhou_*.json`."""
    assert benchmark.split_file is not None
    assert benchmark.images is not None
    split_file = need_file(benchmark, root, benchmark.split_file)
    images = need_folder(benchmark, root, benchmark.images) if benchmark.images else root
    manifest = from_coop(
        split_file,
        images,
        benchmark.name,
        licence=benchmark.licence,
        source=benchmark.homepage,
        prompts=benchmark.prompts,
    )
    return Found(manifests=(manifest,), counts=counts_of(manifest))


def aircraft(benchmark: Benchmark, root: Path, options: Mapping[str, str]) -> Found:
    """`images/NUMBER.jpg`, the class list of the level asked for, and one list of pictures a split.

    A line of a list is `NUMBER CLASS NAME`. Classes are numbered in the order of their list.

    Raises:
        InputError: a picture's class is not in the class list.
    """
    level = options["level"]
    if not (root / _LISTS[level]).is_file() and (root / "data" / _LISTS[level]).is_file():
        root = root / "data"  # as the archive unpacks
    names = _lines(need_file(benchmark, root, _LISTS[level]))
    code = {name: label for label, (_, name) in enumerate(names)}
    need_folder(benchmark, root, "images")
    ids: list[str] = []
    labels: list[int] = []
    splits: list[int] = []
    for split, part in enumerate(SPLITS):
        path = need_file(benchmark, root, f"images_{level}_{part}.txt")
        for number, line in _lines(path):
            picture, _, name = line.partition(" ")
            if name not in code:
                raise InputError(f"{path}, line {number}: {unknown(level, name, code)}")
            ids.append(f"{picture}.jpg")
            labels.append(code[name])
            splits.append(split)
    manifest = Manifest(
        name=benchmark.name,
        modality="image",
        classes=tuple(code),
        root=root / "images",
        ids=ids,
        sources=ids,
        labels=np.array(labels),
        splits=np.array(splits),
        licence=benchmark.licence,
        source=benchmark.homepage,
        prompts=benchmark.prompts,
    )
    return Found(manifests=(manifest,), counts=counts_of(manifest), classes=_CLASSES[level])


def _lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a list that are not blank, with their numbers."""
    lines = [(number, line.strip()) for number, line in enumerate(decode(path).split("\n"), 1)]
    found = [(number, line) for number, line in lines if line]
    if not found:
        raise InputError(f"{path}: the file is empty")
    return found
