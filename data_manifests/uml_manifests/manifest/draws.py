"""Which rows a few-shot experiment trains on, and splits for data that has none.

Legend: N samples in manifest order, C classes. Rows are positions in the manifest (int64).
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache import InputError, parse_json, write_atomic
from uml_manifests.manifest.manifest import NO_LABEL, NO_SPLIT, SPLITS, Manifest
from uml_manifests.manifest.table import decode

MOST_VAL_SHOTS = 4


@dataclass(frozen=True, eq=False)
class FewShotDraw:
    """Rows of one draw: `train_rows` (k per class) and `val_rows` (min(k, 4) per class), each int64 and
    grouped by class in order of the class's first appearance."""

    train_rows: np.ndarray
    val_rows: np.ndarray

    def ids(self, ids: Sequence[str]) -> dict[str, list[str]]:
        """The draw by sample id, `{"train": […], "val": […]}`; `ids` in manifest order."""
        return {
            "train": [str(ids[row]) for row in self.train_rows.tolist()],
            "val": [str(ids[row]) for row in self.val_rows.tolist()],
        }


def few_shot(
    labels: np.ndarray,
    splits: np.ndarray,
    *,
    shots: int,
    seed: int,
    classes: Sequence[str] | None = None,
    short_classes: str = "refused",
) -> FewShotDraw:
    """Draw `shots` train rows and min(shots, 4) validation rows per class.

    The draw is the benchmark's own: one generator seeded with `seed` samples the
    classes in order of first appearance, all of train first, then val. It depends on the order of the rows,
    so pass a manifest's (or store's) rows as they are; rows without a label or with split 255 are skipped.

    Args:
        labels: (N,) class indices, -1 for none.
        splits: (N,) split codes.
        classes: Class names, for the error only.
        short_classes: A class with fewer rows than are to be drawn is `refused`, or gives its `whole`, as in
            the public code of the paper.

    Raises:
        InputError: shots < 1, no train or no val rows, a class with fewer rows than are to be drawn, or with
            `whole` no class that has so many train rows.
    """
    if shots < 1:
        raise InputError(f"shots must be at least 1, got {shots}")
    generator = random.Random(seed)
    whole = short_classes == "whole"
    rows = [
        _draw_split(generator, labels, splits, part, count, classes, whole)
        for part, count in (("train", shots), ("val", min(shots, MOST_VAL_SHOTS)))
    ]
    return FewShotDraw(*rows)


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


def write_index(path: Path, manifest: Manifest, draw: FewShotDraw, *, prefix: str | None = None) -> Path:
    """Save a draw in the benchmark's index-file format; returns the path.

    Each part holds `data` (impath, label, classname; texts: id instead of impath) and `indices`, positions
    within the split's rows. `prefix` stands before each relative path (default `./data/<name>`).
    """
    prefix = f"./data/{manifest.name}" if prefix is None else prefix
    content: dict[str, Any] = {}
    for code, (part, rows) in enumerate((("train", draw.train_rows), ("val", draw.val_rows))):
        position = np.cumsum(manifest.splits == code) - 1
        data = []
        for row in rows.tolist():
            label = int(manifest.labels[row])
            if manifest.modality == "text":
                where = {"id": manifest.ids[row]}
            else:
                source = manifest.sources[row]
                where = {"impath": source if source.startswith("/") else f"{prefix}/{source}"}
            data.append({**where, "label": label, "classname": manifest.classes[label]})
        content[part] = {"data": data, "indices": position[rows].tolist()}
    write_atomic(path, (json.dumps(content, indent=4, ensure_ascii=False) + "\n").encode())
    return path


def read_index(path: Path, manifest: Manifest) -> FewShotDraw:
    """Read an index file, the benchmark's or ours, as rows of a manifest.

    Paths are re-rooted: `./data/oxford_pets/images/x.jpg` meets the source that its end names.

    Raises:
        InputError: malformed file, or a sample that the manifest lacks or labels otherwise.
    """
    try:
        content = parse_json(decode(path))
        parts = {part: content[part]["data"] for part in ("train", "val")}
        wanted = {
            part: [(str(item.get("id") or item["impath"]), int(item["label"])) for item in items]
            for part, items in parts.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: not a few-shot index; expected train and val, each with data (impath, label)"
        ) from None
    rows_by_source = {source: row for row, source in enumerate(manifest.sources)}
    rows_by_source |= {sample: row for row, sample in enumerate(manifest.ids)}
    found = {
        part: np.array([_find(path, manifest, rows_by_source, *item) for item in items], dtype=np.int64)
        for part, items in wanted.items()
    }
    return FewShotDraw(found["train"], found["val"])


def _draw_split(
    generator: random.Random,
    labels: np.ndarray,
    splits: np.ndarray,
    part: str,
    count: int,
    classes: Sequence[str] | None,
    whole: bool,
) -> np.ndarray:
    rows_by_class: dict[int, list[int]] = {}
    here = np.flatnonzero((np.asarray(splits) == SPLITS.index(part)) & (np.asarray(labels) != NO_LABEL))
    if not here.size:
        raise InputError(f"no labelled sample is in the {part} split; few-shot draws need train and val rows")
    for row, label in zip(here.tolist(), np.asarray(labels)[here].tolist(), strict=True):
        rows_by_class.setdefault(label, []).append(row)
    drawn: list[int] = []
    most = max(map(len, rows_by_class.values()))
    if whole and part == "train" and most < count:
        raise InputError(f"no class has {count} train samples, the largest has {most}; use fewer shots")
    for label, rows in rows_by_class.items():
        if len(rows) < count and whole:
            drawn += rows  # as they stand: the generator is not asked
            continue
        if len(rows) < count:
            name = repr(classes[label]) if classes is not None else str(label)
            raise InputError(
                f"class {name} has {len(rows)} {part} samples, but {count} per class are to be drawn; "
                "use fewer shots, add samples, or take all it has with --short-classes whole"
            )
        drawn += generator.sample(rows, count)
    return np.array(drawn, dtype=np.int64)


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


def _find(path: Path, manifest: Manifest, rows: dict[str, int], where: str, label: int) -> int:
    if where in rows:
        row = rows[where]
    else:
        steps = [step for step in where.split("/") if step not in ("", ".")]
        ends = ("/".join(steps[start:]) for start in range(len(steps)))
        row = next((rows[end] for end in ends if end in rows), -1)
    if row < 0:
        raise InputError(f"{path}: sample {where!r} is not in data set {manifest.name!r}")
    if manifest.labels[row] != label:
        raise InputError(
            f"{path}: sample {where!r} has label {label}, but {manifest.labels[row]} in {manifest.name!r}"
        )
    return row
