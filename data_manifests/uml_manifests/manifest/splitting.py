"""Splits for data that has none: every class in proportion, no group and no sample cut.

Legend: N samples in manifest order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from uml_cache import InputError
from uml_manifests.manifest.manifest import NO_SPLIT


def stratified_split(
    labels: np.ndarray,
    groups: Sequence[str] | None,
    seed: int,
    parts: tuple[float, float, float] = (0.6, 0.2, 0.2),
    samples: np.ndarray | None = None,
) -> np.ndarray:
    """Seeded train/val/test split codes, (N,) uint8, with every class in proportion.

    With groups, no group is cut: large groups are placed first, each into the part that lacks its classes
    most. Without, every class is shuffled and cut, and a class of three or more samples reaches every part.
    Views of one sample are never parted, whatever their groups; a row with an empty group has none.

    Args:
        samples: (N,) uint64, equal where rows are views of one sample; None: every row is one.

    Raises:
        InputError: fewer samples or groups than parts.
    """
    labels = np.asarray(labels)
    names = _group_names(groups, samples)
    views = _by_first(samples) if names is None and samples is not None else None
    units = labels.size if views is None else int(views.max(initial=-1)) + 1
    if names is not None:
        units = len(set(names.tolist()))
    if units < len(parts):
        kind = "samples" if names is None else "groups (a group is never split)"
        raise InputError(f"train, val and test need at least 3 {kind}, got {units}")
    generator = np.random.default_rng(seed)
    share = np.asarray(parts, dtype=np.float64) / sum(parts)
    if names is not None:
        return _split_groups(labels, names, share, generator)
    if views is None:
        return _split_classes(labels, share, generator)
    _, first = np.unique(views, return_index=True)
    return _split_classes(labels[first], share, generator)[views]


def grown_split(
    labels: np.ndarray,
    groups: Sequence[str] | None,
    seed: int,
    parts: tuple[float, float, float] = (0.6, 0.2, 0.2),
    samples: np.ndarray | None = None,
    ends: Sequence[int] = (),
    ids: Sequence[str] | None = None,
) -> np.ndarray:
    """As `stratified_split`, (N,) uint8, of rows that came in several goes: what came later moves nothing.

    Each go is drawn by itself. A row that shares its id, its sample or its group with an earlier one goes
    with it; what came alone, in fewer than three samples or groups, is trained on.

    Args:
        ends: How many rows there were after each go, in order, the last one N.
        ids: N; one that occurs again is a sample that was replaced.
    """
    codes = np.zeros(len(labels), np.uint8)
    by_id = None if ids is None else np.asarray(ids, dtype=object)
    names = None if groups is None else np.asarray(groups, dtype=object)
    start = 0
    for end in ends or (len(labels),):
        part = np.arange(start, end)
        fixed = np.full(len(part), NO_SPLIT, np.uint8)
        for column in (by_id, samples, names):
            if column is not None and start:
                known = dict(zip(column[:start].tolist(), codes[:start].tolist(), strict=True))
                known.pop("", None)  # an empty group is none
                found = np.array([known.get(key, NO_SPLIT) for key in column[part].tolist()], np.uint8)
                fixed = np.where(fixed == NO_SPLIT, found, fixed)
        codes[part] = fixed
        free = part[fixed == NO_SPLIT]
        few = None if not start else len(free) < 3
        if len(free) and not few:
            try:
                codes[free] = stratified_split(
                    np.asarray(labels)[free],
                    None if names is None else names[free].tolist(),
                    seed,
                    parts,
                    None if samples is None else samples[free],
                )
            except InputError:
                if not start:
                    raise
                few = True
        if few:
            codes[free] = 0
        start = end
    return codes


def _by_first(samples: np.ndarray) -> np.ndarray:
    """(N,) int64 number of each row's sample, in order of first appearance."""
    _, first, inverse = np.unique(samples, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def _group_names(groups: Sequence[str] | None, samples: np.ndarray | None) -> np.ndarray | None:
    """(N,) names of what must stay together; None where there are no groups.

    A row without a group goes with its sample, and groups that share a sample are one.
    """
    if groups is None or not any(groups):
        return None
    names = np.array([str(group) for group in groups], dtype=object)
    alone = np.flatnonzero(names == "")
    if samples is None:
        names[alone] = [f"\0{row:012d}" for row in alone.tolist()]
        return names.astype(str)
    number = _by_first(samples)
    names[alone] = [f"\0{sample:012d}" for sample in number[alone].tolist()]
    leader: dict[str, str] = {}

    def leads(name: str) -> str:
        while (up := leader.get(name, name)) != name:
            leader[name] = leader.get(up, up)
            name = up
        return name

    name_of: dict[int, str] = {}
    for sample, name in zip(number.tolist(), names.tolist(), strict=True):
        a, b = leads(name_of.setdefault(sample, name)), leads(name)
        if a != b:
            leader[min(a, b)] = max(a, b)  # a group's name leads those that rows without one were given
    return np.array([leads(name) for name in names.tolist()])


def _split_classes(labels: np.ndarray, share: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    splits = np.full(labels.size, NO_SPLIT, dtype=np.uint8)
    given = np.zeros(len(share))
    wanted = np.zeros(len(share))
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        counts = np.floor(share * rows.size).astype(np.int64)
        if rows.size >= len(share):
            counts = np.maximum(counts, 1)
            counts[counts.argmax()] -= max(0, counts.sum() - rows.size)
        wanted += share * rows.size
        # What rounding leaves over goes where the whole split lacks most, so that small classes do not
        # all round the same way.
        for _ in range(rows.size - int(counts.sum())):
            counts[np.argmax(wanted - given - counts)] += 1
        given += counts
        splits[rows] = np.repeat(np.arange(len(share), dtype=np.uint8), counts)
    return splits


def _split_groups(
    labels: np.ndarray, groups: np.ndarray, share: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    names, group_of = np.unique(groups, return_inverse=True)
    values, label_of = np.unique(labels, return_inverse=True)
    per_class = np.bincount(label_of, minlength=values.size).astype(np.float64)
    lacking = share[:, None] * per_class  # per part and class
    # Each group's classes and their rows, one group after the other: groups may be as many as rows.
    cells, rows_of = np.unique(group_of * values.size + label_of, return_counts=True)
    ends = np.searchsorted(cells, np.arange(1, names.size + 1) * values.size)
    starts = np.concatenate([[0], ends[:-1]])
    shuffled = generator.permutation(names.size)
    order = shuffled[np.argsort(-np.bincount(group_of)[shuffled], kind="stable")]
    part_of = np.zeros(names.size, dtype=np.uint8)
    empty = set(range(len(share)))
    for placed, group in enumerate(order.tolist()):
        own = slice(starts[group], ends[group])
        classes, counts = cells[own] % values.size, rows_of[own]
        score = (lacking[:, classes] * counts / per_class[classes]).sum(axis=1)
        must_fill = names.size - placed == len(empty)
        part = max(empty if must_fill else range(len(share)), key=lambda p: score[p])
        part_of[group] = part
        lacking[part, classes] -= counts
        empty.discard(part)
    return part_of[group_of]
