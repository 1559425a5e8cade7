"""What a store is going to hold, fixed before the first sample is encoded.

Shapes: N samples.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache.errors import InputError, unknown
from uml_cache.remote import as_path
from uml_cache.store.journal import digest
from uml_cache.store.plans.layout import (
    DTYPES,
    FORMAT_VERSION,
    IDS,
    NO_SPLIT,
    SPLIT_NAMES,
    Layout,
    plan_layout,
)
from uml_cache.store.states import plain_name
from uml_cache.tables.views import GIVEN, ID_KINDS

_OF_SAMPLES = ("manifest_digest", "token_counts", "grown")


@dataclass(frozen=True)
class Grown:
    """How a state came from the one before.

    `rows` are the numbers of rows of all states up to this one; `digest` tells which rows were taken and
    flagged. `task_rows` and `token_rows` are the S and R that this state keeps, so that shards stay as they
    are; 0: they are chosen anew.
    """

    rows: tuple[int, ...]
    digest: str
    task_rows: int = 0
    token_rows: int = 0


@dataclass(frozen=True, eq=False, kw_only=True)
class StorePlan:
    """Everything that is known of a store before extraction; row i is the same sample in every array.

    `encoder` is the encoder's spec as JSON (name, weights digest, transform, pooling, layer, …). `labels`
    (N,) int32, -1 = none, index `classes`; `splits` (N,) uint8 is 0 train, 1 val, 2 test, 255 none.
    `token_counts` (N,) int32 goes with `token_dim`. `dtype` is what is stored, `compute_dtype` what is
    computed in. Where the encoder has a `vocabulary`, tokens are ids below it: int32, one a token, nothing
    pooled.
    `samples` (N,) uint64 are equal where rows are views of one sample, and `id_kind` says what the ids are
    (`uml_cache.tables.views`).
    `grown` says how a state came from the one before; None for a store that has not grown.
    `versions` and `device` are recorded, and part of no digest.
    """

    dataset: str
    modality: str
    set: str | None = None
    encoder: dict[str, Any]
    variant: str | None = None
    manifest_digest: str
    classes: Sequence[str]
    ids: Sequence[str]
    labels: np.ndarray
    splits: np.ndarray
    groups: Sequence[str] | None = None
    samples: np.ndarray | None = None
    id_kind: str = GIVEN
    pooled_dim: int | None = None
    token_dim: int | None = None
    token_counts: np.ndarray | None = None
    dtype: str = "float16"
    compute_dtype: str = "float32"
    batch_size: int
    versions: Mapping[str, str]
    device: str
    grown: Grown | None = None

    def __post_init__(self) -> None:
        try:
            json.dumps([self.dataset, self.set, self.encoder, *self.classes], ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            wrong = error.object[max(0, error.start - 10) : error.end]
            raise InputError(f"names of a store are not valid Unicode: {wrong!r}; rename it") from None
        rows = len(self.ids)
        if rows == 0:
            raise InputError(f"data set {self.dataset!r} has no samples: a store needs at least one")
        if "name" not in self.encoder:
            raise ValueError("the encoder's spec has no name")
        self._check_dtype()
        if self.pooled_dim is None and self.token_dim is None:
            raise InputError("a store holds pooled features, tokens or both; neither was asked for")
        if (self.token_dim is None) != (self.token_counts is None):
            raise ValueError("token_dim and token_counts go together")
        columns = {
            "labels": self.labels,
            "splits": self.splits,
            "groups": self.groups,
            "samples": self.samples,
        }
        for name, column in {**columns, "token_counts": self.token_counts}.items():
            if column is not None and len(column) != rows:
                raise ValueError(f"{name} has {len(column)} rows, ids has {rows}")
        if self.id_kind not in ID_KINDS:
            raise unknown("kind of ids", self.id_kind, ID_KINDS)
        if len(set_of(self.ids)) != rows:
            raise InputError(f"data set {self.dataset!r} has sample ids that occur more than once")
        if self.labels.min() < -1 or self.labels.max() >= len(self.classes):
            raise InputError(
                f"labels go from {self.labels.min()} to {self.labels.max()}; with {len(self.classes)} "
                f"classes they must lie between -1 (none) and {len(self.classes) - 1}"
            )
        if not np.isin(self.splits, [*range(len(SPLIT_NAMES)), NO_SPLIT]).all():
            raise InputError(f"splits are 0, 1, 2 ({', '.join(SPLIT_NAMES)}) or {NO_SPLIT} for none")
        if self.token_counts is not None and self.token_counts.min() < 0:
            raise ValueError("token_counts must not be negative")

    def _check_dtype(self) -> None:
        if self.vocabulary is None:
            if self.dtype not in DTYPES:
                raise InputError(f"unknown storage dtype {self.dtype!r}; known: {', '.join(DTYPES)}")
            return
        if (self.dtype, self.pooled_dim, self.token_dim) != (IDS, None, 1):
            raise ValueError(f"ids of tokens are stored as {IDS}, one a token, with no pooled features")
        if not 1 <= self.vocabulary <= np.iinfo(IDS).max:
            raise InputError(f"a vocabulary of {self.vocabulary} ids; {IDS} takes 1 to {np.iinfo(IDS).max}")

    @property
    def vocabulary(self) -> int | None:
        """The encoder's: tokens are ids below it, discrete; None where they are vectors."""
        return self.encoder.get("vocabulary")

    @cached_property
    def layout(self) -> Layout:
        """How the rows are cut into tasks."""
        kept = (0, 0) if self.grown is None else (self.grown.task_rows, self.grown.token_rows)
        return plan_layout(
            len(self.ids), self.dtype, self.pooled_dim, self.token_dim, self.token_counts, kept=kept
        )

    @cached_property
    def fields(self) -> dict[str, Any]:
        """What decides every stored value; two plans with equal fields make the same store."""
        counts = self.token_counts
        tokens = None if counts is None else hashlib.sha256(counts.astype("<i4").tobytes()).hexdigest()
        fields = {
            "format_version": FORMAT_VERSION,
            "dataset": self.dataset,
            "modality": self.modality,
            "set": self.set,
            "encoder": self.encoder,
            "variant": self.variant,
            "manifest_digest": self.manifest_digest,
            "compute_dtype": self.compute_dtype,
            "dtype": self.dtype,
            "batch_size": self.batch_size,
            "pooled_dim": self.pooled_dim,
            "token_dim": self.token_dim,
            "token_counts": tokens,
        }
        if self.grown is not None:
            fields["grown"] = {"rows": self.grown.rows, "digest": self.grown.digest}
        return json.loads(json.dumps(fields, allow_nan=False))

    @property
    def stamp(self) -> str:
        """sha256 over `fields`: every record of the store carries it, so that none strays into another."""
        return digest(self.fields)

    @property
    def digest(self) -> str:
        """sha256 over what a store must share to be resumed or to grow; see `plan_digest`."""
        return plan_digest(self.fields)

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of the store's root group."""
        return {
            **{name: value for name, value in self.fields.items() if name != "token_counts"},
            "fingerprint": self.stamp,  # the key's name in version 0.1, which had no other digest
            "classes": list(self.classes),
            "splits": list(SPLIT_NAMES),
            "ids": self.id_kind,
            "rows": len(self.ids),
            "tasks": self.layout.tasks,
            "task_rows": self.layout.task_rows,
            "token_rows": self.layout.token_rows,
            "versions": dict(self.versions),
            "device": self.device,
        }


