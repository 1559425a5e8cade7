"""Steps on sequences that the processed data sets share: cutting, scaling, classes from scores.

Shapes: N samples, T steps of one sample, V steps of all of them, D features.
Values are float32, lengths int64 and split codes uint8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from uml_cache import InputError, whole_path
from uml_manifests.benchmarks.known import Option
from uml_manifests.benchmarks.layouts.found import Sequences
from uml_manifests.manifest.manifest import Manifest

ARRAYS = "arrays.h5"

NEUTRAL = Option(
    default="positive",
    values=("positive", "negative", "drop"),
    help="class of a score of exactly 0: positive (`>= 0`, the reference code's), negative, or leave it out",
)

NONFINITE = Option(
    default="zero", values=("zero", "keep"), help="values that are not finite: 0, or flag the sample later"
)


def write_arrays(path: Path, arrays: Mapping[str, Sequences], options: Sequence[str]) -> None:
    """Write sequences as HDF5 groups with `values` (V, D) float32 and `length` (N,) int64, in one rename."""
    import h5py

    with whole_path(path) as new, h5py.File(new, "w") as file:
        file.attrs["options"] = list(options)
        for name, sequences in arrays.items():
            group = file.create_group(name)
            group.create_dataset("values", data=sequences.values.astype(np.float32, copy=False))
            group.create_dataset("length", data=sequences.lengths.astype(np.int64))


def array_manifest(like: Manifest, name: str) -> Manifest:
    """The manifest of one array in `arrays.h5`, whose rows are those of `like`; `building` sets its root."""
    return replace(
        like,
        modality="array",
        set=name,
        sources=[f"{ARRAYS}::{name}::{row}" for row in range(len(like))],
    )


def pack(parts: Sequence[np.ndarray], width: int) -> Sequences:
    """Put arrays (T, D) one after the other."""
    lengths = np.array([len(part) for part in parts], dtype=np.int64)
    values = np.concatenate([np.zeros((0, width), np.float32), *parts]).astype(np.float32, copy=False)
    return Sequences(values, lengths)


def scaled(sequences: Sequences, parts: np.ndarray, how: str) -> tuple[Sequences, int]:
    """Every feature to mean 0 and standard deviation 1 over steps; and how many features were constant.

    Args:
        parts: (N,) split codes.
        how: `none`; `train`, by the training samples' statistics; `split`, every split by its own (so that
            test samples are used to scale test samples); `all`, by those of all samples together.
    """
    if how == "none":
        return sequences, 0
    step_part = np.repeat(parts, sequences.lengths)
    values = sequences.values.astype(np.float64)
    groups = {
        "train": [(step_part == 0, slice(None))],
        "all": [(slice(None), slice(None))],
        "split": [(step_part == part, step_part == part) for part in np.unique(parts)],
    }[how]
    constant = 0
    for fit, target in groups:
        mean, deviation = values[fit].mean(axis=0), values[fit].std(axis=0)
        # A feature that never changes would become 0/0; it becomes 0.
        flat = deviation < 1e-8 * np.maximum(1.0, np.abs(mean))
        constant = max(constant, int(flat.sum()))
        values[target] = np.where(flat, 0.0, (values[target] - mean) / np.where(flat, 1.0, deviation))
    return Sequences(values.astype(np.float32), sequences.lengths), constant


def classes_of_scores(
    scores: np.ndarray, neutral: str, where: str
) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
    """Labels (N,) 0 or 1 by the sign of scores, their names, and which samples stay (N,) bool.

    Raises:
        InputError: a score is not finite.
    """
    if not np.isfinite(scores).all():
        raise InputError(f"{where}: {int((~np.isfinite(scores)).sum())} labels are not finite")
    if neutral == "drop":
        return (scores > 0).astype(np.int32), ("negative", "positive"), scores != 0
    if neutral == "negative":
        return (scores > 0).astype(np.int32), ("non-positive", "positive"), np.ones(len(scores), bool)
    return (scores >= 0).astype(np.int32), ("negative", "non-negative"), np.ones(len(scores), bool)
