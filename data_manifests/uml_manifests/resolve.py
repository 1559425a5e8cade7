"""`--data`: from what a person typed to a manifest."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from uml_cache import Choice, InputError, as_path, is_remote
from uml_manifests.benchmarks.known import list_benchmarks
from uml_manifests.manifest.files import HEADER, load_manifest
from uml_manifests.manifest.manifest import MODALITIES, Manifest
from uml_manifests.shapes.render import NAME as SHAPES
from uml_manifests.shapes.render import render_shapes
from uml_manifests.sources.builders import from_csv, from_lines
from uml_manifests.sources.folders import from_folder
from uml_manifests.sources.parquet import from_parquet, parquet_files
from uml_manifests.sources.records import (
    ARRAYS,
    from_arrays,
    from_jsonl,
    from_saved_dataset,
    is_saved_dataset,
)
from uml_manifests.sources.remote import from_bucket
from uml_manifests.sources.tars import from_tars, tar_files

DATA = Path("data")


def resolve_data(
    data: str | Path,
    *,
    name: str | None = None,
    set: str | None = None,
    root: str | Path | None = None,
    modality: str | None = None,
    choice: Choice | None = None,
) -> Manifest:
    """The manifest that `data` means.

    Args:
        data: A manifest folder (or its `dataset.toml`), a folder of manifest folders such as `data/shapes`,
            a folder of class folders, a CSV, TSV, JSONL or parquet file, a folder of
            parquet files, a .txt file of unlabelled texts (one a line), a
            WebDataset tar or a folder of them, a data set that Hugging Face `datasets` saved, an array file
            (.npy, .npz, HDF5), a URL of object storage (`s3://BUCKET/FOLDER`, `gs://`, `az://`) with class
            folders of pictures or sounds, or a name: of a data set built under `./data`,
            or `shapes`, which is rendered there when it is absent.
        name: The data set's name where `data` has none (folders and files are named after themselves).
        set: Which set of the modality, for example `vanilla` texts.
        root: Where relative paths start from, instead of the manifest's root or the CSV's folder.
        modality: `image`, `text` or `audio`, needed where there are several.
        choice: The columns of a table, where its names leave them open (see `uml_cache.tables`).

    Raises:
        InputError: nothing there, nothing usable there, several that fit, or another modality than asked.
    """
    path = as_path(data)
    place: Any = path
    if is_remote(path):
        if root is not None or choice not in (None, Choice()):
            raise InputError(f"{data}: --root and options for columns do not apply to object storage")
        manifest: Manifest = from_bucket(place, name=name, set=set, modality=modality)
    elif path.exists():
        manifest = _from_path(path, name, set, root, modality, choice or Choice())
    else:
        path = _known_folder(str(data), set, modality)
        manifest = load_manifest(path)
    if modality is not None and manifest.modality != modality:
        raise InputError(f"{data}: holds {manifest.modality}, but {modality} is wanted")
    if set is not None and manifest.set is None:
        manifest = replace(manifest, set=set)
    for option, wanted, own in (("name", name, manifest.name), ("set", set, manifest.set)):
        if wanted is not None and wanted != own:
            raise InputError(
                f"{data}: its manifest says {option} {own!r}, not {wanted!r}; leave --{option} out"
            )
    origin = {
        "data": str(path) if is_remote(path) else os.path.abspath(path),
        "name": name,
        "set": set,
        "root": None if root is None else os.path.abspath(root),
        "modality": modality,
        "choice": None if choice is None else {k: v for k, v in asdict(choice).items() if v is not None},
    }
    manifest = replace(manifest, origin={key: value for key, value in origin.items() if value})
    return manifest if root is None else replace(manifest, root=Path(root))


def resolve_origin(origin: Mapping[str, Any]) -> Manifest:
    """The manifest that `resolve_data` found before, by what it said of its origin.

    Raises:
        InputError: nothing is there any more, or what is there cannot be read.
    """
    given = dict(origin)
    choice = Choice(**given.pop("choice", {}))
    return resolve_data(given.pop("data"), choice=choice, **given)


def shapes_data(root: str | Path = DATA / SHAPES) -> dict[str, Manifest]:
    """The demo's manifests (`image`, `text`, `audio`), rendered into `root` if they are not there yet."""
    return {
        modality: replace(manifest, origin={"data": os.path.abspath(Path(root) / modality)})
        for modality, manifest in render_shapes(root).items()
    }


def manifest_folders(folder: Path) -> dict[str, Path]:
    """`<modality>[.<set>]` → folder, for every complete manifest directly inside a folder."""
    if not folder.is_dir():
        return {}
    found = {
        entry.name: Path(entry.path)
        for entry in os.scandir(folder)
        if entry.name.split(".")[0] in MODALITIES and os.path.isfile(os.path.join(entry.path, HEADER))
    }
    return dict(sorted(found.items(), key=lambda item: (MODALITIES.index(item[0].split(".")[0]), item[0])))


