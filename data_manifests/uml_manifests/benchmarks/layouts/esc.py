"""ESC-50 and ImageNet-ESC: sounds in five folds, and the ImageNet classes that make them.

The few-shot protocol (cross-modal adaptation, ImageNet-ESC): per fold and class the first k clips in the
order of `esc50.csv` train, the next k validate, and the other four folds are the test set. One store serves
all of it: each (fold, k) is a file of splits for `uml train --splits`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from uml_cache import InputError
from uml_manifests.benchmarks.known import Benchmark, get_benchmark
from uml_manifests.benchmarks.layouts.found import Found, counts_of, need_file, need_folder
from uml_manifests.benchmarks.layouts.imagenet import imagenet, read_classnames
from uml_manifests.manifest.manifest import NO_SPLIT, SPLITS, Manifest
from uml_manifests.manifest.table import decode

SHOTS = (1, 2, 4)
_FOLDS = (1, 2, 3, 4, 5)
_CLIPS = 40  # of each class
_COLUMNS = ("filename", "fold", "target", "category")
_MAPS = "class_maps"


@dataclass(frozen=True)
class Clips:
    """ESC-50's table: clips in its order, `categories` by target number."""

    files: list[str]
    folds: np.ndarray
    labels: np.ndarray
    categories: tuple[str, ...]


def esc50(benchmark: Benchmark, root: Path, options: Mapping[str, str]) -> Found:
    """`audio/*.wav` and `meta/esc50.csv`, as the archive unpacks; `ESC-50-master` may lie in between."""
    root = _inside(root)
    clips = read_clips(need_file(benchmark, root, "meta/esc50.csv"))
    need_folder(benchmark, root, "audio")
    manifest = _sounds(benchmark, root, clips, clips.categories)
    return Found(
        manifests=(manifest,),
        counts=counts_of(manifest),
        texts=fold_files(manifest.ids, manifest.labels, clips.folds, manifest.classes),
    )


def imagenet_esc(benchmark: Benchmark, root: Path, options: Mapping[str, str]) -> Found:
    """The pictures of ImageNet and the sounds of ESC-50 that show the same things, below one folder.

    Both have the ImageNet names of the classes, so that they meet (`--option names=own` keeps ESC-50's, and
    the class maps that are written join them).

    Raises:
        InputError: files, classes or clips are missing.
    """
    pairs = read_pairs(benchmark.name)
    pictures_root = root / "imagenet"
    names = list(read_classnames(need_file(benchmark, root, "imagenet/classnames.txt")).values())
    if len(names) <= max(pairs):
        raise InputError(
            f"{pictures_root / 'classnames.txt'}: has {len(names)} classes; ImageNet has 1,000 of them"
        )
    whole = imagenet(get_benchmark("imagenet"), pictures_root, {"splits": "auto"}).manifests[0]
    pictures = _subset(whole, {index: label for label, index in enumerate(pairs)}, benchmark)
    pictures = replace(pictures, classes=tuple(names[index] for index in pairs))
    sounds_root = _inside(next((p for p in (root / "esc-50", root / "esc50") if p.is_dir()), root))
    clips = read_clips(need_file(benchmark, sounds_root, "meta/esc50.csv"))
    need_folder(benchmark, sounds_root, "audio")
    position = {name: label for label, name in enumerate(clips.categories)}
    absent = [name for name in pairs.values() if name not in position]
    if absent:
        raise InputError(f"{sounds_root / 'meta/esc50.csv'}: has no category {absent[0]!r}")
    code = {position[name]: label for label, name in enumerate(pairs.values())}
    sounds = _subset(_sounds(benchmark, sounds_root, clips, clips.categories), code, benchmark)
    wanted = _CLIPS * len(pairs)
    own = options["names"] == "own"
    sounds = replace(sounds, classes=tuple(pairs.values()) if own else pictures.classes)
    fold_of = dict(zip(clips.files, clips.folds.tolist(), strict=True))
    folds = np.array([fold_of[file] for file in sounds.ids])
    return Found(
        manifests=(pictures, sounds),
        counts=(0, 0, counts_of(pictures)[2]),
        differences=() if len(sounds) == wanted else (f"{len(sounds)} clips instead of {wanted}",),
        texts={
            **fold_files(sounds.ids, sounds.labels, folds, sounds.classes),
            f"{_MAPS}/audio-to-image.csv": class_map(list(pairs.values()), pictures.classes),
            f"{_MAPS}/image-to-audio.csv": class_map(pictures.classes, list(pairs.values())),
        },
    )


def read_pairs(name: str) -> dict[int, str]:
    """ImageNet class index → ESC-50 category of `imagenet_esc19` or `imagenet_esc27`."""
    from importlib.resources import files

    text = (files("uml_manifests.benchmarks") / "class_maps" / f"{name}.csv").read_text(encoding="utf-8")
    return {int(row["imagenet"]): row["esc50"] for row in csv.DictReader(io.StringIO(text))}


