"""Which rows of the target train, validate and test; groups (speakers, patients) stay in one part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from uml_cache import FLAGGED, InputError, plain_id
from uml_manifests import NO_SPLIT, SPLITS, grown_split
from uml_train.data.given_splits import GivenSplits, given_codes
from uml_train.data.source import TEST, TRAIN, VAL, Source

_SPLIT_SEED = 0


@dataclass(frozen=True, eq=False)
class Parts:
    """Positions of the target's train, validation and test rows, (n',) int64 each.

    `drawn`: whether some of it was drawn here and not given with the data.
    """

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    drawn: bool


def split_rows(source: Source, remarks: list[str], given: GivenSplits | None = None) -> Parts:
    """The target's parts; drawn where the manifest does not say. Rows in none are counted as left out.

    Splits that are `given` stand for the manifest's.

    Raises:
        InputError: a part without rows, a group in two parts, training rows of one class alone.
    """
    codes = source.features.split[source.rows].copy()
    groups, samples = source.groups, source.samples
    drawn, unused = False, "in no split"
    if given is not None:
        ids = np.asarray(source.features.id, dtype=object)[source.rows]
        codes = given_codes(ids, source.labels, codes, given, source.label, remarks)
        unused = "in no split of the run" if given.recorded else "in no split of --splits"
        drawn = given.recorded
    elif (codes == NO_SPLIT).all():
        codes, drawn = _drawn(source, np.arange(len(source.rows)), (0.6, 0.2, 0.2)), True
        how = "60/20/20 per class"
        if groups is not None and any(groups):
            numbers = "/".join(f"{int((codes == code).sum()):,}" for code in (TRAIN, VAL, TEST))
            how = f"{numbers} rows, every group in one part"
        remarks.append(f"{source.label} has no splits: drew {how} (seed {_SPLIT_SEED}), saved with the run")
        _say_views(source, samples, remarks)
    elif not (codes == VAL).any() and (codes == TRAIN).any():
        drawn = True
        train = np.flatnonzero(codes == TRAIN)
        part = _drawn(source, train, (0.8, 0.2, 0.0))
        codes[train[part == VAL]] = VAL
        remarks.append(
            f"{source.label} has no validation split: took 20 % of its training rows (seed {_SPLIT_SEED})"
        )
    source.tally.leave_out(source.rows[codes == NO_SPLIT], unused)
    _check_groups(source, groups, codes)
    _say_torn_views(source, samples, codes, remarks)
    train, val, test = (np.flatnonzero(codes == code) for code in (TRAIN, VAL, TEST))
    for name, part in (("train", train), ("val", val), ("test", test)):
        if len(part) == 0:
            raise InputError(
                f"{source.features.path} has no readable {name} row; its manifest's splits leave none"
            )
    _check_classes(source, train, test, remarks)
    return Parts(train, val, test, drawn)


def _drawn(source: Source, positions: np.ndarray, parts: tuple[float, float, float]) -> np.ndarray:
    """(n,) uint8 split codes of some usable rows, by their `positions` (n,) int64.

    Of a store that has grown the rows of each state are drawn by themselves, those included that a later
    state has replaced or removed: so the others stay in the part that they had.
    """
    features, rows = source.features, source.rows[positions]
    flagged = np.flatnonzero(np.isin(features.status, FLAGGED) & (features.label >= 0))
    flagged = flagged[np.isin(features.split[flagged], features.split[rows])]
    every = np.union1d(rows, flagged)
    labels = np.full(len(features), -1, np.int64)
    labels[flagged] = features.label[flagged]
    labels[rows] = source.labels[positions]
    ends = [int(np.searchsorted(every, end)) for end in features.info.grown]
    groups, ids = features.groups, None
    if ends:
        replaced = set(flagged.tolist())
        names = features.id
        ids = [plain_id(names[row]) if row in replaced else names[row] for row in every.tolist()]
    codes = np.zeros(len(features), np.uint8)
    codes[every] = grown_split(
        labels[every],
        None if groups is None else np.asarray(groups, object)[every].tolist(),
        seed=_SPLIT_SEED,
        parts=parts,
        samples=features.samples[every],
        ends=ends,
        ids=ids,
    )
    return codes[rows]


def _say_views(source: Source, samples: np.ndarray, remarks: list[str]) -> None:
    count = len(np.unique(samples))
    if count < len(samples):
        remarks.append(
            f"{source.label}: its {len(samples):,} rows are views of {count:,} samples (same id, file or "
            f"text); "
            "all views of a sample are in one part"
        )


def _say_torn_views(source: Source, samples: np.ndarray, codes: np.ndarray, remarks: list[str]) -> None:
    """Count test rows whose sample is trained or validated on, too: they are known before they are shown."""
    seen = np.unique(samples[(codes == TRAIN) | (codes == VAL)])
    test = codes == TEST
    torn = int(np.isin(samples[test], seen).sum())
    if torn:
        remarks.append(
            f"warning: {torn:,} of {int(test.sum()):,} test rows of {source.label} are views of samples "
            f"(same id, "
            "file or text) that are also in the training or validation part. Accuracy on them says nothing "
            "about new samples: give splits that keep the views of a sample together"
        )


def _check_classes(source: Source, train: np.ndarray, test: np.ndarray, remarks: list[str]) -> None:
    names = source.features.classes
    trained = np.unique(source.labels[train])
    if len(trained) < 2:
        raise InputError(
            f"{source.label}: all its {len(train):,} training rows are of one class, "
            f"{names[trained[0]]!r}, so "
            "there is nothing to tell apart; add rows of other classes, or give other splits"
        )
    new = np.setdiff1d(source.labels[test], trained)
    if len(new):
        rows = int(np.isin(source.labels[test], new).sum())
        known = 100.0 * (1.0 - rows / len(test))
        few = ", ".join(names[c] for c in new[:3]) + (", …" if len(new) > 3 else "")
        classes = "a class" if len(new) == 1 else f"{len(new)} classes"
        remarks.append(
            f"warning: {rows:,} of {len(test):,} test rows of {source.label} are of {classes} ({few}) "
            f"without a training row. A method that sees {source.label} alone cannot learn these classes: "
            "only "
            f"the other {known:.1f} % of the test rows measure what it has learnt"
        )


def _check_groups(source: Source, groups: Any, codes: np.ndarray) -> None:
    """Refuse splits that cut a group: what the training part knows of it would help on the test part."""
    parts: dict[str, int] = {}
    for group, code in zip(groups if groups is not None else (), codes, strict=groups is not None):
        if group and code != NO_SPLIT and parts.setdefault(str(group), int(code)) != code:
            both = " and ".join(SPLITS[c] for c in sorted((parts[str(group)], int(code))))
            raise InputError(
                f"{source.features.path}: group {str(group)!r} occurs in {both}; a group must lie in one "
                "part: change the split column of its manifest, or leave the group column out"
            )
