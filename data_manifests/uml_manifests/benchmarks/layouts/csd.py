"""Computational sequences of the CMU Multimodal SDK (`.csd`, HDF5): `NAME/data/VIDEO/{features, intervals}`.

A label sequence cuts videos into segments; each segment is a sample with the steps whose middle lies in it.
Without labels each video is a sample. `features` are (T, D) numbers, or words, which become a text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache import InputError, hdf5_members, hdf5_object, open_hdf5
from uml_manifests.benchmarks.known import Option
from uml_manifests.benchmarks.layouts.found import Found, Sequences
from uml_manifests.benchmarks.layouts.sequences import (
    NEUTRAL,
    NONFINITE,
    array_manifest,
    classes_of_scores,
    pack,
)
from uml_manifests.manifest.manifest import NO_LABEL, NO_SPLIT, Manifest

_WHAT = "a computational sequence"
SUFFIX = ".csd"
OPTIONS = {
    "labels": Option(default="", help="the file with the labels; by default that with `label` in its name"),
    "neutral": NEUTRAL,
    "nonfinite": NONFINITE,
}
_SILENCE = "sp"  # the SDK's mark for a pause between words


def csd_files(root: Path) -> list[Path]:
    """The `.csd` files that `root` is, or holds."""
    if root.is_dir():
        return sorted(path for path in root.iterdir() if path.suffix.lower() == SUFFIX)
    return [root] if root.suffix.lower() == SUFFIX else []


def csd(name: str, root: Path, options: Mapping[str, str]) -> Found:
    """Every sequence of a folder (or one file) as a manifest of its own; all have the same samples.

    The group of a sample is its video, so that no split cuts through one. A segment that one sequence has
    nothing for is left out of all of them, and counted.

    Raises:
        InputError: not such a file, no segment with steps of every sequence, labels that are not numbers.
    """
    files = csd_files(root)
    label_file = _label_file(files, root, options["labels"])
    content = {path: _Videos(path) for path in files if path != label_file}
    if not content:
        raise InputError(f"{root}: no sequences besides the labels in {label_file}")
    segments = _segments(None if label_file is None else _Videos(label_file), content)
    collected: dict[Path, list[Any]] = {path: [] for path in content}
    kept: list[tuple[str, str, float | None]] = []
    cleaned = 0
    for sample, video, span, score in segments:
        steps = {path: _steps(videos, video, span) for path, videos in content.items()}
        if options["nonfinite"] == "zero":
            cleaned += sum(_clean(step) for step in steps.values() if isinstance(step, np.ndarray))
        if all(len(step) for step in steps.values()):
            kept.append((sample, video, score))
            for path, step in steps.items():
                collected[path].append(step)
    if not kept:
        raise InputError(f"{root}: none of its {len(segments)} segments has steps in every sequence")
    remarks = []
    if len(kept) < len(segments):
        remarks.append(f"{len(segments) - len(kept)} of {len(segments)} segments lack steps and are left out")
    if cleaned:
        remarks.append(f"{cleaned} values that are not finite became 0 (nonfinite=zero)")
    labels, keep = np.full(len(kept), NO_LABEL, np.int32), np.ones(len(kept), bool)
    names: tuple[str, ...] = ()
    if label_file is not None:
        scores = np.array([score for *_, score in kept], dtype=np.float64)
        labels, names, keep = classes_of_scores(scores, options["neutral"], str(label_file))
    rows = np.flatnonzero(keep)
    if len(rows) < len(kept):
        remarks.append(f"{len(kept) - len(rows)} samples with a score of 0 are left out (neutral=drop)")
    like = Manifest(
        name=name,
        modality="array",
        classes=names,
        root=root,
        ids=[kept[row][0] for row in rows],
        sources=["-"] * len(rows),
        labels=labels[rows],
        splits=np.full(len(rows), NO_SPLIT),
        groups=[kept[row][1] for row in rows],
        source=f"CMU Multimodal SDK: {', '.join(path.name for path in files)}",
    )
    manifests: list[Manifest] = []
    arrays: dict[str, Sequences] = {}
    for path, parts in collected.items():
        chosen = [parts[row] for row in rows.tolist()]
        if isinstance(chosen[0], str):
            manifests.append(_texts(like, path.stem, chosen))
        else:
            arrays[path.stem] = _packed(chosen, path)
            manifests.append(array_manifest(like, path.stem))
    return Found(manifests=tuple(manifests), counts=None, remarks=tuple(remarks), arrays=arrays)


def _label_file(files: list[Path], root: Path, wanted: str) -> Path | None:
    if wanted:
        chosen = [path for path in files if path.name in (wanted, wanted + SUFFIX)]
        if not chosen:
            raise InputError(f"{root}: has no {wanted}; it has {', '.join(path.name for path in files)}")
        return chosen[0]
    named = [path for path in files if "label" in path.name.lower()]
    if len(named) > 1:
        raise InputError(
            f"{root}: {' and '.join(path.name for path in named)} may be the labels; choose with "
            f"--option labels={named[0].name}"
        )
    return named[0] if named and len(files) > 1 else None


class _Videos:
    """One file, read a video at a time: the acoustic features of MOSEI are larger than many memories."""

    def __init__(self, path: Path) -> None:
        import h5py

        if not path.is_file():
            raise InputError(f"{path}: no such file")
        self._path = path
        self._last: tuple[str, tuple[np.ndarray, np.ndarray]] | None = None
        try:
            with open_hdf5(path, _WHAT) as file:
                named = next(
                    (name for name, group in hdf5_members(file) if isinstance(group, h5py.Group)), None
                )
                data = (
                    None if named is None or "data" not in file[named] else hdf5_object(file, f"{named}/data")
                )
                if not isinstance(data, h5py.Group):
                    raise InputError(f"{path}: has no NAME/data group, as the SDK's files have")
                self._place = f"{named}/data"
                self.names = dict.fromkeys(sorted(data))
        except (OSError, KeyError, TypeError) as error:
            raise self._broken(error) from None

    def read(self, video: str) -> tuple[np.ndarray, np.ndarray]:
        """Features (T, …) and intervals (T, 2) of one video. Raises `InputError` where they do not fit."""
        if self._last is not None and self._last[0] == video:
            return self._last[1]
        try:
            with open_hdf5(self._path, _WHAT) as file:
                entry = hdf5_object(file, f"{self._place}/{video}")
                features = np.asarray(hdf5_object(entry, "features")[()])
                intervals = np.asarray(hdf5_object(entry, "intervals")[()]).astype(np.float64)
        except InputError:
            raise
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise self._broken(error) from None
        if intervals.shape != (len(features), 2):
            raise InputError(
                f"{self._path}: video {video!r} has features {features.shape}, intervals {intervals.shape}"
            )
        self._last = video, (features, intervals)
        return features, intervals

    def _broken(self, error: Exception) -> InputError:
        said = " ".join(str(error).split())[:120]
        return InputError(f"{self._path}: cannot be read as {_WHAT} ({said})")


def _segments(
    labels: _Videos | None, content: Mapping[Path, _Videos]
) -> list[tuple[str, str, tuple[float, float] | None, float | None]]:
    """(id, video, from-to or None for all of it, score or None), videos in order of their names."""
    if labels is None:
        return [
            (video, video, None, None)
            for video in sorted({name for videos in content.values() for name in videos.names})
        ]
    found: list[tuple[str, str, tuple[float, float] | None, float | None]] = []
    for video in labels.names:
        features, intervals = labels.read(video)
        if features.dtype.kind not in "fiu":
            raise InputError(f"the labels of video {video!r} are {features.dtype}; expected numbers")
        for number, (start, end) in enumerate(intervals.tolist()):
            score = float(features[number].reshape(-1)[0])  # MOSEI: sentiment first, then emotions
            found.append((f"{video}[{number}]", video, (start, end), score))
    return found


def _steps(videos: _Videos, video: str, span: tuple[float, float] | None) -> Any:
    """The steps of one segment: (t, D) numbers, or one text of its words."""
    if video not in videos.names:
        return ()
    features, intervals = videos.read(video)
    if span is not None:
        middle = intervals.mean(axis=1)
        features = features[(middle >= span[0]) & (middle < span[1])]
    if features.dtype.kind in "fiu":
        width = int(np.prod(features.shape[1:]))
        return features.reshape(len(features), width).astype(np.float32)
    words = [one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one) for one in features.flat]
    return " ".join(word for word in words if word != _SILENCE)


def _clean(steps: np.ndarray) -> int:
    bad = ~np.isfinite(steps)
    steps[bad] = 0
    return int(bad.sum())


def _packed(chosen: list[np.ndarray], path: Path) -> Sequences:
    widths = sorted({part.shape[1] for part in chosen})
    if len(widths) > 1:
        raise InputError(f"{path}: features are {widths[0]} wide in one video and {widths[1]} in another")
    return pack(chosen, widths[0])


def _texts(like: Manifest, name: str, texts: list[str]) -> Manifest:
    return replace(like, modality="text", set=name, sources=texts)
