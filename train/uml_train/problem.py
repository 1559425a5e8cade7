"""From feature stores to one classification problem: rows and labels of the target and its auxiliaries.

Shapes: n usable rows of a modality, D its features, C classes of the target.

Modalities meet by class name. Rows that could not be read, or that have no label, are left out.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uml_cache import FeatureSet, StoreInfo, open_features
from uml_cache.errors import InputError, unknown
from uml_manifests import NO_SPLIT, SPLITS, stratified_split
from uml_train.selection import Role

TRAIN, VAL, TEST = (SPLITS.index(name) for name in ("train", "val", "test"))
_SPLIT_SEED = 0


@dataclass(frozen=True, eq=False, kw_only=True)
class Source:
    """One modality of the problem.

    `rows` (n,) int64 are the store's usable rows in store order, `labels` (n,) int64 their target classes.
    """

    label: str
    features: FeatureSet
    rows: np.ndarray
    labels: np.ndarray

    @property
    def encoder(self) -> str:
        """Name of the encoder, with the store's variant."""
        variant = self.features.variant
        return f"{self.features.encoder_name}@{variant}" if variant else self.features.encoder_name

    @property
    def joint_space(self) -> str | None:
        """The space that the encoder shares with others, such as CLIP's towers; None for most."""
        space = self.features.encoder.get("joint_space")
        return None if space is None else str(space)

    @property
    def dim(self) -> int:
        """D, the width of the pooled features."""
        return int(self.features.dim)

    def values(self, positions: np.ndarray) -> torch.Tensor:
        """Raw features (len(positions), D) float32 of some of the usable rows, by position in `rows`."""
        index = torch.from_numpy(self.rows[positions])
        return self.features.pooled.index_select(0, index).to(torch.float32)


@dataclass(frozen=True, eq=False, kw_only=True)
class Problem:
    """A target with its splits, and the auxiliaries by label.

    `train`, `val`, `test` hold positions in the target's usable rows. `notes` says, per auxiliary, which of
    the target's classes it has nothing for and which of its own are not used; `remarks` are sentences for
    the person who runs it. `unrelated` holds stand-ins by label (`text@NAME`), with labels of their own
    classes.
    """

    dataset: str
    classes: tuple[str, ...]
    target: Source
    auxiliaries: Mapping[str, Source]
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    notes: dict[str, dict[str, list[str]]]
    remarks: list[str]
    unrelated: Mapping[str, Source] = field(default_factory=dict)

    @property
    def test_groups(self) -> int | None:
        """How many groups (speakers, patients) the test rows come from; None where there are no groups."""
        groups = _groups_of(self.target)
        return None if groups is None else len(set(map(str, groups[self.test])))

    def ids(self, positions: np.ndarray) -> list[str]:
        """Sample ids of some of the target's usable rows."""
        rows = self.target.rows[positions]
        return [str(self.target.features.id[row]) for row in rows]


