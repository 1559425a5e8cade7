"""The benchmarks the package knows: one TOML file each in `benchmarks/`, and how to build their manifests."""

from __future__ import annotations

import os
import tomllib
from collections import defaultdict
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from uml_cache.errors import InputError, unknown
from uml_manifests.builders import from_coop
from uml_manifests.manifest import SPLITS, Manifest


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A public data set: its size, terms, where to get it and how its folder is expected to look.

    Args:
        sizes: Samples in train, val and test.
        homepage: Where the files come from.
        layout: What the folder given as `--root` holds.
        images: Folder below it that the split file's paths start from; None for data that is rendered.
        split_file: The CoOp split file in it; None for data that is rendered.
        prompts: Sentences with `{}` for the `handwritten` texts.
    """

    name: str
    title: str
    modalities: tuple[str, ...]
    classes: int
    sizes: tuple[int, int, int]
    licence: str
    homepage: str
    layout: str
    images: str | None = None
    split_file: str | None = None
    prompts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Built:
    """A benchmark's manifest and how it differs from the published one (empty: not at all)."""

    manifest: Manifest
    missing_files: int
    differences: tuple[str, ...]


@cache
def list_benchmarks() -> tuple[Benchmark, ...]:
    """All known benchmarks, sorted by name."""
    folder = files("uml_manifests") / "benchmarks"
    entries = [entry for entry in folder.iterdir() if entry.name.endswith(".toml")]
    return tuple(sorted((_read(entry) for entry in entries), key=lambda benchmark: benchmark.name))


def get_benchmark(name: str) -> Benchmark:
    """The benchmark of this name; an unknown name is answered with the closest ones."""
    known = {benchmark.name: benchmark for benchmark in list_benchmarks()}
    if name not in known:
        raise unknown("data set", name, known)
    return known[name]


def build_benchmark(benchmark: Benchmark, root: str | Path) -> Built:
    """Build a benchmark's manifest from its split file and check it against the published sizes.

    Raises:
        InputError: the root or the split file is absent or malformed, or not one image is there.
    """
    root = Path(root)
    if benchmark.split_file is None or benchmark.images is None:
        raise InputError(f"{benchmark.name} is rendered, not built; use it as --data {benchmark.name}")
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected {benchmark.layout} (from {benchmark.homepage})")
    split_file = root / benchmark.split_file
    if not split_file.is_file():
        raise InputError(f"{split_file}: no such file; expected in --root: {benchmark.layout}")
    manifest = from_coop(
        split_file,
        root / benchmark.images,
        benchmark.name,
        licence=benchmark.licence,
        source=benchmark.homepage,
        prompts=benchmark.prompts,
    )
    differences = []
    if len(manifest.classes) != benchmark.classes:
        differences.append(f"{len(manifest.classes)} classes instead of {benchmark.classes}")
    for part, expected in zip(SPLITS, benchmark.sizes, strict=True):
        got = manifest.split_counts.get(part, 0)
        if got != expected:
            differences.append(f"{got} {part} samples instead of {expected}")
    missing = missing_files(manifest)
    if len(missing) == len(manifest):
        raise InputError(
            f"{manifest.root}: none of the {len(manifest)} images is there (first: {missing[0]}); "
            f"expected in --root: {benchmark.layout}"
        )
    if missing:
        differences.append(f"{len(missing)} of {len(manifest)} images missing, for example {missing[0]}")
    return Built(manifest, len(missing), tuple(differences))


def missing_files(manifest: Manifest) -> list[str]:
    """Sources whose file is not there, in manifest order; each folder is listed once."""
    by_folder: dict[str, list[str]] = defaultdict(list)
    for source in manifest.sources:
        by_folder[os.path.dirname(source)].append(source)
    absent: set[str] = set()
    for folder, sources in by_folder.items():
        try:
            there = set(os.listdir(manifest.root / folder))
        except (FileNotFoundError, NotADirectoryError):
            there = set()
        absent.update(source for source in sources if os.path.basename(source) not in there)
    return [source for source in manifest.sources if source in absent]


def _read(entry: Any) -> Benchmark:
    values = tomllib.loads(entry.read_text(encoding="utf-8"))
    for field in fields(Benchmark):
        if isinstance(values.get(field.name), list):
            values[field.name] = tuple(values[field.name])
    return Benchmark(**values)