def built_names() -> list[str]:
    """Names of the data sets that have a manifest under `./data`."""
    if not DATA.is_dir():
        return []
    return sorted(entry.name for entry in os.scandir(DATA) if manifest_folders(Path(entry.path)))


def _from_path(
    path: Path,
    name: str | None,
    set: str | None,
    root: str | Path | None,
    modality: str | None,
    choice: Choice,
) -> Manifest:
    table = (
        path.suffix.lower() in (".csv", ".tsv", ".jsonl", ".ndjson", ".tar", ".parquet", *ARRAYS)
        if path.is_file()
        else (is_saved_dataset(path) or bool(tar_files(path) or parquet_files(path)))
    )
    if choice != Choice() and not table:
        raise InputError(f"{path}: is no table, so --label-column and other options for columns do not apply")
    if path.is_file():
        suffix = path.suffix.lower()
        if suffix == ".toml":
            return load_manifest(path)
        if suffix in (".csv", ".tsv"):
            return from_csv(path, name=name, set=set, root=root, modality=modality, choice=choice)
        if suffix == ".txt":
            return from_lines(path, name=name, set=set)
        if suffix in (".jsonl", ".ndjson"):
            return from_jsonl(path, name=name, set=set, root=root, modality=modality, choice=choice)
        if suffix == ".parquet":
            return from_parquet(path, name=name, set=set, root=root, modality=modality, choice=choice)
        if suffix == ".tar":
            return from_tars(path, name=name, set=set, modality=modality, choice=choice)
        if suffix in ARRAYS:
            return from_arrays(path, name=name, set=set, choice=choice)
        raise InputError(
            f"{path}: expected a folder, a .csv, .tsv, .jsonl, .parquet or .tar file, a .txt file of texts, "
            f"arrays ({', '.join(ARRAYS)}), or a dataset.toml"
        )
    if (path / HEADER).is_file():
        return load_manifest(path)
    inside = manifest_folders(path)
    if inside:
        return load_manifest(_choose(str(path), inside, set, modality))
    if is_saved_dataset(path):
        return from_saved_dataset(path, name=name, set=set, modality=modality, choice=choice)
    if tar_files(path):
        return from_tars(path, name=name, set=set, modality=modality, choice=choice)
    if parquet_files(path):
        return from_parquet(path, name=name, set=set, root=root, modality=modality, choice=choice)
    if modality == "text":
        raise InputError(f"{path}: a folder holds images or sounds; give texts as a CSV (id,text,label)")
    return from_folder(path, name=name, set=set, modality=modality)


def _known_folder(data: str, set: str | None, modality: str | None) -> Path:
    if (
        "/" in data
        or os.sep in data
        or Path(data).suffix.lower()
        in (
            ".csv",
            ".tsv",
            ".txt",
            ".toml",
            ".jsonl",
            ".parquet",
        )
    ):
        raise InputError(f"{data}: no such file or folder")
    if data == SHAPES:
        shapes_data()
    inside = manifest_folders(DATA / data)
    if inside:
        return _choose(data, inside, set, modality)
    benchmarks = {benchmark.name: benchmark for benchmark in list_benchmarks()}
    if data in benchmarks and benchmarks[data].builder == "drawn":
        raise InputError(f"data set {data!r} is {benchmarks[data].homepage}; it has no samples on disk")
    if data in benchmarks:
        raise InputError(
            f"data set {data!r} is known but not in {DATA / data}; get it from {benchmarks[data].homepage} "
            f"and run `uml data build {data} --root DIR`"
        )
    usable = sorted({SHAPES, *built_names()})
    close = get_close_matches(data, {*usable, *benchmarks}, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(close)}?" if close else f"names here: {', '.join(usable)}"
    raise InputError(
        f"no folder, file or data set {data!r}; {hint} (or give a folder of class folders or a CSV; "
        f"`uml data build {data} --root PATH` gives one this name)"
    )


def _choose(data: str, inside: dict[str, Path], set: str | None, modality: str | None) -> Path:
    fits = {
        store_name: folder
        for store_name, folder in inside.items()
        if modality in (None, store_name.split(".", 1)[0])
        and set in (None, store_name.split(".", 1)[1] if "." in store_name else None)
    }
    if not fits:
        wanted = ".".join(part for part in (modality, set) if part)
        raise InputError(f"{data}: has no {wanted}; there are {', '.join(inside)}")
    if len(fits) == 1:
        return next(iter(fits.values()))
    plain = fits.get(modality or "")
    if plain is not None and set is None:
        return plain
    where = data if "/" in data or Path(data).is_dir() else DATA / data
    raise InputError(f"{data}: several fit: {', '.join(fits)}; name one as {where}/NAME")
