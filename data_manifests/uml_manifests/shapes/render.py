"""Renders the shapes world as real PNG, WAV and text files with manifests."""

from __future__ import annotations

import os
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np

from uml_cache import InputError, flush_below, scratch_folder, sync_folder
from uml_manifests.benchmarks.known import get_benchmark
from uml_manifests.manifest.files import HEADER, load_manifest, write_manifest
from uml_manifests.manifest.manifest import NO_SPLIT, Manifest
from uml_manifests.shapes.pictures import draw_picture
from uml_manifests.shapes.sentences import write_sentence
from uml_manifests.shapes.sounds import RATE, make_sound
from uml_manifests.shapes.world import KINDS, Kind, generator

NAME = "shapes"
SHAPES_MODALITIES = ("image", "text", "audio")


def render_shapes(
    out: str | Path, *, seed: int = 0, train: int = 16, val: int = 4, test: int = 18, texts: int = 24
) -> dict[str, Manifest]:
    """Render the demo's data set into `out/image`, `out/text` and `out/audio`.

    Pictures and sounds have `train`, `val` and `test` samples per class, texts have `texts` and no splits. No
    sample of one modality corresponds to one of another. The same arguments give the same bytes. A complete
    rendering that is already there is used as it is, whatever its sizes; an interrupted one never looks
    complete, because everything is written beside `out` and renamed.

    Returns:
        The manifests under `image`, `text` and `audio`.

    Raises:
        InputError: a count below 1, a negative seed, or `out` holds something else.
    """
    out = Path(os.path.abspath(out))
    if min(train, val, test, texts) < 1:
        raise InputError("every split and the texts need at least 1 sample per class")
    if seed < 0:
        raise InputError(f"seed must not be negative, got {seed}")
    if not is_rendered(out):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"{out}: holds other files than rendered shapes; choose another folder")
        with scratch_folder(out.parent) as place:
            unfinished = place / out.name
            _render_all(unfinished, seed, (train, val, test), texts)
            flush_below(unfinished)
            try:
                unfinished.rename(out)
            except OSError:
                if not is_rendered(out):  # else another process was faster, with the same bytes
                    raise
        sync_folder(out.parent)
    return {modality: load_manifest(out / modality) for modality in SHAPES_MODALITIES}


def is_rendered(out: Path) -> bool:
    """Whether a folder holds a complete rendering."""
    return all((out / modality / HEADER).is_file() for modality in SHAPES_MODALITIES)


def _render_all(folder: Path, seed: int, counts: tuple[int, int, int], texts: int) -> None:
    names = tuple(kind.name for kind in KINDS)
    splits = np.repeat(np.arange(3, dtype=np.uint8), counts)
    media: tuple[tuple[str, str, Callable[[Path, Kind, np.random.Generator], None]], ...] = (
        ("image", "png", _save_picture),
        ("audio", "wav", _save_sound),
    )
    for modality, extension, save in media:
        sources = []
        for label, kind in enumerate(KINDS):
            (folder / modality / kind.name).mkdir(parents=True)
            for number in range(len(splits)):
                source = f"{kind.name}/{number:03d}.{extension}"
                save(folder / modality / source, kind, generator(seed, modality, label, number))
                sources.append(source)
        labels = np.repeat(np.arange(len(KINDS)), len(splits))
        _write(folder, modality, names, sources, sources, labels, np.tile(splits, len(KINDS)), seed)
    sentences = [text for label in range(len(KINDS)) for text in _sentences(seed, label, texts)]
    ids = [f"{label}-{number}" for label in range(len(KINDS)) for number in range(texts)]
    labels = np.repeat(np.arange(len(KINDS)), texts)
    _write(folder, "text", names, ids, sentences, labels, np.full(len(ids), NO_SPLIT), seed)


def _write(
    folder: Path,
    modality: str,
    classes: tuple[str, ...],
    ids: list[str],
    sources: list[str],
    labels: np.ndarray,
    splits: np.ndarray,
    seed: int,
) -> None:
    known = get_benchmark(NAME)
    manifest = Manifest(
        name=NAME,
        modality=modality,
        classes=classes,
        root=folder / modality,
        ids=ids,
        sources=sources,
        labels=labels,
        splits=splits,
        licence=known.licence,
        source=f"rendered by uml, seed {seed}",
        prompts=known.prompts,
    )
    write_manifest(manifest, folder / modality)


def _save_picture(path: Path, kind: Kind, rng: np.random.Generator) -> None:
    draw_picture(kind, rng).save(path, compress_level=1)


def _save_sound(path: Path, kind: Kind, rng: np.random.Generator) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(make_sound(kind, rng).astype("<i2").tobytes())


def _sentences(seed: int, label: int, count: int) -> list[str]:
    """`count` sentences about a class, no two alike while there are enough ways to say it."""
    rng = generator(seed, "text", label, 0)
    found: dict[str, None] = {}
    for _ in range(20 * count):
        found.setdefault(write_sentence(KINDS[label], rng))
        if len(found) == count:
            return list(found)
    raise InputError(f"there are not {count} different sentences about a class; ask for fewer texts")
