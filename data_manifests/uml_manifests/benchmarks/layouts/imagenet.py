"""ImageNet and the data sets that shift it: V2, Sketch, A and R.

All of them have ImageNet's 1,000 classes in `classnames.txt`'s order, so that a label means the same class
everywhere; of A and R 800 classes have no pictures.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from uml_cache import InputError
from uml_manifests.benchmarks.known import Benchmark
from uml_manifests.benchmarks.layouts.found import Found, capped, counts_of, need_file, need_folder
from uml_manifests.manifest.manifest import Manifest
from uml_manifests.manifest.table import decode
from uml_manifests.sources.builders import from_coop, modality_of

SPLIT_FILE = "split_ImageNet.json"
_WNID = re.compile(r"n\d{8}")


def imagenet(benchmark: Benchmark, root: Path, options: Mapping[str, str]) -> Found:
    """`images/train` and `images/val` with a folder a class; the validation pictures are the test set.

    With `split_ImageNet.json` a part of the training pictures is the validation set, as few-shot indices
    suppose; without it there is none.
    """
    names = read_classnames(need_file(benchmark, root, "classnames.txt"))
    images = root / "images" if (root / "images").is_dir() or not (root / "train").is_dir() else root
    split_file = root / SPLIT_FILE
    if options["splits"] == "file" or (options["splits"] == "auto" and split_file.is_file()):
        manifest = _of_split_file(benchmark, need_file(benchmark, root, SPLIT_FILE), images, names)
        remarks: tuple[str, ...] = ()
    else:
        # `--root …/imagenet` holds images/train; someone who gives …/imagenet/images has train right there.
        under = "" if images == root else "images/"
        train = need_folder(benchmark, root, f"{under}train")
        val = need_folder(benchmark, root, f"{under}val")
        rows = [
            *_pictures(train, "train/", _by_wnid(names, train), 0),
            *_pictures(val, "val/", _by_wnid(names, val), 2),
        ]
        manifest = _manifest(benchmark, images, names, rows)
        remarks = (
            f"without {SPLIT_FILE} there is no validation split (training takes 20 % of the train rows), and "
            "few-shot draws differ from the published indices",
        )
    train_rows, val_rows, test = counts_of(manifest)
    return Found(
        manifests=(manifest,),
        counts=(train_rows + val_rows, 0, test),
        remarks=remarks,
        options={"splits": "folders" if remarks else "file"},
    )


def shift(benchmark: Benchmark, root: Path, options: Mapping[str, str]) -> Found:
    """A folder a class, named by WordNet id; all of it is the test set."""
    names = read_classnames(need_file(benchmark, root, "classnames.txt"))
    assert benchmark.images is not None
    images = need_folder(benchmark, root, benchmark.images)
    manifest = _manifest(benchmark, images, names, _pictures(images, "", _by_wnid(names, images), 2))
    return Found(manifests=(manifest,), counts=counts_of(manifest))


def indexed(benchmark: Benchmark, root: Path, options: Mapping[str, str]) -> Found:
    """The same with the folders `0` … `999`, as of ImageNet-V2."""
    names = read_classnames(need_file(benchmark, root, "classnames.txt"))
    assert benchmark.images is not None
    images = need_folder(benchmark, root, benchmark.images)
    code = {str(label): label for label in range(len(names))}
    manifest = _manifest(benchmark, images, names, _pictures(images, "", code, 2))
    return Found(manifests=(manifest,), counts=counts_of(manifest))


def read_classnames(path: Path) -> dict[str, str]:
    """`{WordNet id: class name}` of a file with lines such as `n01440764 tench`, in its order.

    Raises:
        InputError: the file is empty, a line is of another form, or an id occurs twice.
    """
    names: dict[str, str] = {}
    for number, line in enumerate(decode(path).split("\n"), 1):
        wnid, _, name = line.strip().partition(" ")
        if not wnid:
            continue
        if not _WNID.fullmatch(wnid) or not name.strip():
            raise InputError(f"{path}, line {number}: expected `n01440764 tench`, got {line.strip()!r}")
        if wnid in names:
            raise InputError(f"{path}, line {number}: {wnid} occurs a second time")
        names[wnid] = name.strip()
    if not names:
        raise InputError(f"{path}: the file is empty; expected lines such as `n01440764 tench`")
    return names


def _by_wnid(names: Mapping[str, str], folder: Path) -> dict[str, int]:
    code = {wnid: label for label, wnid in enumerate(names)}
    with os.scandir(folder) as entries:
        here = [(entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith(".")]
    if any(name in code and is_folder for name, is_folder in here):
        return code
    kind = next((name for name, is_folder in here if not is_folder), None)
    if kind is not None and kind.endswith(".tar"):
        raise InputError(f"{folder}: {len(here)} tar files; unpack each into a folder of its name")
    if kind is not None and modality_of(kind) == "image":
        raise InputError(
            f"{folder}: {len(here)} pictures that are not sorted into class folders such as n01440764"
        )
    raise InputError(
        f"{folder}: no class folders such as n01440764; found {capped(sorted(name for name, _ in here))}"
    )


def _pictures(
    folder: Path, prefix: str, code: Mapping[str, int], split: int
) -> Iterable[tuple[str, int, int]]:
    """(path below the root, label, split) of every picture, classes by label, files by name."""
    for name, label in sorted(code.items(), key=lambda item: item[1]):
        if not (folder / name).is_dir():
            continue
        with os.scandir(folder / name) as entries:
            files = sorted(entry.name for entry in entries if not entry.name.startswith("."))
        for file in files:
            if modality_of(file) == "image":
                yield f"{prefix}{name}/{file}", label, split


def _manifest(
    benchmark: Benchmark,
    images: Path,
    names: Mapping[str, str],
    rows: Iterable[tuple[str, int, int]],
) -> Manifest:
    rows = list(rows)
    if not rows:
        raise InputError(f"{images}: no pictures in its class folders; expected: {benchmark.layout}")
    paths = [path for path, _, _ in rows]
    return Manifest(
        name=benchmark.name,
        modality="image",
        classes=tuple(names.values()),
        root=images,
        ids=paths,
        sources=paths,
        labels=np.array([label for _, label, _ in rows]),
        splits=np.array([split for *_, split in rows]),
        licence=benchmark.licence,
        source=benchmark.homepage,
        prompts=benchmark.prompts,
    )


def _of_split_file(
    benchmark: Benchmark, split_file: Path, images: Path, names: Mapping[str, str]
) -> Manifest:
    manifest = from_coop(
        split_file,
        images,
        benchmark.name,
        licence=benchmark.licence,
        source=benchmark.homepage,
        prompts=benchmark.prompts,
    )
    own = tuple(names.values())
    for label, (theirs, ours) in enumerate(zip(manifest.classes, own, strict=False)):
        if theirs != ours:
            raise InputError(
                f"{split_file}: class {label} is {theirs!r}, but {ours!r} in classnames.txt; take both from "
                "one source"
            )
    return manifest
