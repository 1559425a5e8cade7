"""From nested arrays to the columns of a store: which array is what, and whether they fit together.

Shapes: N samples, D features, T tokens of all samples, E their width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache.errors import InputError, unknown
from uml_cache.exchange.formats.attributes import check_attributes
from uml_cache.exchange.formats.nested import ATTRIBUTES, CLASS_ATTRIBUTE, Nested
from uml_cache.exchange.per_sample import (
    LENGTHS,
    lengths_of,
    need_lengths,
    need_whole,
    status_of,
    values_of,
)
from uml_cache.store.plans.layout import SPLIT_NAMES
from uml_cache.tables.cells import as_texts, strict_json, text_of, uniques
from uml_cache.tables.class_lists import as_classes
from uml_cache.tables.columns import PLAIN, USUAL, choose_column
from uml_cache.tables.splits import SPLIT_CODES

_ROLES = {"labels": "label", "ids": "id", "splits": "split", "groups": "group"}
_USUAL_IDS = ("paths", "path", "impath", "image_path", "filenames")
_CLASSES = ("classes", "classnames", "class_names", "lab2cname", CLASS_ATTRIBUTE)
_TOKENS, _STATUS = "tokens", "status"
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
    classes: tuple[str, ...] | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def parts_of(content: Nested, where: str, columns: Columns, *, deep: bool = False) -> list[Part]:
    """The parts of one file: itself, or its groups `train`, `val`, `test` with features of their own.

    Rows of features that are matrices become tokens; with `deep` they stay as they are.

    Raises:
        InputError: no features, columns that do not fit them, or a file whose values lie outside of it.
    """
    try:
        return _parts_of(content, where, columns, deep)
    except OSError as error:
        if error.errno is not None:  # the disk's, not the file's
            raise
        said = " ".join(str(error).split())[:120]
        raise InputError(f"{where}: cannot be read ({said})") from None


def _parts_of(content: Nested, where: str, columns: Columns, deep: bool) -> list[Part]:
    wanted = columns.features
    groups = {
        str(name): inner
        for name, inner in content.items()
        if isinstance(inner, dict) and _has_features(inner, wanted)
    }
    if _has_features(content, wanted):
        if twice := [name for name in groups if name.lower() in SPLIT_CODES]:
            raise InputError(
                f"{where}: has features, and more of them in its group {twice[0]!r}; keep the ones or the "
                "others in the file"
            )
        return [_part(content, where, columns, deep)]
    if not groups:
        known = [str(name) for name, value in content.items() if value is not None]
        if wanted is not None:
            raise InputError(f"{where}: {unknown('array', wanted, known or ['none'])}")
        listed = ", ".join(sorted(known)[:8]) or "nothing"
        raise InputError(
            f"{where}: found no features; it holds {listed}. Name the array with --features, or call it "
            f"{PLAIN['features'][0]}"
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

    Raises:
        InputError: an id below 0.
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
    names = (wanted,) if wanted is not None else (*PLAIN["features"], *USUAL["features"], _TOKENS)
    return any(hasattr(content.get(name), "shape") for name in names)


def _part(content: Nested, where: str, columns: Columns, deep: bool) -> Part:
    remarks: list[str] = []
    arrays = [str(key) for key, value in content.items() if hasattr(value, "shape")]
    name = choose_column("features", arrays, columns.features, where, remarks)
    features = None if name is None else content[name]
    tokens = content.get(_TOKENS)
    sequences = hasattr(tokens, "shape") or (features is not None and features.ndim == 3)
    lengths = lengths_of(content, columns.lengths, where, remarks) if sequences or columns.lengths else None
    called = name or ""
    if deep and features is not None and features.ndim == 3:
        need_whole(lengths, len(features), features.shape[1], where)
        part = Part(where, len(features), features=features, name=called, remarks=remarks)
        return _with_columns(part, content, columns)
    if features is not None and features.ndim == 3:  # (N, T, E): every sample has T tokens, or `lengths`
        rows, longest, width = features.shape
        lengths = np.full(rows, longest) if lengths is None else np.asarray(lengths)
        need_lengths(lengths, rows, longest, where)
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
        raise InputError(f"{where}: has tokens, but not how many each sample has; add an array {LENGTHS}")
    rows = len(features) if features is not None else len(lengths)  # type: ignore[arg-type]
    for array, name in ((features, "features"), (tokens, "tokens")):
        if array is not None and array.dtype.kind not in "fiu":
            raise InputError(f"{where}: {name} are of type {array.dtype}; expected numbers")
        if array is not None and array.shape[1] == 0:
            raise InputError(f"{where}: {name} have no columns")
    part = Part(where, rows, features=features, name=called, remarks=remarks)
    if tokens is not None:
        part.tokens, part.lengths = tokens, np.asarray(lengths)
        need_lengths(part.lengths, rows, None, where)
        if part.lengths.sum() != len(tokens):
            raise InputError(
                f"{where}: {LENGTHS} add up to {part.lengths.sum()}, tokens has {len(tokens)} rows"
            )
    return _with_columns(part, content, columns)


def _with_columns(part: Part, content: Nested, columns: Columns) -> Part:
    where, rows = part.where, part.rows
    part.labels = _column(part, content, "labels", columns.labels)
    part.splits = _column(part, content, "splits", columns.splits)
    part.groups = _column(part, content, "groups", columns.groups)
    part.ids = as_texts(_column(part, content, "ids", columns.ids), where, "id")
    samples = values_of(content[_SAMPLES], _SAMPLES, where, rows) if _SAMPLES in content else None
    if isinstance(samples, np.ndarray) and samples.dtype == np.uint64:  # as an exported store has them
        part.samples = samples
    status = content.get(_STATUS)
    part.status = None if status is None else status_of(status, where, rows)
    attributes = content.get(ATTRIBUTES)
    if isinstance(attributes, np.ndarray) and attributes.ndim == 0:
        attributes = str(attributes)
    if isinstance(attributes, str):
        try:
            part.attributes = dict(strict_json(attributes))
        except (ValueError, TypeError):
            raise InputError(f"{where}: its attributes are not a JSON object") from None
        check_attributes(part.attributes, where)
    _classes(part, content)
    return part


def _classes(part: Part, content: Nested) -> None:
    """The file's class list, from wherever it has one; a name per sample is a column of labels."""
    where = part.where
    found: dict[str, tuple[str, ...]] = {}
    for name in _CLASSES:
        names = as_classes(content.get(name), f"{where}: {name}")
        if names is None:
            continue
        if len(names) == part.rows and len(set(names)) < len(names):
            _names_per_sample(part, name, names)
        else:
            found[name] = names
    if part.attributes.get("classes"):
        found["attributes"] = tuple(map(str, part.attributes["classes"]))
    for name, names in found.items():
        first = next(iter(found))
        if names != found[first]:
            raise InputError(f"{where}: {first} and {name} list different classes; leave one of them out")
        part.classes = names


