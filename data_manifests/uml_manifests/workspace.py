"""What `uml data` does: manifests, texts and draws kept under `./data/NAME/<modality>[.<set>]`."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache.errors import InputError, unknown
from uml_manifests.builders import from_csv, from_folder
from uml_manifests.draws import FewShotDraw, few_shot, stratified_split, write_index
from uml_manifests.files import HEADER, load_manifest, write_manifest
from uml_manifests.known import build_benchmark, get_benchmark, list_benchmarks, missing_files
from uml_manifests.manifest import NO_SPLIT, Manifest
from uml_manifests.prompts import (
    description_manifest,
    match_descriptions,
    read_descriptions,
    template_manifest,
)
from uml_manifests.resolve import DATA, built_names, manifest_folders, resolve_data


@dataclass(frozen=True)
class BuiltData:
    """A written manifest, and how the files differ from what it (or the benchmark) promises."""

    manifest: Manifest
    folder: Path
    missing_files: int
    differences: tuple[str, ...]


@dataclass(frozen=True)
class BuiltTexts:
    """A written text manifest, and the description keys that fitted no class."""

    manifest: Manifest
    folder: Path
    unused_keys: tuple[str, ...]


@dataclass(frozen=True)
class BuiltDraw:
    """A written few-shot draw; `made_splits` where the manifest had none of its own."""

    manifest: Manifest
    draw: FewShotDraw
    path: Path
    made_splits: bool


def data_folder(manifest: Manifest) -> Path:
    """`data/NAME/<modality>[.<set>]`, with `_` for what a folder name should not hold."""
    return DATA / re.sub(r"[/\\:]", "_", manifest.name) / re.sub(r"[/\\:]", "_", manifest.store_name)


def build_data(
    name: str, root: str | Path, *, out: str | Path | None = None, modality: str | None = None
) -> BuiltData:
    """Write the manifest of a benchmark, a folder of class folders or a CSV file.

    Raises:
        InputError: see `build_benchmark`, `from_folder` and `from_csv`; or not one of the files is there.
    """
    root = Path(root)
    if name in {benchmark.name for benchmark in list_benchmarks()}:
        built = build_benchmark(get_benchmark(name), root)
        manifest, missing, differences = built.manifest, built.missing_files, built.differences
    elif root.suffix.lower() == ".csv":
        manifest = from_csv(root, name=name, modality=modality)
        absent = [] if manifest.modality == "text" else missing_files(manifest)
        missing = len(absent)
        if missing == len(manifest):
            raise InputError(
                f"{root}: none of its {missing} files is in {manifest.root} (first: {absent[0]})"
            )
        differences = (f"{missing} files are missing, for example {absent[0]}",) if absent else ()
    else:
        manifest, missing = from_folder(root, name=name, modality=modality), 0
        empty = manifest.missing_classes
        differences = (f"class folders without files: {', '.join(empty)}",) if empty else ()
    folder = write_manifest(manifest, data_folder(manifest) if out is None else Path(out))
    return BuiltData(manifest, folder, missing, differences)


def build_texts(
    name: str,
    templates: str | None,
    descriptions: str | Path | None,
    *,
    set: str | None = None,
    out: str | Path | None = None,
    modality: str | None = None,
) -> BuiltTexts:
    """Write the texts about a data set's classes, from a template set or from a description file.

    Raises:
        InputError: neither or both of templates and descriptions, or what their functions raise.
    """
    if (templates is None) == (descriptions is None):
        raise InputError("give either --templates vanilla|classname|handwritten or --descriptions FILE")
    source = _named(name, modality)
    unused: list[str] = []
    if templates is not None:
        manifest = template_manifest(source, templates, set=set)
    else:
        found = read_descriptions(Path(str(descriptions)))
        manifest = description_manifest(source, found, set=set or "descriptions")
        manifest = replace(manifest, source=f"descriptions {Path(str(descriptions)).name}")
        unused = match_descriptions(source.classes, list(found))[1]
    folder = write_manifest(manifest, data_folder(manifest) if out is None else Path(out))
    return BuiltTexts(manifest, folder, tuple(unused))


def build_draw(
    name: str, shots: int, seed: int, *, out: str | Path | None = None, modality: str | None = None
) -> BuiltDraw:
    """Draw and write a few-shot index; data without splits gets a stratified 60/20/20 with the same seed.

    Raises:
        InputError: see `few_shot`.
    """
    manifest = _named(name, modality)
    made_splits = bool(np.all(manifest.splits == NO_SPLIT))
    if made_splits:
        manifest = replace(manifest, splits=stratified_split(manifest.labels, manifest.groups, seed))
    draw = few_shot(manifest.labels, manifest.splits, shots=shots, seed=seed, classes=manifest.classes)
    known = {benchmark.name: benchmark for benchmark in list_benchmarks()}.get(manifest.name)
    prefix = f"./data/{manifest.name}" + (f"/{known.images}" if known and known.images else "")
    own = Path(name) if (Path(name) / HEADER).is_file() else data_folder(manifest)
    path = own / "draws" / f"shot_{shots}-seed_{seed}.json" if out is None else Path(out)
    return BuiltDraw(manifest, draw, write_index(path, manifest, draw, prefix=prefix), made_splits)


def list_data() -> tuple[list[dict[str, Any]], str]:
    """Known and built data sets: as JSON-ready rows, and as a text table."""
    rows: list[dict[str, Any]] = []
    here = {name: list(manifest_folders(DATA / name)) for name in built_names()}
    for benchmark in list_benchmarks():
        rows.append(
            {
                "name": benchmark.name,
                "title": benchmark.title,
                "classes": benchmark.classes,
                "sizes": list(benchmark.sizes),
                "licence": benchmark.licence,
                "built": here.pop(benchmark.name, []),
            }
        )
    for name, built in here.items():
        rows.append(
            {"name": name, "title": None, "classes": None, "sizes": None, "licence": None, "built": built}
        )
    lines = [f"{'name':<16}{'classes':>8}{'train/val/test':>20}  in ./data"]
    for row in rows:
        shown = "/".join(map(str, row["sizes"])) if row["sizes"] else ""
        there = ", ".join(row["built"]) or "-"
        lines.append(f"{row['name']:<16}{row['classes'] or '':>8}{shown:>20}  {there}")
    return rows, "\n".join(lines)


def show_data(name: str) -> tuple[dict[str, Any], str]:
    """One data set: what is known of it, and every manifest of it under ./data (or in the folder named)."""
    known = {benchmark.name: benchmark for benchmark in list_benchmarks()}
    path = Path(name)
    if (path / HEADER).is_file() or path.suffix == ".toml":
        folders = {str(path): path}
    else:
        folders = manifest_folders(path) or manifest_folders(DATA / name)
    if name not in known and not folders:
        raise unknown("data set", name, {*known, *built_names()})
    value: dict[str, Any] = {"name": name}
    if name in known:
        value |= {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(known[name]).items()}
    value["manifests"] = [_described(folder) for folder in folders.values()]
    lines = []
    for key, item in value.items():
        if key != "manifests" and item is not None:
            lines.append(f"{key + ':':<12}{' | '.join(map(str, item)) if isinstance(item, list) else item}")
    for row in value["manifests"]:
        splits = ", ".join(f"{count} {part}" for part, count in row["splits"].items())
        lines.append(
            f"{row['path']}: {row['modality']}, {row['samples']} samples, {row['classes']} classes ({splits})"
        )
        if row["missing_classes"]:
            lines.append(f"  classes without samples: {', '.join(row['missing_classes'])}")
    return value, "\n".join(lines)


def _named(name: str, modality: str | None) -> Manifest:
    """A data set by name or folder; of several modalities the first (pictures, then texts, then sounds)."""
    inside = manifest_folders(Path(name)) or manifest_folders(DATA / name)
    if modality is None and inside and not (Path(name) / HEADER).is_file():
        return load_manifest(next(iter(inside.values())))
    return resolve_data(name, modality=modality or ("image" if name == "shapes" else None))


def _described(folder: Path) -> dict[str, Any]:
    manifest = load_manifest(folder)
    return {
        "path": str(folder),
        "name": manifest.name,
        "modality": manifest.modality,
        "set": manifest.set,
        "samples": len(manifest),
        "classes": len(manifest.classes),
        "splits": manifest.split_counts,
        "missing_classes": list(manifest.missing_classes),
        "licence": manifest.licence,
        "root": str(manifest.root),
        "digest": manifest.digest,
    }
