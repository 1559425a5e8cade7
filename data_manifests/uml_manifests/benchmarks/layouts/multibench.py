"""MultiBench's affect pickles: MOSI, MOSEI, MUStARD (`sarcasm`), UR-FUNNY (`humor`).

`{train, valid, test} → {vision, audio, text: (N, T, D), labels: (N, …), id}`. Sequences stand at the end of
their T steps, zeros before them. What their usual loaders do to them are options here, and recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache import InputError, unique_ids
from uml_manifests.benchmarks.known import Benchmark
from uml_manifests.benchmarks.layouts.csd import csd, csd_files
from uml_manifests.benchmarks.layouts.found import Found, need_file
from uml_manifests.benchmarks.layouts.sequences import (
    Sequences,
    array_manifest,
    classes_of_scores,
    pack,
    scaled,
)
from uml_manifests.manifest.manifest import Manifest
from uml_manifests.sources.pickles import read_pickle

MODALITIES = ("vision", "audio", "text")
_PARTS = ("train", "valid", "test")


@dataclass(frozen=True, eq=False)
class _Part:
    """One split: per modality (N, T, D) float32, scores (N,), ids."""

    arrays: dict[str, np.ndarray]
    scores: np.ndarray
    ids: list[str]


def multibench(benchmark: Benchmark, root: Path, options: Mapping[str, str]) -> Found:
    """A pickle, read without running anything in it; or, where there is none, the SDK's `.csd` files.

    Raises:
        InputError: no sample is left.
    """
    if root.is_dir() and not any((root / name).is_file() for name in benchmark.files) and csd_files(root):
        return csd(
            benchmark.name,
            root,
            {"neutral": options["neutral"], "nonfinite": options["nonfinite"], "labels": ""},
        )
    path = root if root.is_file() else need_file(benchmark, root, *benchmark.files)
    parts = _read(path)
    counts = tuple(len(part.ids) for part in parts)
    remarks: list[str] = []
    arrays: dict[str, list[np.ndarray]] = {name: [] for name in MODALITIES}
    scores: list[float] = []
    ids: list[str] = []
    splits: list[int] = []
    empty = cleaned = 0
    for code, part in enumerate(parts):
        if options["nonfinite"] == "zero":
            cleaned += _clean(part.arrays)
        present = (part.arrays["text"] != 0).any(axis=2)
        for row in range(len(part.ids)):
            if not present[row].any():
                empty += 1
                if options["empty"] == "drop":
                    continue
            for name in MODALITIES:
                arrays[name].append(_trimmed(part.arrays, name, row, options["trim"]))
            scores.append(float(part.scores[row]))
            ids.append(part.ids[row])
            splits.append(code)
    if not ids:
        raise InputError(f"{path}: no sample is left: the text of all {sum(counts)} is all zero")
    if empty:
        done = "left out" if options["empty"] == "drop" else "kept"
        remarks.append(f"{empty} samples whose text is all zero are {done} (empty={options['empty']})")
    if cleaned:
        remarks.append(f"{cleaned} values that are not finite became 0 (nonfinite=zero)")
    values = np.array(scores)
    if "neutral" in options:
        labels, names, keep = classes_of_scores(values, options["neutral"], str(path))
        if not keep.all():
            remarks.append(f"{int((~keep).sum())} samples with a score of 0 are left out (neutral=drop)")
    else:
        labels, names, keep = _signs(values, path), benchmark.class_names, np.ones(len(values), bool)
    rows = np.flatnonzero(keep)
    codes = np.array(splits, dtype=np.uint8)[rows]
    packed: dict[str, Sequences] = {}
    for name in MODALITIES:
        packed[name] = pack([arrays[name][row] for row in rows], parts[0].arrays[name].shape[2])
    packed["vision"], flat = scaled(packed["vision"], codes, options["vision-scale"])
    if flat:
        remarks.append(
            f"{flat} constant features of vision became 0 (vision-scale={options['vision-scale']})"
        )
    like = Manifest(
        name=benchmark.name,
        modality="array",
        classes=names,
        root=root,
        ids=unique_ids([ids[row] for row in rows]),
        sources=["-"] * len(rows),
        labels=labels[rows],
        splits=codes,
        licence=benchmark.licence,
        source=f"{path.name}, {benchmark.homepage}",
    )
    return Found(
        manifests=tuple(array_manifest(like, name) for name in MODALITIES),
        counts=(counts[0], counts[1], counts[2]),
        remarks=tuple(remarks),
        arrays=packed,
    )


def _read(path: Path) -> list[_Part]:
    content = read_pickle(path)
    if not isinstance(content, dict) or not all(isinstance(content.get(name), dict) for name in _PARTS):
        found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise InputError(
            f"{path}: expected train, valid and test, each with vision, audio, text; got {found}"
        )
    parts = [_part(content[name], f"{path}, {name}") for name in _PARTS]
    for name in MODALITIES:
        widths = sorted({part.arrays[name].shape[2] for part in parts})
        if len(widths) > 1:
            raise InputError(f"{path}: {name} is {widths[0]} wide in one split and {widths[1]} in another")
    return parts


def _part(content: Mapping[str, Any], where: str) -> _Part:
    arrays = {}
    for name in MODALITIES:
        value = content.get(name)
        if not isinstance(value, np.ndarray) or value.ndim != 3 or value.dtype.kind not in "fiu":
            got = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
            raise InputError(f"{where}: {name} is {got}; expected numbers of shape samples × steps × width")
        arrays[name] = value.astype(np.float32)
    rows, steps, _ = arrays["text"].shape
    for name, array in arrays.items():
        if array.shape[:2] != (rows, steps):
            raise InputError(f"{where}: {name} has shape {array.shape}, text {arrays['text'].shape}")
    try:
        scores = np.asarray(content["labels"], dtype=np.float64).reshape(rows, -1)[:, 0]
    except (KeyError, ValueError, TypeError):
        raise InputError(f"{where}: labels are missing or not one number a sample") from None
    ids = [_id(one) for one in content.get("id", ())]
    if len(ids) != rows or not all(ids):
        ids = [f"{where.rpartition(', ')[2]}-{row}" for row in range(rows)]
    return _Part(arrays, scores, ids)


def _id(value: Any) -> str:
    """A string, bytes, a number, or a row of them (video, start, end)."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray | list | tuple):
        return "_".join(_id(one) for one in (value.ravel() if isinstance(value, np.ndarray) else value))
    return str(value)


def _clean(arrays: dict[str, np.ndarray]) -> int:
    """Zero for every value that is not finite (COVAREP's audio has −inf); how many there were."""
    count = 0
    for array in arrays.values():
        bad = ~np.isfinite(array)
        count += int(bad.sum())
        array[bad] = 0
    return count


def _trimmed(arrays: Mapping[str, np.ndarray], name: str, row: int, how: str) -> np.ndarray:
    """One sample (T, D) from its first step on; all of it where no step has anything."""
    sample = arrays[name][row]
    if how == "none":
        return sample
    present = ((sample if how == "own" else arrays["text"][row]) != 0).any(axis=1)
    return sample[int(present.argmax()) :]


def _signs(scores: np.ndarray, path: Path) -> np.ndarray:
    """Labels −1 and 1, or 0 and 1, as 0 and 1."""
    found = {float(value) for value in np.unique(scores)}
    if not (found <= {-1.0, 1.0} or found <= {0.0, 1.0}):
        shown = ", ".join(f"{value:g}" for value in sorted(found)[:5])
        raise InputError(f"{path}: labels are {shown} …; expected -1 and 1, or 0 and 1")
    return (scores > 0).astype(np.int32)
