"""From feature stores to one classification problem: rows and labels of the target and its auxiliaries.

Shapes: n usable rows of a modality, D its features, C classes of the target.

Modalities meet by class name. Rows that could not be read, or that have no label, are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from uml_cache import MADE, InputError, Used, names_samples
from uml_train.data.class_names import check_class_map, match_classes, near_miss_remark, read_class_map
from uml_train.data.given_splits import GivenSplits
from uml_train.data.parts import split_rows
from uml_train.data.selection import Role
from uml_train.data.source import Source, in_shared_spaces, open_store, usable
from uml_train.data.unlabelled import unlabelled_rows

__all__ = ["Problem", "Source", "match_classes", "open_problem", "read_class_map", "without_held_out"]

LeftOut = tuple[str, str, str]
"""A row that is not used: DATASET/LABEL, its id and the reason."""
AS_RECORDED = "recorded"
_FEW = 3  # more rows than these are not left out without a warning


@dataclass(frozen=True, eq=False, kw_only=True)
class Problem:
    """A target with its splits, and the auxiliaries by label.

    `train`, `val`, `test` hold positions in the target's usable rows, `unlabelled` rows of its store
    that have no label and may be trained on; `drawn` says that some of this was
    drawn here and not given with the data; `short_classes` is as in `few_shot`. `notes` says, per auxiliary,
    which of the target's classes it has nothing for and which of its own are not used; `remarks` are
    sentences for the person who runs it. `unrelated` holds stand-ins by label (`text@NAME`), with labels of
    their own classes.
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
    drawn: bool = False
    short_classes: str = "refused"
    unlabelled: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    @property
    def sources(self) -> tuple[Source, ...]:
        """The target, the auxiliaries, and what stands in for these."""
        return (self.target, *self.auxiliaries.values(), *self.unrelated.values())

    @property
    def used(self) -> dict[str, Used]:
        """How many rows of each store are used, and why the others are not."""
        return {source.label: source.tally.used for source in self.sources}

    def left_out(self) -> Iterator[LeftOut]:
        """Every row that is not used."""
        for source in self.sources:
            for row, reason in source.tally.left_out():
                yield f"{self.dataset}/{source.label}", str(source.features.id[row]), reason

    @property
    def test_groups(self) -> int | None:
        """How many groups (speakers, patients) the test rows come from; None where there are no groups."""
        groups = self.target.groups
        return None if groups is None else len(set(map(str, groups[self.test])))

    def ids(self, positions: np.ndarray) -> list[str]:
        """Sample ids of those of the target's usable rows at `positions` (m,) int64."""
        rows = self.target.rows[positions]
        return [str(self.target.features.id[row]) for row in rows]


def open_problem(
    dataset: str,
    target: Role,
    auxiliaries: Sequence[Role],
    class_map: Mapping[str, str] | None = None,
    unrelated: Sequence[Role] = (),
    splits: GivenSplits | None = None,
    opened: Mapping[str, Any] | None = None,
    ids: str = AS_RECORDED,
    short_classes: str = "refused",
    unlabelled: bool = False,
) -> Problem:
    """Open the stores of a target and its auxiliaries and bring them to the target's classes.

    Args:
        class_map: auxiliary class name → target class name, for names that differ.
        unrelated: stores of other data sets that stand in for auxiliaries.
        splits: what stands in place of the target's own splits.
        opened: by label what needs no opening: the rows of a manifest that a network is trained on.
        ids: what equal ids of the target and an auxiliary mean: `shared`, the same sample; `own`, nothing;
            `recorded`, the same sample where both stores were given their ids (`uml_cache.tables.views`).
        short_classes: what a class does that has fewer rows than a draw asks for, as in `few_shot`.
        unlabelled: whether rows of the target without a label are kept for methods that guess them.

    Raises:
        InputError: an unsealed store, a store without pooled features or labels, no class in common, no
            rows to train, validate or test on.
    """
    given = opened or {}
    features = given.get(target.label) or open_store(target.store)
    classes = tuple(features.classes)
    if not classes:
        raise InputError(
            f"{features.path} has no classes: its data set has no labels, so there is nothing to learn"
        )
    source = usable(target.label, features, np.arange(len(classes)))
    remarks: list[str] = []
    parts = split_rows(source, remarks, splits)
    notes: dict[str, dict[str, list[str]]] = {}
    others: dict[str, Source] = {}
    others_opened = {role.label: given.get(role.label) or open_store(role.store) for role in auxiliaries}
    check_class_map(class_map or {}, [features.classes for features in others_opened.values()])
    for role in auxiliaries:
        theirs = others_opened[role.label]
        if not theirs.classes:
            raise InputError(_unlabelled(role, dataset))
        to_target = match_classes(theirs.classes, classes, class_map or {})
        if (to_target < 0).all():
            raise InputError(
                f"{target.label} and {role.label} have no class in common "
                f"({_some(classes)} / {_some(theirs.classes)}); name the pairs with --class-map FILE.csv "
                "(columns auxiliary,target)"
            )
        if missed := near_miss_remark(theirs.classes, classes, to_target):
            remarks.append(f"{role.label}: {missed}")
        other = usable(role.label, theirs, to_target, train_only=True)
        other = without_held_out(other, source, np.concatenate([parts.val, parts.test]), remarks, ids)
        present = np.zeros(len(classes), dtype=bool)
        present[other.labels] = True
        notes[role.label] = {
            "without_auxiliary": [name for name, there in zip(classes, present, strict=True) if not there],
            "unused": [n for n, t in zip(theirs.classes, to_target, strict=True) if t < 0],
        }
        others[role.label] = other
    found = in_shared_spaces({target.label: source, **others})
    return Problem(
        dataset=dataset,
        classes=classes,
        target=found[target.label],
        auxiliaries={label: found[label] for label in others},
        train=parts.train,
        val=parts.val,
        test=parts.test,
        notes=notes,
        remarks=remarks,
        unrelated={role.label: _stand_in(role) for role in unrelated},
        drawn=parts.drawn,
        short_classes=short_classes,
        unlabelled=unlabelled_rows(source, parts) if unlabelled else np.empty(0, dtype=np.int64),
    )


