"""Which rows of the target train, validate and test; groups (speakers, patients) stay in one part."""

from __future__ import annotations

from typing import Any

import numpy as np

from uml_cache.errors import InputError
from uml_manifests import NO_SPLIT, SPLITS, stratified_split
from uml_train.data.given_splits import GivenSplits, given_codes
from uml_train.data.source import TEST, TRAIN, VAL, Source

_SPLIT_SEED = 0


def split_rows(
    source: Source, remarks: list[str], given: GivenSplits | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions of the train, validation and test rows; drawn where the manifest does not say.

    Splits that are `given` stand for the manifest's.
    """
    codes = source.features.split[source.rows].copy()
    groups = source.groups
    if given is not None:
        ids = np.asarray(source.features.id, dtype=object)[source.rows]
        codes = given_codes(ids, source.labels, codes, given, source.label, remarks)
    elif (codes == NO_SPLIT).all():
        codes = stratified_split(source.labels, groups, seed=_SPLIT_SEED)
        how = "60/20/20 per class"
        if groups is not None:
            numbers = "/".join(f"{int((codes == code).sum()):,}" for code in (TRAIN, VAL, TEST))
            how = f"{numbers} rows, every group in one part"
        remarks.append(f"{source.label} has no splits: drew {how} (seed {_SPLIT_SEED}), saved with the run")
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
