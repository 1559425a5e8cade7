"""The manifest: which samples a data set has, in which order, with which labels and splits.

Legend: N samples, C classes. Row i of `ids`, `sources`, `labels`, `splits` and `groups` is the same sample;
this order is the row order of every feature store made from the manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from uml_cache import (
    GIVEN,
    ID_KINDS,
    Account,
    InputError,
    clean_name,
    lacking,
    sample_keys,
    unknown,
    without_view_numbers,
)

MODALITIES = ("image", "text", "audio", "array")
SPLITS = ("train", "val", "test")  # their position is their code
NO_SPLIT = 255
SPARSE = "sparse"  # stands for the size of a tar's member that cannot be read in place
NO_LABEL = -1
_TRIAL = "limit"  # the option of a manifest that was cut for a trial


@dataclass(frozen=True, eq=False, kw_only=True)
class Manifest:
    """One modality of one data set (and one set of it, such as the `cupl` texts).

    Args:
        name: The data set's name, kept in NFC; stores of different modalities meet under it.
        modality: `image`, `text`, `audio` or `array`.
        set: Which samples of the modality, for example a kind of text; None for the only one.
        classes: C class names; `labels` index them. Names may repeat (ImageNet has two pairs).
        root: Folder that relative sources start from (unused for texts).
        ids: N unique, non-empty strings.
        sources: N paths (relative to `root` with forward slashes, or absolute; `FILE::PART` is a part of a
            file, see `uml_manifests.sources.records`), or the N texts themselves.
        labels: (N,) int32 class indices in [-1, C); -1 is "no label".
        splits: (N,) uint8; 0 train, 1 val, 2 test, 255 none.
        groups: N strings (speaker, patient, video …) that no split may cut through, or None.
        licence, source: Where the data comes from and under which terms, or None.
        prompts: Sentences with `{}` in the class name's place, for `template_manifest`.
        options: How it was built where there was a choice (`trim=text`), part of the digest.
        remarks: Sentences about how the data was read: what was chosen, what needs saying.
        left_out: What was found and not taken: pairs of a name and a reason.
        id_kind: What the ids are (`uml_cache.tables.views`): `given` by the data, `made` by the reader, or
            declared to be `shared` with the data set's other modalities or this one's `own`.
        origin: What `resolve_data` found it by, part of no digest; None: it cannot be found again.

    Raises:
        InputError: lengths that differ, a duplicate id, a label outside the classes, an unknown split code,
            a relative path that leaves `root`, a text that is not valid Unicode.
    """

    name: str
    modality: str
    classes: tuple[str, ...]
    root: Path
    ids: list[str]
    sources: list[str]
    labels: np.ndarray
    splits: np.ndarray
    set: str | None = None
    groups: list[str] | None = None
    licence: str | None = None
    source: str | None = None
    prompts: tuple[str, ...] = field(default=())
    options: tuple[str, ...] = field(default=())
    remarks: tuple[str, ...] = field(default=())
    left_out: tuple[tuple[str, str], ...] = field(default=())
    id_kind: str = GIVEN
    origin: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", clean_name(self.name))
        object.__setattr__(self, "set", None if self.set is None else clean_name(self.set))
        object.__setattr__(self, "labels", np.asarray(self.labels, dtype=np.int32))
        object.__setattr__(self, "splits", np.asarray(self.splits, dtype=np.uint8))
        object.__setattr__(self, "root", Path(os.path.abspath(self.root)))
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "prompts", tuple(self.prompts))
        object.__setattr__(self, "options", tuple(self.options))
        _check_header(self)
        _check_rows(self)

    def __len__(self) -> int:
        return len(self.ids)

    def some(self, rows: Sequence[int] | np.ndarray) -> Self:
        """The manifest of `rows` (n,) int64, in their order; `resolve_data` does not find it again."""
        return replace(
            self,
            ids=[self.ids[row] for row in rows],
            sources=[self.sources[row] for row in rows],
            labels=self.labels[rows],
            splits=self.splits[rows],
            groups=None if self.groups is None else [self.groups[row] for row in rows],
            origin=None,
            **self._of_rows(rows),
        )

    def trial(self, limit: int) -> Self:
        """The manifest of at most `limit` rows, spread over all; its stores have a name of their own."""
        if limit >= len(self):
            return self
        some = self.some(np.linspace(0, len(self) - 1, limit).astype(np.int64))
        remark = f"a trial with {limit:,} of {len(self):,} samples, spread over the data set"
        options = (*self.options, f"{_TRIAL}={limit}")
        return replace(some, options=options, remarks=(*self.remarks, remark))

    @property
    def trial_name(self) -> str | None:
        """Such as `limit100`, of what `trial` gave; None for whole data."""
        return next((o.replace("=", "") for o in self.options if o.startswith(f"{_TRIAL}=")), None)

    def _of_rows(self, rows: Sequence[int] | np.ndarray) -> dict[str, Any]:
        """What a kind of manifest has for each row beside."""
        return {}

    def path(self, row: int) -> Path:
        """The file of one sample (image and audio; a text has none)."""
        return self.root / self.sources[row]

    @property
    def store_name(self) -> str:
        """`<modality>[.<set>]`, the folder name of this manifest and of its feature stores."""
        return self.modality if self.set is None else f"{self.modality}.{self.set}"

    @property
    def missing_classes(self) -> tuple[str, ...]:
        """Names of the classes that have not one sample (in class order)."""
        seen = np.zeros(len(self.classes) + 1, dtype=bool)
        seen[self.labels] = True  # label -1 lands in the extra last place
        return tuple(name for name, there in zip(self.classes, seen[:-1], strict=True) if not there)

    @property
    def split_counts(self) -> dict[str, int]:
        """Samples per split; samples of no split under `none`, which is left out where there are none."""
        counts = {name: int(np.count_nonzero(self.splits == code)) for code, name in enumerate(SPLITS)}
        rest = len(self) - sum(counts.values())
        return {name: n for name, n in {**counts, "none": rest}.items() if n}

    def account(self) -> Account:
        """What became of everything that was found, by reason."""
        return Account(used=len(self), left_out=self.left_out, lacking=lacking(self.labels, self.splits))

    @cached_property
    def sample_keys(self) -> np.ndarray:
        """(N,) uint64, equal where rows are views of one sample: the same file, the same text (but for
        blanks), or rows of arrays that had one id."""
        if self.modality == "text":
            return sample_keys(" ".join(unicodedata.normalize("NFC", text).split()) for text in self.sources)
        if self.modality == "array":
            return sample_keys(without_view_numbers(self.ids))
        base = self.root.as_posix().rstrip("/") + "/"
        return sample_keys(os.path.normpath(source).removeprefix(base) for source in self.sources)

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of what decides the features: names, classes, rows and options.

        It does not depend on where the folder lies (an absolute path below `root` counts as a relative one),
        nor on licence, source and prompts.
        """
        sources = self.sources
        if self.modality != "text":
            base = self.root.as_posix().rstrip("/") + "/"
            sources = [source.removeprefix(base) for source in sources]
        digest = hashlib.sha256()
        for part in ([self.name, self.modality, self.set], self.classes, self.ids, sources, self.groups):
            digest.update(json.dumps(part, separators=(",", ":")).encode() + b"\n")
        if self.options:
            digest.update(json.dumps(self.options).encode() + b"\n")
        digest.update(np.ascontiguousarray(self.labels, dtype="<i4").tobytes())
        digest.update(np.ascontiguousarray(self.splits, dtype=np.uint8).tobytes())
        return digest.hexdigest()


