"""What a layout hands back, and what all layouts check: folders that are absent, archives left packed.

Shapes: N samples, V steps of all samples, D features.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from uml_cache import InputError
from uml_manifests.benchmarks.known import Benchmark
from uml_manifests.manifest.manifest import Manifest

_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")
_SHOWN = 3


@dataclass(frozen=True, eq=False)
class Sequences:
    """Arrays of different length, one a sample, one after the other: `values` (V, D), `lengths` (N,)."""

    values: np.ndarray
    lengths: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """What lies in a data set's folder.

    `counts` are the samples in train, val and test as the files have them, None where nothing is published to
    compare them with; `classes` is how many there should be, where that depends on the options. `arrays` (by
    name) and `texts` (by relative path) are files to be written beside the manifests. `remarks` are for the
    person who builds it, `differences` speak against taking it for the published data set. `options` are
    what a choice such as `auto` came to.
    """

    manifests: tuple[Manifest, ...]
    counts: tuple[int, int, int] | None
    classes: int | None = None
    differences: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    arrays: Mapping[str, Sequences] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)


def counts_of(manifest: Manifest) -> tuple[int, int, int]:
    """Samples in train, val and test."""
    train, val, test = (int(np.count_nonzero(manifest.splits == code)) for code in range(3))
    return train, val, test


def need_folder(benchmark: Benchmark, root: Path, name: str) -> Path:
    """`root/name`, or an error that says what is there instead.

    Raises:
        InputError: the folder is not there.
    """
    folder = root / name
    if folder.is_dir() and _visible(folder):
        return folder
    raise InputError(f"{folder}: {_absence(folder)}; expected in --root: {benchmark.layout}")


def need_file(benchmark: Benchmark, root: Path, *names: str) -> Path:
    """The first of these files below `root` that is there, or an error that says what is there instead.

    Raises:
        InputError: none of the files is there.
    """
    for name in names:
        if (root / name).is_file():
            return root / name
    inside = [sub for sub in _folders(root) if any((sub / name).is_file() for name in names)]
    if inside:
        raise InputError(f"{root / names[0]}: no such file, but it is in {inside[0]}; give that as --root")
    other = f" (nor {', '.join(names[1:])})" if names[1:] else ""
    raise InputError(
        f"{root / names[0]}: no such file{other}; expected in --root: {benchmark.layout}; "
        f"`uml data show {benchmark.name}` says where to get it"
    )


def missing_files(manifest: Manifest) -> list[str]:
    """Sources whose file is not there, or is empty, in manifest order; each folder is listed once."""
    by_folder: dict[str, list[str]] = defaultdict(list)
    for source in manifest.sources:
        by_folder[os.path.dirname(source)].append(source)
    absent: set[str] = set()
    for folder, sources in by_folder.items():
        try:
            with os.scandir(manifest.root / folder) as entries:
                there = {entry.name for entry in entries if _has_content(entry)}
        except (FileNotFoundError, NotADirectoryError):
            there = set()
        absent.update(source for source in sources if os.path.basename(source) not in there)
    return [source for source in manifest.sources if source in absent]


def describe_missing(manifest: Manifest, missing: Sequence[str]) -> list[str]:
    """Lines about missing files: how many of how many, and the folders that miss most."""
    if not missing:
        return []
    lines = [f"{len(missing)} of {len(manifest)} files are missing or empty, for example {missing[0]}"]
    total = Counter(os.path.dirname(source) for source in manifest.sources)
    lost = Counter(os.path.dirname(source) for source in missing)
    if len(total) > 1:
        worst = [f"{folder} ({n} of {total[folder]})" for folder, n in lost.most_common(_SHOWN)]
        lines.append(f"files are missing in {len(lost)} of {len(total)} folders: {capped(worst, len(lost))}")
    return lines


def capped(names: Iterable[str], total: int | None = None) -> str:
    """The first few names, and how many there are in all."""
    names = list(names)
    total = len(names) if total is None else total
    shown = ", ".join(names[:_SHOWN])
    return shown if total <= _SHOWN else f"{shown}, … {total} in all"


def _has_content(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.stat().st_size > 0
    except OSError:  # a link to nothing
        return False


def _visible(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if not entry.name.startswith(".")]


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return [root / name for name in sorted(_visible(root)) if (root / name).is_dir()]


def _absence(folder: Path) -> str:
    """Why a folder cannot be used, and what may be wrong."""
    if folder.is_dir():
        return "the folder is empty"
    if folder.exists():
        return "not a folder"
    if folder.is_symlink():
        return f"a link to {os.readlink(folder)}, which does not exist"
    parent = folder.parent
    if not parent.is_dir():
        return "no such folder"
    packed = [name for name in sorted(_visible(parent)) if name.lower().endswith(_ARCHIVES)]
    if packed:
        return f"no such folder; {capped(packed)} {'is' if len(packed) == 1 else 'are'} there, not unpacked"
    inside = [sub for sub in _folders(parent) if (sub / folder.name).is_dir()]
    if inside:
        return f"no such folder, but it is in {inside[0]}; give that as --root"
    found = capped(sorted(_visible(parent)))
    return f"no such folder; {parent} holds {found or 'nothing'}"