def read_clips(path: Path) -> Clips:
    """Read `esc50.csv` (columns filename, fold, target, category and others).

    Raises:
        InputError: a column is missing, or a fold or target cannot be.
    """
    table = csv.DictReader(io.StringIO(decode(path), newline=""))
    if not set(_COLUMNS) <= set(table.fieldnames or ()):
        raise InputError(f"{path}: has columns {table.fieldnames}; expected {', '.join(_COLUMNS)}")
    files: list[str] = []
    folds: list[int] = []
    labels: list[int] = []
    names: dict[int, str] = {}
    for row in table:
        try:
            fold, label = int(row["fold"]), int(row["target"])
        except (TypeError, ValueError):
            raise InputError(
                f"{path}, line {table.line_num}: fold and target must be whole numbers"
            ) from None
        if fold not in _FOLDS:
            raise InputError(f"{path}, line {table.line_num}: fold is {fold}; there are folds 1 to 5")
        if names.setdefault(label, row["category"]) != row["category"]:
            raise InputError(
                f"{path}, line {table.line_num}: target {label} is {row['category']!r}, but "
                f"{names[label]!r} before"
            )
        files.append(row["filename"])
        folds.append(fold)
        labels.append(label)
    if sorted(names) != list(range(len(names))) or not names:
        raise InputError(f"{path}: its targets are not 0 to {len(names) - 1} without gaps")
    categories = tuple(names[label] for label in range(len(names)))
    return Clips(files, np.array(folds), np.array(labels), categories)


def fold_splits(labels: np.ndarray, folds: np.ndarray, fold: int, shots: int) -> np.ndarray:
    """(N,) uint8 split codes of one fold, for integer labels (N,) and folds (N,): per class its first k clips
    train, its next k validate, the rest is unused; the other folds are the test set.

    Raises:
        InputError: a class has fewer than 2k clips in the fold.
    """
    splits = np.where(folds == fold, NO_SPLIT, SPLITS.index("test")).astype(np.uint8)
    for label in np.unique(labels):
        rows = np.flatnonzero((folds == fold) & (labels == label))
        if rows.size < 2 * shots:
            raise InputError(
                f"class {label} has {rows.size} clips in fold {fold}; {shots} to train and {shots} to "
                "validate are needed"
            )
        splits[rows[:shots]] = SPLITS.index("train")
        splits[rows[shots : 2 * shots]] = SPLITS.index("val")
    return splits


def fold_files(
    ids: Sequence[str], labels: np.ndarray, folds: np.ndarray, classes: Sequence[str]
) -> dict[str, str]:
    """`folds/foldF-kK.csv` (columns id, split) for every fold and k that the clips suffice for.

    Args:
        labels: (n,) int64, class numbers of the clips; folds: (n,) int64, 1 to 5.
    """
    files = {}
    for fold in _FOLDS:
        for shots in SHOTS:
            try:
                splits = fold_splits(labels, folds, fold, shots)
            except InputError:
                continue  # a partial copy of the data; the sizes have been found to differ
            names = [SPLITS[code] if code < len(SPLITS) else "" for code in splits.tolist()]
            lines = [f"{one},{name}" for one, name in zip(ids, names, strict=True)]
            files[f"folds/fold{fold}-k{shots}.csv"] = "\n".join(["id,split", *lines]) + "\n"
    return files


def class_map(auxiliary: Sequence[str], target: Sequence[str]) -> str:
    """A file for `uml train --class-map`."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["auxiliary", "target"])
    table.writerows(zip(auxiliary, target, strict=True))
    return text.getvalue()


def _inside(root: Path) -> Path:
    return root / "ESC-50-master" if (root / "ESC-50-master").is_dir() else root


def _sounds(benchmark: Benchmark, root: Path, clips: Clips, classes: tuple[str, ...]) -> Manifest:
    """All clips; folds 1 to 3 train, 4 validates, 5 tests, unless `--splits` says otherwise."""
    codes = np.array([0, 0, 0, 1, 2], dtype=np.uint8)
    return Manifest(
        name=benchmark.name,
        modality="audio",
        classes=classes,
        root=root / "audio",
        ids=clips.files,
        sources=clips.files,
        labels=clips.labels,
        splits=codes[clips.folds - 1],
        licence="CC BY-NC 3.0",
        source=benchmark.homepage,
        prompts=benchmark.prompts if benchmark.modalities == ("audio",) else (),
    )


def _subset(manifest: Manifest, code: Mapping[int, int], benchmark: Benchmark) -> Manifest:
    """The rows of some classes, renumbered: old label → new label."""
    labels = np.array([code.get(label, -1) for label in manifest.labels.tolist()])
    rows = np.flatnonzero(labels >= 0)
    if not rows.size:
        raise InputError(f"{manifest.root}: has no sample of the {len(code)} classes of {benchmark.name}")
    ids = [manifest.ids[row] for row in rows.tolist()]
    old = sorted(code, key=lambda label: code[label])
    return replace(
        manifest,
        name=benchmark.name,
        classes=tuple(manifest.classes[label] for label in old),
        ids=ids,
        sources=[manifest.sources[row] for row in rows.tolist()],
        labels=labels[rows],
        splits=manifest.splits[rows],
    )
