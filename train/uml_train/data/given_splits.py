"""Splits from a file (`uml train --splits`), which stand for the target's own: a fold, a cut of one's own, or
a published few-shot index, read where it lies.

Shapes: n usable rows of the target.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache import SPLIT_CODES, InputError, parse_json, unknown
from uml_manifests import NO_SPLIT, SPLITS
from uml_train.data.class_names import need_columns

_TEST = SPLITS.index("test")


@dataclass(frozen=True)
class GivenSplits:
    """`codes`: split code by sample id. Of an index, ids are paths that end with the sample's id, `labels`
    are its class numbers, and the target's own test rows stay. `recorded`: those that a run was made with."""

    codes: dict[str, int]
    labels: dict[str, int] = field(default_factory=dict)
    is_index: bool = False
    recorded: bool = False


def read_splits(path: Path) -> GivenSplits:
    """Read a CSV with the columns id, split (train, val, test; empty: not used), or a few-shot index (JSON).

    Raises:
        InputError: no such file, another form, an unknown split, an id in two splits.
    """
    try:
        return _read_index(path) if path.suffix.lower() == ".json" else _read_csv(path)
    except FileNotFoundError:
        raise InputError(f"splits {path} does not exist") from None
    except IsADirectoryError:
        raise InputError(f"splits {path} is a folder; expected a CSV file (columns id,split)") from None
    except UnicodeDecodeError as error:
        raise InputError(f"splits {path} is not UTF-8: {error.reason} at byte {error.start}") from None


def recorded_splits(recorded: Mapping[str, Any]) -> GivenSplits:
    """The splits of a run as its `splits.json` has them, so that the file they came from may be gone."""
    codes = {one: code for code, name in enumerate(SPLITS) for one in recorded[name]}
    return GivenSplits(codes, recorded=True)


def given_codes(
    ids: np.ndarray, labels: np.ndarray, own: np.ndarray, given: GivenSplits, what: str, remarks: list[str]
) -> np.ndarray:
    """(n,) uint8 split codes of the target's usable rows; rows that the file does not name are in none.

    Args:
        ids, labels, own: (n,) sample ids, classes and own split codes.
        what: The target's name, for people.

    Raises:
        InputError: the file names none of them, or an index has another class for one.
    """
    row_of = {str(one): row for row, one in enumerate(ids)}
    codes = np.full(len(ids), NO_SPLIT, dtype=np.uint8)
    if given.is_index:
        codes[own == _TEST] = _TEST
    strange = 0
    for name, code in given.codes.items():
        row = _row(row_of, name, given.is_index)
        if row is None:
            strange += 1
            continue
        if given.labels.get(name, labels[row]) != labels[row]:
            raise InputError(
                f"--splits gives {name!r} class {given.labels[name]}, but it is {labels[row]} in {what}; the "
                "index belongs to another order of the classes"
            )
        codes[row] = code
    if strange == len(given.codes):
        example = next(iter(given.codes), "no id at all")
        raise InputError(
            f"--splits names no sample of {what}: it has {example!r}, the samples are such as {str(ids[0])!r}"
        )
    if strange:
        remarks.append(
            f"{strange} of the {len(given.codes)} ids in --splits have no readable sample in {what}"
        )
    return codes


def _read_csv(path: Path) -> GivenSplits:
    found: dict[str, int] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        table = csv.DictReader(file)
        need_columns(table.fieldnames, ("id", "split"), f"splits {path}")
        for row in table:
            line = f"splits {path}, line {table.line_num}"
            if None in row:
                raise InputError(f"{line}: has more cells than the header; quote a cell with a comma in it")
            code = SPLIT_CODES.get((row["split"] or "").strip().casefold())
            if code is None:
                raise InputError(f"{line}: {unknown('split', str(row['split']), SPLITS)}")
            if found.setdefault(row["id"], code) != code:
                raise InputError(f"{line}: {row['id']!r} is in two different splits")
    return GivenSplits(found)


def _read_index(path: Path) -> GivenSplits:
    codes: dict[str, int] = {}
    labels: dict[str, int] = {}
    try:
        content = parse_json(path.read_text(encoding="utf-8-sig"))
        for code, part in enumerate(("train", "val")):
            for item in content[part]["data"]:
                name = str(item.get("id") or item["impath"])
                if codes.setdefault(name, code) != code:
                    raise InputError(f"splits {path}: {name!r} is in two different splits")
                labels[name] = _class_number(path, name, item["label"])
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
        raise InputError(
            f"splits {path} is no few-shot index; expected train and val, each with data (impath, label)"
        ) from None
    return GivenSplits(codes, labels, is_index=True)


def _class_number(path: Path, name: str, label: object) -> int:
    if isinstance(label, int) and not isinstance(label, bool):
        return label
    raise InputError(
        f"splits {path}: {name!r} has the label {label!r}; expected the number of its class (0, 1, …)"
    )


def _row(row_of: dict[str, int], name: str, is_path: bool) -> int | None:
    """The row of an id; of a path such as `./data/pets/images/x.jpg` the row whose id its end names."""
    if name in row_of or not is_path:
        return row_of.get(name)
    steps = [step for step in name.split("/") if step not in ("", ".")]
    ends = ("/".join(steps[start:]) for start in range(len(steps)))
    return next((row_of[end] for end in ends if end in row_of), None)