def _names_per_sample(part: Part, column: str, names: tuple[str, ...]) -> None:
    """`names` are the labels; they must say the same as the numbers beside them."""
    if part.labels is not None:
        cells, places = uniques(part.labels, part.where)
        pairs = {(int(at), name) for at, name in zip(places, names, strict=True)}
        if len(pairs) > max(len({at for at, _ in pairs}), len({name for _, name in pairs})):
            raise InputError(
                f"{part.where}: {column!r} has one name a sample and contradicts the labels; choose one of "
                "the two with --label-column"
            )
        if all(isinstance(cell, str | bytes) for cell in cells):
            return
        unlabelled = {at for at, cell in enumerate(cells) if _is_none(cell)}
        names = tuple("" if int(at) in unlabelled else name for at, name in zip(places, names, strict=True))
    part.labels = list(names)
    part.remarks.append(
        f"{part.where}: {column!r} has one name per sample: read as labels, not as a class list"
    )


def _is_none(cell: Any) -> bool:
    return text_of(cell) in (None, "-1")


def _column(part: Part, content: Nested, kind: str, wanted: str | None) -> Any:
    """One value a sample: an array, or a list of texts; None where there is no such column."""
    there = [str(key) for key, value in content.items() if value is not None]
    if wanted is not None and Path(wanted).is_file():
        if wanted in there:
            raise InputError(
                f"{part.where}: {wanted!r} is a column in it and a file; rename or move the file"
            )
        return None  # given for all files together
    usual = None
    if kind == "ids":
        usual = (*_USUAL_IDS, "names") if _all_different(content.get("names"), part.rows) else _USUAL_IDS
    remarks: list[str] = []
    name = choose_column(_ROLES[kind], there, wanted, part.where, remarks, usual=usual)
    if kind != "ids":  # a path is as good an id as any
        part.remarks += remarks
    if name is None:
        return None
    return values_of(content[name], kind, part.where, part.rows)


def _all_different(names: Any, rows: int) -> bool:
    """Whether `names` may be the samples' names: a class list or a class per sample is something else."""
    if not isinstance(names, list | np.ndarray) or np.shape(names) != (rows,):
        return False
    return len(set(map(str, names))) == rows
