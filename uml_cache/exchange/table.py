"""From nested arrays to the columns of a store: which array is what, and whether they fit together.

Shapes: N samples, D features, T tokens of all samples, E their width.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache.errors import InputError, unknown
from uml_cache.exchange.files import ATTRIBUTES, Nested
from uml_cache.exchange.values import SPLIT_CODES, strings
from uml_cache.store.layout import SPLIT_NAMES

NAMES: dict[str, tuple[str, ...]] = {
    "features": ("features", "feature", "embeddings", "embedding", "pooled", "feats", "x"),
    "labels": ("labels", "label", "targets", "target", "y"),
    "ids": ("ids", "id", "paths", "path", "impath", "image_path", "names", "filenames"),
    "splits": ("splits", "split"),
    "groups": ("groups", "group"),
    "classes": ("classes", "classnames", "class_names", "lab2cname"),
}
_TOKENS, _LENGTHS, _STATUS = "tokens", "token_lengths", "status"
_SAMPLES = "sample"


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What the user says: the name of each column inside the files, or a file of its own (.npy, .txt)."""

    features: str | None = None
    labels: str | None = None
    ids: str | None = None
    splits: str | None = None
    groups: str | None = None
    lengths: str | None = None


@dataclass
class Part:
    """One file's, or one split's, samples. `features` (N, D), `tokens` (T, E) with `lengths` (N,)."""

    where: str
    rows: int
    features: Any = None
    name: str = ""
    tokens: Any = None
    lengths: np.ndarray | None = None
    labels: Any = None
    ids: list[str] | None = None
    splits: Any = None
    groups: list[str] | None = None
    samples: np.ndarray | None = None
    status: np.ndarray | None = None
    classes: Any = None
    attributes: dict[str, Any] = field(default_factory=dict)


def parts_of(content: Nested, where: str, columns: Columns, *, deep: bool = False) -> list[Part]:
    """The parts of one file: itself, or its groups `train`, `val`, `test` with features of their own.

    Rows of features that are matrices become tokens; with `deep` they stay as they are.
    """
    wanted = columns.features
    if _has_features(content, wanted):
        return [_part(content, where, columns, deep)]
    groups = {
        str(name): inner
        for name, inner in content.items()
        if isinstance(inner, dict) and _has_features(inner, wanted)
    }
    if not groups:
        known = [str(name) for name, value in content.items() if value is not None]
        if wanted is not None:
            raise InputError(f"{where}: {unknown('array', wanted, known or ['none'])}")
        listed = ", ".join(sorted(known)[:8]) or "nothing"
        raise InputError(
            f"{where}: found no features; it holds {listed}. Name the array with --features, or call it "
            f"{NAMES['features'][0]}"
        )
    strange = [name for name in groups if name.lower() not in SPLIT_CODES]
    if strange and len(groups) > 1:
        raise InputError(f"{where}: group {strange[0]!r} is no split; expected {', '.join(SPLIT_NAMES)}")
    parts = []
    for name, inner in sorted(groups.items(), key=lambda item: SPLIT_CODES.get(item[0].lower(), 0)):
        shared = {key: value for key, value in content.items() if key not in groups and key not in inner}
        part = _part({**inner, **shared}, f"{where}:{name}", columns, deep)
        if part.splits is None and name.lower() in SPLIT_CODES:
            part.splits = SPLIT_CODES[name.lower()]
        parts.append(part)
    return parts


def vocabulary_of(parts: Sequence[Part]) -> int | None:
    """V where every token is one whole number and there are no features: ids, discrete; None for vectors.

    V is what the file's encoder says, else the largest id and one.
    """
    ids = [part.tokens for part in parts if part.features is None and part.tokens is not None]
    if len(ids) < len(parts) or any(part.dtype.kind not in "iu" or part.shape[1] != 1 for part in ids):
        return None
    for part, array in zip(parts, ids, strict=True):
        if len(array) and np.min(array) < 0:
            raise InputError(f"{part.where}: a token has the id {np.min(array)}; ids are numbers from 0 on")
    told = parts[0].attributes.get("encoder") or {}
    return told.get("vocabulary") or max(int(np.max(array, initial=0)) for array in ids) + 1


def _has_features(content: Mapping[Any, Any], wanted: str | None) -> bool:
    names = (wanted,) if wanted is not None else (*NAMES["features"], _TOKENS)
    return any(hasattr(content.get(name), "shape") for name in names)


