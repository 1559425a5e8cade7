"""Which rows a few-shot experiment trains on, and files that say so.

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
from uml_manifests.manifest.manifest import NO_LABEL, SPLITS, Manifest
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
