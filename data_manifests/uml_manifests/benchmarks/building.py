"""From a benchmark's folder to its manifests: found, checked against what was published, written."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from uml_cache import InputError, write_atomic
from uml_manifests.benchmarks.known import Benchmark, choose
from uml_manifests.benchmarks.layouts.csd import OPTIONS as CSD_OPTIONS
from uml_manifests.benchmarks.layouts.csd import csd
from uml_manifests.benchmarks.layouts.esc import esc50, imagenet_esc
from uml_manifests.benchmarks.layouts.found import Found, capped, describe_missing, missing_files
from uml_manifests.benchmarks.layouts.imagenet import imagenet, indexed, shift
from uml_manifests.benchmarks.layouts.listed import aircraft, coop
from uml_manifests.benchmarks.layouts.mimic import mimic
from uml_manifests.benchmarks.layouts.multibench import multibench
from uml_manifests.benchmarks.layouts.sequences import ARRAYS, write_arrays
from uml_manifests.manifest.files import write_manifest
from uml_manifests.manifest.manifest import SPLITS, Manifest

LAYOUTS: dict[str, Callable[[Benchmark, Path, Mapping[str, str]], Found]] = {
    "coop": coop,
    "aircraft": aircraft,
    "imagenet": imagenet,
    "imagenet-shift": shift,
    "imagenet-indexed": indexed,
    "esc50": esc50,
    "imagenet-esc": imagenet_esc,
    "multibench": multibench,
    "mimic": mimic,
}
_ON_DISK = ("image", "audio")


@dataclass(frozen=True)
class Built:
    """A data set's manifests, and how they differ from the published ones (empty: not at all).

    `differences` that could be told for sure make `build_benchmark` refuse, unless `partial`; `remarks` say
    what was done or could not be checked.
    """

    found: Found
    missing_files: int
    differences: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        """The manifests that were built."""
        return self.found.manifests

    @property
    def manifest(self) -> Manifest:
        """The only manifest, or the first."""
        return self.found.manifests[0]

    def write(self, folder: Path, *, flat: bool = False) -> list[tuple[Manifest, Path]]:
        """Write everything below `folder`, a subfolder a manifest; the manifests with their folders.

        Arrays and lists come first, manifests last. `flat`: the only manifest goes into `folder` itself.
        """
        if self.found.arrays:
            write_arrays(folder / ARRAYS, self.found.arrays, self.manifest.options)
        for name, text in self.found.texts.items():
            write_atomic(folder / name, text.encode())
        written = []
        for manifest in self.manifests:
            if manifest.modality == "array":
                manifest = replace(manifest, root=Path(os.path.abspath(folder)))
            own = folder if flat else folder / re.sub(r"[/\\:]", "_", manifest.store_name)
            written.append((manifest, write_manifest(manifest, own)))
        return written


def build_benchmark(
    benchmark: Benchmark, root: str | Path, *, options: Mapping[str, str] | None = None, partial: bool = False
) -> Built:
    """Build a benchmark's manifests from its folder and check them against the published sizes.

    Args:
        root: The folder that `benchmark.layout` describes (of processed data, also the file itself).
        options: Choices, see `Benchmark.options`; recorded in the manifests.
        partial: Take what there is: rows without their files are left out, and that is recorded.

    Raises:
        InputError: the root or a file in it is absent or malformed, not one sample is there, or, unless
            `partial`, the data differ from the published ones; the line says how.
    """
    root = Path(root)
    if benchmark.builder not in LAYOUTS:
        if benchmark.builder == "rendered":
            raise InputError(f"{benchmark.name} is rendered, not built; use it as --data {benchmark.name}")
        raise InputError(f"{benchmark.name} is {benchmark.homepage}; there is nothing to build")
    chosen = benchmark.choose(options or {})
    if not root.exists():
        raise InputError(f"{root}: no such folder; expected {benchmark.layout} (from {benchmark.homepage})")
    if root.is_file() and not benchmark.files:
        raise InputError(f"{root}: a file, where a folder is expected with {benchmark.layout}")
    found = LAYOUTS[benchmark.builder](benchmark, root, chosen)
    differences, remarks = list(found.differences), list(found.remarks)
    told = [*_classes(benchmark, found), *_counts(benchmark, found)]
    if benchmark.checked:
        differences += told
    else:
        remarks += [f"{line} (the published sizes could not be verified)" for line in told]
    manifests, missing = [], 0
    for manifest in found.manifests:
        absent = missing_files(manifest) if manifest.modality in _ON_DISK else []
        if len(absent) == len(manifest):
            raise InputError(
                f"{manifest.root}: none of the {len(absent)} {manifest.modality} files is there (first: "
                f"{absent[0]}); expected in --root: {benchmark.layout}"
            )
        differences += describe_missing(manifest, absent)
        missing += len(absent)
        manifests.append(_without(manifest, set(absent)))
    if differences and not partial:
        raise InputError(
            f"{root}: differs from the published {benchmark.name}: {'; '.join(differences)}. Fix that, or "
            "take what is there with --partial"
        )
    recorded = [f"{key}={value}" for key, value in {**chosen, **found.options}.items() if value]
    if differences:
        recorded.append("partial=yes")
    manifests = [replace(manifest, options=tuple(recorded)) for manifest in manifests]
    found = replace(found, manifests=tuple(manifests))
    return Built(found, missing, tuple(differences), tuple(remarks))


def build_csd(name: str, root: str | Path, options: Mapping[str, str]) -> Built:
    """Manifests of `.csd` files that belong to no benchmark; see `uml_manifests.benchmarks.layouts.csd`."""
    chosen = choose(name, CSD_OPTIONS, options)
    found = csd(name, Path(root), chosen)
    recorded = tuple(f"{key}={value}" for key, value in chosen.items() if value)
    manifests = tuple(replace(manifest, options=recorded) for manifest in found.manifests)
    return Built(replace(found, manifests=manifests), 0, (), found.remarks)


def _classes(benchmark: Benchmark, found: Found) -> list[str]:
    lines = []
    for manifest in found.manifests[:1]:
        classes = len(manifest.classes)
        known = found.classes or benchmark.classes
        if classes != known:
            lines.append(f"{classes} classes instead of {known}")
        missing = manifest.missing_classes
        expected = benchmark.expected_classes or known
        if classes == known and classes - len(missing) != expected:
            lines.append(
                f"{classes - len(missing)} classes have samples instead of {expected}; without any: "
                f"{capped(missing)}"
            )
    return lines


def _counts(benchmark: Benchmark, found: Found) -> list[str]:
    """Sizes that differ; a published size of 0 is not compared."""
    if found.counts is None:
        return []
    return [
        f"{got} {part} samples instead of {expected}"
        for part, expected, got in zip(SPLITS, benchmark.sizes, found.counts, strict=True)
        if expected and got != expected
    ]


def _without(manifest: Manifest, absent: set[str]) -> Manifest:
    """The manifest without the rows of these sources."""
    if not absent:
        return manifest
    rows = [row for row, source in enumerate(manifest.sources) if source not in absent]
    index = np.array(rows)
    return replace(
        manifest,
        ids=[manifest.ids[row] for row in rows],
        sources=[manifest.sources[row] for row in rows],
        labels=manifest.labels[index],
        splits=manifest.splits[index],
        groups=None if manifest.groups is None else [manifest.groups[row] for row in rows],
    )