def _check_header(manifest: Manifest) -> None:
    if manifest.id_kind not in ID_KINDS:
        raise unknown("kind of ids", manifest.id_kind, ID_KINDS)
    if manifest.modality not in MODALITIES:
        raise unknown("modality", manifest.modality, MODALITIES)
    for kind, value in (("name", manifest.name), ("set", manifest.set)):
        if value is not None and (not value.strip() or value in (".", "..") or not value.isprintable()):
            raise InputError(f"{kind} {value!r} of a data set cannot name a folder; use letters and digits")
    for index, name in enumerate(manifest.classes):
        if not name.strip():
            raise InputError(f"data set {manifest.name!r}: class {index} has an empty name")
    for prompt in manifest.prompts:
        if "{}" not in prompt:
            raise InputError(f"data set {manifest.name!r}: prompt {prompt!r} has no {{}} for the class name")


def _check_rows(manifest: Manifest) -> None:
    who, ids, sources = f"data set {manifest.name!r}", manifest.ids, manifest.sources
    labels, splits = manifest.labels, manifest.splits
    if not ids:
        raise InputError(f"{who} has no samples")
    lengths = {"sources": len(sources), "labels": labels.size, "splits": splits.size}
    if manifest.groups is not None:
        lengths["groups"] = len(manifest.groups)
    for kind, length in lengths.items():
        if length != len(ids):
            raise InputError(f"{who} has {len(ids)} ids but {length} {kind}")
    if len(set(ids)) != len(ids):
        raise InputError(f"{who}: id {first_repeat(ids)[0]!r} occurs twice; ids must be unique")
    if not all(ids):
        raise InputError(f"{who}: sample {ids.index('')} has an empty id")
    bad = np.flatnonzero((labels < NO_LABEL) | (labels >= len(manifest.classes)))
    if bad.size:
        raise InputError(
            f"{who}: sample {ids[bad[0]]!r} has label {labels[bad[0]]}, "
            f"but there are {len(manifest.classes)} classes (-1 is no label)"
        )
    bad = np.flatnonzero((splits >= len(SPLITS)) & (splits != NO_SPLIT))
    if bad.size:
        raise InputError(f"{who}: sample {ids[bad[0]]!r} has split code {splits[bad[0]]}; known: 0 1 2 255")
    if manifest.modality != "text":
        for row, problem in bad_paths(sources):
            raise InputError(f"{who}: sample {ids[row]!r}: {problem}")
    everything = (*manifest.classes, *ids, *sources, *(manifest.groups or ()))
    try:
        "".join(everything).encode()
    except UnicodeEncodeError:
        culprit = next(text for text in everything if not _is_unicode(text))
        raise InputError(f"{who}: {culprit!r} is not valid Unicode; rename it") from None


def bad_paths(sources: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Rows whose source cannot be a sample's path (it must be absolute or stay below the root), and why."""
    together = "\n".join(sources)
    if "" not in sources and ".." not in together and "\0" not in together:
        return  # a million paths are checked in a few passes of C
    for row, source in enumerate(sources):
        if not source:
            yield row, "the path is empty"
        elif "\0" in source:
            yield row, f"path {source!r} has a zero byte in it, which no file's name has"
        elif not os.path.isabs(source) and os.path.normpath(source).split("/")[0] == "..":
            yield row, f"path {source!r} leaves the data set's root; give it as an absolute path"


def first_repeat(values: list[str] | tuple[str, ...]) -> tuple[str, int, int]:
    """The first value that occurs again, with the positions of both occurrences."""
    seen: dict[str, int] = {}
    for position, value in enumerate(values):
        if value in seen:
            return value, seen[value], position
        seen[value] = position
    raise AssertionError("no value repeats")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
