"""Splits from a file (`uml train --splits`), which stand for the target's own: a fold, or a cut of one's own.

Shapes: n usable rows of the target.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from uml_cache.errors import InputError, unknown
from uml_manifests import NO_SPLIT, SPLITS


def read_splits(path: Path) -> dict[str, int]:
    """`{sample id: split code}` of a CSV with the columns id, split (train, val, test, or empty: not used).

    Raises:
        InputError: no such file, other columns, an unknown split, an id that occurs twice.
    """
    codes = {name: code for code, name in enumerate(SPLITS)} | {"": NO_SPLIT}
    found: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            if not {"id", "split"} <= set(table.fieldnames or ()):
                raise InputError(f"splits {path} has columns {table.fieldnames}; expected id,split")
            for row in table:
                if row["split"] not in codes:
                    raise InputError(
                        f"splits {path}, line {table.line_num}: {unknown('split', str(row['split']), SPLITS)}"
                    )
                if found.setdefault(row["id"], codes[row["split"]]) != codes[row["split"]]:
                    raise InputError(
                        f"splits {path}, line {table.line_num}: {row['id']!r} is in two different splits"
                    )
    except FileNotFoundError:
        raise InputError(f"splits {path} does not exist") from None
    except IsADirectoryError:
        raise InputError(f"splits {path} is a folder; expected a CSV file (columns id,split)") from None
    except UnicodeDecodeError as error:
        raise InputError(f"splits {path} is not UTF-8: {error.reason} at byte {error.start}") from None
    return found


def recorded_splits(run: Path) -> dict[str, int]:
    """The splits of a run as its `splits.json` has them, so that the file they came from may be gone."""
    recorded = json.loads((run / "splits.json").read_text(encoding="utf-8"))
    return {one: code for code, name in enumerate(SPLITS) for one in recorded[name]}


def given_codes(ids: np.ndarray, given: Mapping[str, int], what: str, remarks: list[str]) -> np.ndarray:
    """(n,) uint8 split codes of the target's usable rows; rows that the file does not name are not used.

    Raises:
        InputError: the file names none of them.
    """
    codes = np.array([given.get(str(one), NO_SPLIT) for one in ids], dtype=np.uint8)
    known = {str(one) for one in ids} & given.keys()
    if not known:
        example = next(iter(given), "no id at all")
        raise InputError(
            f"--splits names no sample of {what}: it has {example!r}, the samples are such as {str(ids[0])!r}"
        )
    strange = len(given) - len(known)
    if strange:
        remarks.append(f"--splits names {strange} of {len(given)} ids that {what} has no readable sample of")
    unused = int((codes == NO_SPLIT).sum())
    if unused:
        remarks.append(f"{what}: {unused} of {len(codes)} samples are in no split of --splits and not used")
    return codes
