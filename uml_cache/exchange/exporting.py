"""`uml cache export`: a store as HDF5, npz, safetensors or parquet, with everything that its rows have.

Every format holds `features` (N, D), `tokens` (T, E) with `token_lengths` (N,), `id`, `label`, `split`,
`group`, `status`, and `attributes`: a JSON object with the store's names, encoder and classes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache.errors import InputError, WorkError
from uml_cache.exchange.formats.nested import ATTRIBUTES
from uml_cache.files.disk import whole_path
from uml_cache.reading.features import FeatureSet, open_features
from uml_cache.store.catalogue import store_info

_PIECE = 8192  # rows copied together


def export_features(store: str | Path, target: str | Path) -> FeatureSet:
    """Write a sealed store to `target`; its suffix chooses the format (.h5, .npz, .safetensors, .parquet).

    The file appears when it is complete. Raises `InputError` for another suffix, a file that is there
    already, or ids that the format cannot hold; `WorkError` for a store that is changed meanwhile.
    """
    target = Path(target)
    writer = _WRITERS.get(target.suffix.lower())
    if writer is None:
        raise InputError(f"{target}: unknown kind of file; expected one of {', '.join(_WRITERS)}")
    if target.exists():
        raise InputError(f"{target} exists; delete it first, or give another name")
    features = open_features(store)
    columns = _columns(features)
    if store_info(features.path).fingerprint != features.fingerprint:  # object storage knows no locks
        raise WorkError(f"{store} was changed while it was read; give the same command again")
    _need_no_nul(columns, target)
    attributes = json.dumps(_attributes(features), ensure_ascii=False)
    with whole_path(target) as new:
        writer(new, columns, attributes)
    return features


def _columns(features: FeatureSet) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    if features.info.dim is not None:
        columns["features"] = features.pooled.numpy()
    if features.info.token_dim is not None:
        values, _ = features.tokens.packed(np.arange(len(features)))
        columns["tokens"] = values.numpy()
        columns["token_lengths"] = np.asarray(features.tokens.lengths, np.int32)
    columns["id"] = [str(name) for name in features.id]
    columns["label"] = np.asarray(features.label, np.int32)
    columns["split"] = np.asarray(features.split, np.uint8)
    columns["status"] = np.asarray(features.status, np.uint8)
    if features.groups is not None:
        columns["group"] = [str(name) for name in features.groups]
    if "sample" in features.info.arrays:
        columns["sample"] = features.samples
    return columns


def _attributes(features: FeatureSet) -> dict[str, Any]:
    return {
        "dataset": features.dataset,
        "modality": features.modality,
        "set": features.set,
        "encoder": features.encoder,
        "variant": features.variant,
        "classes": list(features.classes),
        "ids": features.id_kind,
        "token_dim": features.info.token_dim,
        "fingerprint": features.fingerprint,
    }


def _need_no_nul(columns: dict[str, Any], target: Path) -> None:
    for name in ("id", "group"):
        wrong = next((text for text in columns.get(name, ()) if "\0" in text), None)
        if wrong is not None:
            raise InputError(f"{target}: {name} {wrong!r} holds a NUL character, which no format keeps")


def _write_hdf5(path: Path, columns: dict[str, Any], attributes: str) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs[ATTRIBUTES] = attributes
        for name, values in columns.items():
            if isinstance(values, list):
                file.create_dataset(name, data=values, dtype=h5py.string_dtype())
                continue
            written = file.create_dataset(name, shape=values.shape, dtype=values.dtype)
            for rows in _pieces(len(values)):
                written[rows] = values[rows]


def _write_npz(path: Path, columns: dict[str, Any], attributes: str) -> None:
    arrays: dict[str, Any] = {
        name: np.array(values, dtype=np.str_) if isinstance(values, list) else values
        for name, values in columns.items()
    }
    arrays[ATTRIBUTES] = np.array(attributes)
    with open(path, "wb") as stream:
        np.savez(stream, **arrays)


def _write_safetensors(path: Path, columns: dict[str, Any], attributes: str) -> None:
    from safetensors.numpy import save_file

    arrays = {k: np.ascontiguousarray(v) for k, v in columns.items() if not isinstance(v, list)}
    texts = {k: json.dumps(v, ensure_ascii=False) for k, v in columns.items() if isinstance(v, list)}
    save_file(arrays, path, metadata={**texts, ATTRIBUTES: attributes})


def _write_parquet(path: Path, columns: dict[str, Any], attributes: str) -> None:
    from uml_cache.exchange.formats.parquet import write_parquet

    tokens = columns.get("tokens")
    write_parquet(path, columns, None if tokens is None else tokens.shape[1], attributes)


def _pieces(rows: int) -> Iterator[slice]:
    for first in range(0, rows, _PIECE):
        yield slice(first, first + _PIECE)


_WRITERS: dict[str, Callable[[Path, dict[str, Any], str], None]] = {
    ".h5": _write_hdf5,
    ".hdf5": _write_hdf5,
    ".npz": _write_npz,
    ".safetensors": _write_safetensors,
    ".parquet": _write_parquet,
}