def plan_digest(fields: Mapping[str, Any]) -> str:
    """sha256 over a plan's `fields` without what depends on the samples: which they are, and their tokens.

    Two stores with one plan hold features that were made alike, and may be parts of one store.
    """
    return digest({name: value for name, value in fields.items() if name not in _OF_SAMPLES})


def set_of(ids: Sequence[str]) -> frozenset[str]:
    """The distinct ids (`set` is a field's name in `StorePlan`)."""
    return frozenset(ids)


def differences(there: Mapping[str, Any], asked: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The fields in which two plans differ, each as `name: there → asked`, nested ones by dotted name."""
    found = []
    for name in sorted({*there, *asked}):
        old, new = there.get(name), asked.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f"{prefix}{name}.")
        elif old != new:
            found.append(f"{prefix}{name}: {_short(old)}, now {_short(new)}")
    return found


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:36]}…"


def store_path(
    feats: Path | str,
    dataset: str,
    modality: str,
    set: str | None,
    encoder_name: str,
    variant: str | None = None,
) -> Path:
    """`FEATS/<dataset>/<modality>[.<set>]/<encoder>[@variant].zarr`; `/` and `:` in names become `_`."""
    kind = modality if set is None else f"{modality}.{set}"
    encoder = plain_name(encoder_name if variant is None else f"{encoder_name}@{variant}")
    parts = [_file_name(part) for part in (dataset, kind, f"{encoder}.zarr")]
    return as_path(feats).joinpath(*parts)


def _file_name(name: str) -> str:
    clean = name.replace("/", "_").replace(":", "_").replace("\\", "_")
    if clean.strip(".") == "" or clean.startswith(".") or "\0" in clean:
        raise InputError(
            f"{name!r} cannot name a folder of the cache: it must not be empty or start with a dot"
        )
    return clean