def open_problem(
    dataset: str,
    target: Role,
    auxiliaries: Sequence[Role],
    class_map: Mapping[str, str] | None = None,
    unrelated: Sequence[Role] = (),
    opened: Mapping[str, Any] | None = None,
) -> Problem:
    """Open the stores of a target and its auxiliaries and bring them to the target's classes.

    Args:
        class_map: auxiliary class name → target class name, for names that differ.
        unrelated: stores of other data sets that stand in for auxiliaries.
        opened: by label what needs no opening: the rows of a manifest that a network is trained on.

    Raises:
        InputError: an unsealed store, a store without pooled features or labels, no class in common, no
            rows to train, validate or test on.
    """
    given = opened or {}
    features = given.get(target.label) or _open(target.store)
    classes = tuple(features.classes)
    if not classes:
        raise InputError(
            f"{features.path} has no classes: its data set has no labels, so there is nothing to learn"
        )
    source = _usable(target.label, features, np.arange(len(classes)))
    remarks: list[str] = []
    train, val, test = _splits(source, remarks)
    notes: dict[str, dict[str, list[str]]] = {}
    others: dict[str, Source] = {}
    others_opened = {role.label: given.get(role.label) or _open(role.store) for role in auxiliaries}
    _check_class_map(class_map or {}, others_opened.values())
    for role in auxiliaries:
        theirs = others_opened[role.label]
        to_target = _match(theirs.classes, classes, class_map or {})
        if (to_target < 0).all():
            raise InputError(
                f"{target.label} and {role.label} have no class in common "
                f"({_some(classes)} / {_some(theirs.classes)}); name the pairs with --class-map FILE.csv "
                "(columns auxiliary,target)"
            )
        other = _usable(role.label, theirs, to_target, train_only=True)
        other = _without_held_out(other, source, np.concatenate([val, test]), remarks)
        present = np.zeros(len(classes), dtype=bool)
        present[other.labels] = True
        notes[role.label] = {
            "without_auxiliary": [name for name, there in zip(classes, present, strict=True) if not there],
            "unused": [n for n, t in zip(theirs.classes, to_target, strict=True) if t < 0],
        }
        others[role.label] = other
    return Problem(
        dataset=dataset,
        classes=classes,
        target=source,
        auxiliaries=others,
        train=train,
        val=val,
        test=test,
        notes=notes,
        remarks=remarks,
        unrelated={role.label: _stand_in(role) for role in unrelated},
    )