def without_held_out(
    other: Source, target: Source, held_out: np.ndarray, remarks: list[str], ids: str = AS_RECORDED
) -> Source:
    """An auxiliary without the samples that the target is validated or tested on.

    Where ids name samples in both stores (see `open_problem`), the same id is the same sample: a sound and
    its transcript, one picture seen by two encoders. A group (speaker, patient) is the same in every
    modality; an empty one is none.

    Args:
        held_out: positions (m,) int64 of those samples in the target's rows.

    Raises:
        InputError: no sample is left.
    """
    kinds = [source.features.id_kind for source in (other, target)]
    held = np.zeros(len(other.rows), dtype=bool)
    if ids == "shared" or (ids == AS_RECORDED and all(map(names_samples, kinds))):
        theirs = np.asarray(other.features.id, dtype=object)[other.rows]
        held = np.isin(
            theirs.astype(str),
            np.asarray(target.features.id, dtype=object)[target.rows[held_out]].astype(str),
        )
    by_id = int(held.sum())
    groups, their_groups = target.groups, other.groups
    if groups is not None and their_groups is not None:
        strings = their_groups.astype(str)
        held |= np.isin(strings, groups[held_out].astype(str)) & (strings != "")
    if ids == AS_RECORDED and MADE in kinds and len(other.features.id) == len(target.features.id):
        remarks.append(
            f"{other.label} and {target.label} have equally many rows, and row numbers as ids, which "
            "count as "
            "different samples; if row i is the same sample in both, give --ids shared"
        )
    if not held.any():
        return other
    why = f"same id or group as validation and test rows of {target.label}"
    if held.all():
        raise InputError(
            f"every row of {other.label} has the id or group of a validation or test row of {target.label}: "
            "training on it would leak; if its ids name other samples, give --ids own"
        )
    unsure = " (a store of version 0.1 does not say whether its ids were given or made; they count as given)"
    remarks.append(
        f"{'warning: ' if held.sum() > _FEW else ''}{other.label}: {int(held.sum()):,} of {len(held):,} rows "
        f"are left out, because their ids or groups are those of {target.label}'s validation and test rows"
        + (unsure if by_id and None in kinds and ids == AS_RECORDED else "")
        + ("; if equal ids are different samples here, give --ids own" if by_id else "")
    )
    return other.without(held, why)


def _stand_in(role: Role) -> Source:
    features = open_store(role.store)
    return usable(role.label, features, np.arange(len(features.classes)), train_only=True)


def _unlabelled(role: Role, dataset: str) -> str:
    """Why an auxiliary without labels cannot help here, and where its samples get some."""
    way = "give each sample one of the target's classes"
    if role.store.modality == "text":
        way = (
            f"`uml data text {dataset} --texts FILE` gives each text the class that it mentions (FILE holds "
            f"the texts; first `uml data build {dataset} --root FOLDER`, unless ./data/{dataset} is "
            f"there), then `uml extract --encoder {role.store.encoder_name} --data data/{dataset}/text.loose`"
        )
    return f"{role.store.path} has no labels, so heads cannot learn from it: {way}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f", … {len(names)} in all" if len(names) > 3 else "")
