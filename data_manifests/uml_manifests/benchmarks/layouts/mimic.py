"""MIMIC as MultiBench prepares it: `im.pk`, a day of vital signs and five numbers about the admission.

The order is shuffled with seed 10; the first tenth validates, the second tenth tests, the rest trains. (The
reference code of the paper reports the validation part as its test part. Here they are two.)
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from uml_cache import InputError
from uml_manifests.benchmarks.known import Benchmark
from uml_manifests.benchmarks.layouts.found import Found, Sequences, counts_of, need_file
from uml_manifests.benchmarks.layouts.sequences import array_manifest, scaled
from uml_manifests.manifest.manifest import Manifest
from uml_manifests.sources.pickles import read_pickle

_SEED = 10
_MORTALITY = tuple(f"mortality {number}" for number in range(6))


def mimic(benchmark: Benchmark, root: Path, options: Mapping[str, str]) -> Found:
    """`ep_tdata` (N, 24, 12), `adm_features_all` (N, 5) and the labels of one task.

    Raises:
        InputError: an array is missing or of another shape.
    """
    path = root if root.is_file() else need_file(benchmark, root, *benchmark.files)
    content = read_pickle(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}; expected ep_tdata, adm_features_all, …")
    series = _array(content, "ep_tdata", 3, path).astype(np.float32)
    static = _array(content, "adm_features_all", 2, path).astype(np.float32)
    labels, names = _labels(content, options["task"], path)
    rows = len(series)
    for name, other in (("adm_features_all", static), ("the labels", labels)):
        if len(other) != rows:
            raise InputError(f"{path}: ep_tdata has {rows} rows, {name} {len(other)}")
    if rows < 10:
        raise InputError(f"{path}: {rows} rows cannot be cut into tenths")
    remarks = []
    if options["nonfinite"] == "zero":
        bad = sum(int((~np.isfinite(array)).sum()) for array in (series, static))
        series[~np.isfinite(series)] = 0
        static[~np.isfinite(static)] = 0
        remarks += [f"{bad} values that are not finite became 0 (nonfinite=zero)"] if bad else []
    splits = tenths(rows)
    steps = series.shape[1]
    arrays = {
        "timeseries": Sequences(series.reshape(-1, series.shape[2]), np.full(rows, steps)),
        "static": Sequences(static, np.ones(rows, np.int64)),
    }
    for name, sequences in arrays.items():
        arrays[name], flat = scaled(sequences, splits, options["scale"])
        if flat:
            remarks.append(f"{flat} constant features of {name} became 0 (scale={options['scale']})")
    like = Manifest(
        name=benchmark.name,
        modality="array",
        classes=names,
        root=root,
        ids=[f"stay-{row}" for row in range(rows)],
        sources=["-"] * rows,
        labels=labels,
        splits=splits,
        licence=benchmark.licence,
        source=f"{path.name}, {benchmark.homepage}",
    )
    return Found(
        manifests=tuple(array_manifest(like, name) for name in arrays),
        counts=counts_of(like),
        classes=len(names),
        remarks=tuple(remarks),
        arrays=arrays,
    )


def tenths(rows: int) -> np.ndarray:
    """(N,) uint8 split codes: shuffled with seed 10, the first tenth val, the second test, the rest train."""
    order = list(range(rows))
    random.Random(_SEED).shuffle(order)
    splits = np.zeros(rows, dtype=np.uint8)
    splits[order[: rows // 10]] = 1
    splits[order[rows // 10 : rows // 5]] = 2
    return splits


def _array(content: Mapping[str, object], name: str, dimensions: int, path: Path) -> np.ndarray:
    value = content.get(name)
    if not isinstance(value, np.ndarray) or value.ndim != dimensions or value.dtype.kind not in "fiub":
        got = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise InputError(f"{path}: {name} is {got}; expected an array of {dimensions} dimensions")
    return value


def _labels(content: Mapping[str, object], task: str, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels of an ICD-9 group (0 … 19, yes or no), or of mortality (−1): the first positive of the columns
    1 to 5, or 0."""
    number = int(task)
    if number < 0:
        table = _array(content, "adm_labels_all", 2, path)
        if table.shape[1] < 6:
            raise InputError(f"{path}: adm_labels_all has {table.shape[1]} columns; expected 6 or more")
        positive = table[:, 1:6] > 0
        labels = np.where(positive.any(axis=1), positive.argmax(axis=1) + 1, 0)
        return labels.astype(np.int32), _MORTALITY
    table = _array(content, "y_icd9", 2, path)
    if number >= table.shape[1]:
        raise InputError(f"{path}: y_icd9 has {table.shape[1]} columns, so there is no task {number}")
    column = table[:, number]
    if not {*np.unique(column).tolist()} <= {0, 1}:
        raise InputError(f"{path}: column {number} of y_icd9 holds other values than 0 and 1")
    return column.astype(np.int32), (f"not ICD-9 group {number}", f"ICD-9 group {number}")