def read_class_map(path: Path) -> dict[str, str]:
    """Read a CSV with the columns auxiliary, target. Raises `InputError` where it is none."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            if not {"auxiliary", "target"} <= set(table.fieldnames or ()):
                raise InputError(
                    f"class map {path} has columns {table.fieldnames}; expected auxiliary,target"
                )
            return {row["auxiliary"]: row["target"] for row in table}
    except FileNotFoundError:
        raise InputError(f"class map {path} does not exist") from None
    except UnicodeDecodeError as error:
        raise InputError(f"class map {path} is not UTF-8: {error.reason} at byte {error.start}") from None


def _open(store: StoreInfo) -> FeatureSet:
    features = open_features(store.path)
    if features.info.dim is None:
        raise InputError(f"{store.path} has no pooled features; extract it again with --pool")
    return features


def _usable(label: str, features: FeatureSet, to_target: np.ndarray, *, train_only: bool = False) -> Source:
    labels = np.full(len(features.label), -1, dtype=np.int64)
    labelled = features.label >= 0
    labels[labelled] = to_target[features.label[labelled]]
    keep = (labels >= 0) & features.valid
    if train_only and (features.split != NO_SPLIT).any():
        keep &= features.split == TRAIN
    rows = np.flatnonzero(keep)
    if len(rows) == 0:
        counts = (
            f"{int(features.valid.sum())} readable, {int((labels >= 0).sum())} with a class of the target"
        )
        where = (
            ", none of these in its training part"
            if train_only and ((labels >= 0) & features.valid).any()
            else ""
        )
        raise InputError(f"{features.path} has no row to learn from: of {len(labels)} rows {counts}{where}")
    return Source(label=label, features=features, rows=rows, labels=labels[rows])


def _without_held_out(other: Source, target: Source, held_out: np.ndarray, remarks: list[str]) -> Source:
    """An auxiliary without the samples that the target is validated or tested on.

    In one data set the same id is the same sample (a sound and its transcript, one picture seen by two
    encoders), and a group (speaker, patient) is the same group in every modality.
    """
    ids = np.asarray(target.features.id, dtype=object)[target.rows[held_out]]
    theirs = np.asarray(other.features.id, dtype=object)[other.rows]
    held = np.isin(theirs.astype(str), ids.astype(str))
    groups, their_groups = _groups_of(target), _groups_of(other)
    if groups is not None and their_groups is not None:
        held |= np.isin(their_groups.astype(str), groups[held_out].astype(str))
    if not held.any():
        return other
    if held.all():
        raise InputError(
            f"every row of {other.label} is a validation or test row of {target.label} (same id or group): "
            "training on it would leak; give its samples ids of their own if they are other samples"
        )
    remarks.append(
        f"{other.label}: {int(held.sum())} of {len(held)} rows are left out, because their ids or groups are "
        f"those of {target.label}'s validation and test rows"
    )
    return Source(
        label=other.label, features=other.features, rows=other.rows[~held], labels=other.labels[~held]
    )


def _check_class_map(class_map: Mapping[str, str], auxiliaries: Iterable[FeatureSet]) -> None:
    known = {_normal(name) for features in auxiliaries for name in features.classes}
    for name in class_map:
        if _normal(name) not in known:
            raise unknown("auxiliary class in the class map:", name, known)


def _stand_in(role: Role) -> Source:
    features = _open(role.store)
    return _usable(role.label, features, np.arange(len(features.classes)), train_only=True)


def _normal(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def _match(theirs: Sequence[str], ours: Sequence[str], class_map: Mapping[str, str]) -> np.ndarray:
    """(len(theirs),) target class of each auxiliary class, −1 where there is none."""
    position: dict[str, int] = {}
    for i, name in enumerate(ours):
        position.setdefault(_normal(name), i)
    mapped = {_normal(k): _normal(v) for k, v in class_map.items()}
    for name in mapped.values():
        if name not in position:
            raise InputError(f"the class map names {name!r}, which is no class of the target ({_some(ours)})")
    if not mapped and [_normal(n) for n in theirs] == [_normal(n) for n in ours]:
        return np.arange(len(ours))  # also right where a name occurs twice
    names = [mapped.get(_normal(n), _normal(n)) for n in theirs]
    return np.array([position.get(name, -1) for name in names], dtype=np.int64)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f", … {len(names)} in all" if len(names) > 3 else "")


def _splits(source: Source, remarks: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions of the train, validation and test rows; drawn where the manifest does not say."""
    codes = source.features.split[source.rows].copy()
    groups = _groups_of(source)
    if (codes == NO_SPLIT).all():
        codes = stratified_split(source.labels, groups, seed=_SPLIT_SEED)
        remarks.append(
            f"{source.label} has no splits: drew 60/20/20 per class (seed {_SPLIT_SEED}), saved with the run"
        )
    elif not (codes == VAL).any() and (codes == TRAIN).any():
        train = np.flatnonzero(codes == TRAIN)
        part = stratified_split(
            source.labels[train],
            None if groups is None else groups[train],
            seed=_SPLIT_SEED,
            parts=(0.8, 0.2, 0.0),
        )
        codes[train[part == VAL]] = VAL
        remarks.append(
            f"{source.label} has no validation split: took 20 % of its training rows (seed {_SPLIT_SEED})"
        )
    _check_groups(source, groups, codes)
    train, val, test = (np.flatnonzero(codes == code) for code in (TRAIN, VAL, TEST))
    for name, part in (("train", train), ("val", val), ("test", test)):
        if len(part) == 0:
            raise InputError(
                f"{source.features.path} has no readable {name} row; its manifest's splits leave none"
            )
    return train, val, test


def _check_groups(source: Source, groups: Any, codes: np.ndarray) -> None:
    """Refuse splits that cut a group: what the training part knows of it would help on the test part."""
    parts: dict[str, int] = {}
    for group, code in zip(groups if groups is not None else (), codes, strict=groups is not None):
        if code != NO_SPLIT and parts.setdefault(str(group), int(code)) != code:
            both = " and ".join(SPLITS[c] for c in sorted((parts[str(group)], int(code))))
            raise InputError(
                f"{source.features.path}: group {str(group)!r} occurs in {both}; a group must lie in one "
                "part: change the split column of its manifest, or leave the group column out"
            )


def _groups_of(source: Source) -> Any:
    groups = source.features.groups
    return None if groups is None else np.asarray(groups)[source.rows]