def _part(content: Nested, where: str, columns: Columns, deep: bool) -> Part:
    features = _find(content, "features", columns.features, where)
    tokens, lengths = content.get(_TOKENS), content.get(columns.lengths or _LENGTHS)
    if columns.lengths is not None and lengths is None:
        raise InputError(f"{where}: {unknown('array', columns.lengths, map(str, content))}")
    called = next((str(key) for key, value in content.items() if value is features), "")
    if deep and features is not None and features.ndim == 3:
        part = Part(where, len(features), features=features, name=called)
        return _with_columns(part, content, columns)
    if features is not None and features.ndim == 3:  # (N, T, E): every sample has T tokens, or `lengths`
        rows, longest, width = features.shape
        lengths = np.full(rows, longest) if lengths is None else np.asarray(lengths)
        _need_lengths(lengths, rows, longest, where)
        keep = np.arange(longest)[None] < lengths[:, None]
        features, tokens = None, np.asarray(features)[keep].reshape(-1, width)
    elif features is not None and features.ndim != 2:
        shape = "×".join(map(str, features.shape))
        raise InputError(f"{where}: features have shape {shape or 'of one number'}; expected samples × width")
    if tokens is not None and not hasattr(tokens, "shape"):
        tokens = None
    elif tokens is not None and tokens.ndim == 1:
        tokens = np.asarray(tokens)[:, None]
    if tokens is not None and lengths is None:
        raise InputError(f"{where}: tokens without their number per sample; add an array {_LENGTHS}")
    rows = len(features) if features is not None else len(lengths)  # type: ignore[arg-type]
    for array, name in ((features, "features"), (tokens, "tokens")):
        if array is not None and array.dtype.kind not in "fiu":
            raise InputError(f"{where}: {name} are of type {array.dtype}; expected numbers")
        if array is not None and array.shape[1] == 0:
            raise InputError(f"{where}: {name} have no columns")
    part = Part(where, rows, features=features, name=called)
    if tokens is not None:
        part.tokens, part.lengths = tokens, np.asarray(lengths)
        _need_lengths(part.lengths, rows, None, where)
        if part.lengths.sum() != len(tokens):
            raise InputError(
                f"{where}: {_LENGTHS} add up to {part.lengths.sum()}, tokens has {len(tokens)} rows"
            )
    return _with_columns(part, content, columns)


def _with_columns(part: Part, content: Nested, columns: Columns) -> Part:
    where, rows = part.where, part.rows
    part.labels = _column(content, "labels", columns.labels, where, rows)
    part.splits = _column(content, "splits", columns.splits, where, rows)
    part.ids = strings(_column(content, "ids", columns.ids, where, rows))
    part.groups = strings(_column(content, "groups", columns.groups, where, rows))
    samples = _column(content, _SAMPLES, None, where, rows) if _SAMPLES in content else None
    if isinstance(samples, np.ndarray) and samples.dtype == np.uint64:  # as an exported store has them
        part.samples = samples
    status = _column(content, _STATUS, None, where, rows) if _STATUS in content else None
    part.status = None if status is None else np.asarray(status).astype(np.uint8)
    part.classes = next((content[name] for name in NAMES["classes"] if content.get(name) is not None), None)
    attributes = content.get(ATTRIBUTES)
    if isinstance(attributes, np.ndarray) and attributes.ndim == 0:
        attributes = str(attributes)
    if isinstance(attributes, str):
        try:
            part.attributes = dict(json.loads(attributes))
        except (ValueError, TypeError):
            raise InputError(f"{where}: its attributes are not a JSON object") from None
    return part


def _need_lengths(lengths: np.ndarray, rows: int, longest: int | None, where: str) -> None:
    if lengths.shape != (rows,) or lengths.dtype.kind not in "iu":
        raise InputError(
            f"{where}: token lengths are {lengths.dtype} {lengths.shape}; expected {rows} integers"
        )
    if rows and (lengths.min() < 0 or (longest is not None and lengths.max() > longest)):
        raise InputError(
            f"{where}: token lengths go from {lengths.min()} to {lengths.max()}, which cannot be"
        )


def _find(content: Nested, kind: str, wanted: str | None, where: str) -> Any:
    if wanted is not None:
        if content.get(wanted) is None:
            raise InputError(f"{where}: {unknown('array', wanted, map(str, content))}")
        return content[wanted]
    names = NAMES.get(kind, (kind,))
    return (
        next((content[name] for name in names if hasattr(content.get(name), "shape")), None)
        if (kind == "features")
        else next((content[name] for name in names if content.get(name) is not None), None)
    )


def _column(content: Nested, kind: str, wanted: str | None, where: str, rows: int) -> Any:
    """One value a sample: an array or list of length `rows`, None, or for splits a number for all."""
    if wanted is not None and Path(wanted).is_file():
        return None  # given for all files together
    value = _find(content, kind, wanted, where)
    if value is None:
        return None
    if isinstance(value, str | dict) or not hasattr(value, "__len__"):
        raise InputError(f"{where}: {kind} is a {type(value).__name__}; expected one value a sample")
    values = np.asarray(value[()] if hasattr(value, "id") else value)
    if values.shape == (rows, 1):
        values = values[:, 0]
    if values.shape != (rows,):
        shape = "×".join(map(str, values.shape))
        raise InputError(
            f"{where}: {kind} has shape {shape}, there are {rows} samples; expected one value each"
        )
    return values.tolist() if values.dtype.kind in "OSU" else values
