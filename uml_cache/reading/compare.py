"""What changed from one store to another, sample by sample: rows belong together by their ids.

Shapes: n rows of a block, D features, T tokens of a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uml_cache.errors import InputError
from uml_cache.reading.features import FeatureSet, open_features
from uml_cache.store.plans.layout import FLAGGED
from uml_cache.store.plans.plan import differences

_BLOCK_BYTES = 32_000_000
_SHOWN = 3


@dataclass(frozen=True)
class StoreDifference:
    """How `new` differs from `old`, by ids.

    `features` are the ids whose features or readability changed, `annotations` those whose class, split or
    group did (an id may be in both). `settings` says how the encoders, or what is stored, differ.
    """

    rows: int
    new: tuple[str, ...]
    removed: tuple[str, ...]
    features: tuple[str, ...]
    annotations: tuple[str, ...]
    settings: tuple[str, ...]

    @property
    def changed(self) -> tuple[str, ...]:
        """The ids of both stores with another content."""
        return tuple(dict.fromkeys((*self.features, *self.annotations)))

    def to_json(self) -> dict[str, Any]:
        """The answer of `uml cache diff --json`; `rows` are all of the newer store."""
        return {
            "rows": self.rows,
            "new": list(self.new),
            "changed": list(self.changed),
            "removed": list(self.removed),
            "changed_features": list(self.features),
            "changed_annotations": list(self.annotations),
            "settings": list(self.settings),
        }

    def text(self) -> str:
        """One line for each kind of change, with the first ids."""
        kinds = {
            "new": self.new,
            "removed": self.removed,
            "other features": self.features,
            "another class, split or group": self.annotations,
        }
        lines = [f"{len(ids):,} {kind}: {_first(ids)}" for kind, ids in kinds.items() if ids]
        lines += [f"made otherwise: {one}" for one in self.settings]
        same = self.rows - len(self.new) - len(self.changed)
        return "\n".join([*lines, f"{same:,} of {self.rows:,} rows are the same in both"])


def compare_stores(old: Path | str, new: Path | str, *, step: bool = False) -> StoreDifference:
    """What became of the samples of the store `old` in the store `new`; both sealed, of one modality.

    Features are read a block at a time. They are the same when their bits are; with `step` also when they
    lie at most one step of float16 apart, as batches of other sizes leave them.

    Raises:
        InputError: a store that cannot be opened, or stores that no sample can be compared in.
    """
    one, two = open_features(old), open_features(new)
    try:
        return _compared(one, two, step)
    finally:
        one.close()
        two.close()


def _compared(old: FeatureSet, new: FeatureSet, step: bool) -> StoreDifference:
    ids = new.id
    there, now = _live(old), _live(new)
    pairs = [(there[id], row) for id, row in now.items() if id in there]
    before, after = np.array(pairs, np.int64).reshape(-1, 2).T
    features = old.status[before] != new.status[after]
    for kind in ("pooled", "tokens"):
        features |= _values_differ(old, new, before, after, kind, step)
    annotations = _annotations_differ(old, new, before, after)
    arrays = [
        f"only {one.path} has {name}"
        for one, other in ((old, new), (new, old))
        for name in ("pooled", "tokens/values")
        if name in one.info.arrays and name not in other.info.arrays
    ]
    return StoreDifference(
        rows=len(now),
        new=tuple(id for id in now if id not in there),
        removed=tuple(id for id in there if id not in now),
        features=tuple(ids[row] for row in after[features]),
        annotations=tuple(ids[row] for row in after[annotations]),
        settings=(*differences(old.encoder, new.encoder, "encoder."), *arrays),
    )


def _live(store: FeatureSet) -> dict[str, int]:
    """Rows by id, in order; those that a store that has grown has no use for are left out."""
    used = ~np.isin(store.status, FLAGGED)
    return {id: row for row, id in enumerate(store.id) if used[row]}


def _annotations_differ(
    old: FeatureSet, new: FeatureSet, before: np.ndarray, after: np.ndarray
) -> np.ndarray:
    """(n,) bool: rows with another class (by name: numbers may have moved), split or group."""
    names = {name: number for number, name in enumerate(dict.fromkeys((*old.classes, *new.classes)))}
    classes = []
    for store, rows in ((old, before), (new, after)):
        numbers = np.array([*(names[name] for name in store.classes), -1], np.int64)  # the last: no class
        classes.append(numbers[store.label[rows]])
    differ = (classes[0] != classes[1]) | (old.split[before] != new.split[after])
    groups = [
        np.array([store.groups[row] if store.groups is not None else None for row in rows], object)
        for store, rows in ((old, before), (new, after))
    ]
    return np.asarray(differ | (groups[0] != groups[1]), bool)


def _values_differ(
    old: FeatureSet, new: FeatureSet, before: np.ndarray, after: np.ndarray, kind: str, step: bool
) -> np.ndarray:
    """(n,) bool: rows whose pooled features, or tokens, are others. All False where a store has none."""
    differ = np.zeros(len(before), bool)
    width = {"pooled": "dim", "tokens": "token_dim"}[kind]
    widths = [getattr(store.info, width) for store in (old, new)]
    if None in widths:
        return differ
    if widths[0] != widths[1]:
        raise InputError(
            f"{old.path} and {new.path} cannot be compared: their {kind} features have {widths[0]} and "
            f"{widths[1]} numbers; give stores of one encoder"
        )
    rows_each = max(1, _BLOCK_BYTES // (4 * widths[0]))
    if kind == "tokens":
        lengths = [store.tokens.lengths[rows] for store, rows in ((old, before), (new, after))]
        differ |= lengths[0] != lengths[1]
        longest = int(lengths[0].max()) if len(before) else 0
        rows_each = max(1, rows_each // max(1, longest))
    for first in range(0, len(before), rows_each):
        block = np.arange(first, min(first + rows_each, len(before)))
        block = block[~differ[block]]
        if kind == "pooled":
            apart = _apart(_pooled(old, before[block]), _pooled(new, after[block]), step).any(1)
        else:
            values, offsets = old.tokens.packed(before[block])
            each = _apart(values.numpy(), new.tokens.packed(after[block])[0].numpy(), step).any(1)
            counts = np.concatenate([[0], np.cumsum(each)])
            ends = offsets.numpy()
            apart = counts[ends[1:]] > counts[ends[:-1]]
        differ[block] = apart
    return differ


def _pooled(store: FeatureSet, rows: np.ndarray) -> np.ndarray:
    out = torch.empty((len(rows), store.source.shape[1]), dtype=store.source.dtype)
    store.source.read(torch.from_numpy(rows), out)
    return out.numpy()


def _apart(one: np.ndarray, other: np.ndarray, step: bool) -> np.ndarray:
    """Where two arrays of one shape differ; with `step` by more than one step of float16."""
    if not step or one.dtype.kind != "f":
        return np.asarray(one != other)
    first, second = (_steps(np.asarray(values, np.float16)) for values in (one, other))
    return np.asarray(np.abs(first - second) > 1)


def _steps(values: np.ndarray) -> np.ndarray:
    """float16 numbers as int32 that count from one to the next: neighbours are 1 apart, ±0 are the same."""
    bits = values.view(np.int16).astype(np.int32)
    return np.where(bits < 0, -(bits & 0x7FFF), bits)


def _first(ids: tuple[str, ...]) -> str:
    return ", ".join(ids[:_SHOWN]) + (", …" if len(ids) > _SHOWN else "")
