"""Which class of an auxiliary is which class of the target: by name, or through a class map."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from uml_cache import InputError, clean_name, folded_name, match_names, unknown

_SHOWN = 3


def need_columns(names: Sequence[str] | None, wanted: Sequence[str], where: str) -> None:
    """Raise `InputError` unless a CSV file has each of the columns `wanted`, and each of them once."""
    there = list(names or ())
    if not set(wanted) <= set(there):
        raise InputError(f"{where} has columns {there}; expected {','.join(wanted)}")
    for name in wanted:
        if there.count(name) > 1:
            raise InputError(f"{where}: column {name!r} occurs twice; keep one")


def read_class_map(path: Path) -> dict[str, str]:
    """Read a CSV with the columns auxiliary, target.

    Raises:
        InputError: another kind of file, a row without one of the two, a class that is mapped to two others.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, strict=True)
            need_columns(table.fieldnames, ("auxiliary", "target"), f"class map {path}")
            found: dict[str, str] = {}
            for row in table:
                theirs, ours = clean_name(row["auxiliary"] or ""), clean_name(row["target"] or "")
                line = f"class map {path}, line {table.line_num}"
                if not theirs or not ours or None in row:
                    raise InputError(f"{line}: expected two names, auxiliary,target")
                if found.setdefault(theirs, ours) != ours:
                    raise InputError(f"{line}: {theirs!r} is {found[theirs]!r} already, and here {ours!r}")
            return found
    except FileNotFoundError:
        raise InputError(f"class map {path} does not exist") from None
    except IsADirectoryError:
        raise InputError(f"class map {path} is a folder; expected a CSV file (auxiliary,target)") from None
    except csv.Error as error:
        raise InputError(f"class map {path} is no valid CSV ({error})") from None
    except UnicodeDecodeError as error:
        raise InputError(f"class map {path} is not UTF-8: {error.reason} at byte {error.start}") from None


def check_class_map(class_map: Mapping[str, str], theirs: Iterable[Sequence[str]]) -> None:
    """Raise `InputError` for a name of the map that no auxiliary (`theirs`: the classes of each) has."""
    lists = list(theirs)
    known = {folded_name(name) for classes in lists for name in classes}
    for name in class_map:
        if folded_name(name) not in known:
            raise unknown(
                "auxiliary class in the class map:", name, {one for classes in lists for one in classes}
            )


def match_classes(theirs: Sequence[str], ours: Sequence[str], class_map: Mapping[str, str]) -> np.ndarray:
    """(len(theirs),) int64: which of our classes each of theirs is, −1 for none; `class_map`: theirs → ours.

    Names meet by the rules of `uml_cache.tables`: equal ones first, then without regard to blanks and case.

    Raises:
        InputError: a name in the map that is none of ours, or that fits several.
    """
    if list(map(clean_name, theirs)) == list(map(clean_name, ours)) and not class_map:
        return np.arange(len(ours))  # also right where a name occurs twice
    found = match_names(theirs, ours)
    if not class_map:
        return found
    # One by one: several of theirs may be one of ours.
    targets = {name: int(match_names([name], ours)[0]) for name in class_map.values()}
    for name, target in targets.items():
        if target < 0:
            raise InputError(_no_target(name, ours))
    keys = match_names(list(class_map), theirs)
    for (_, name), at in zip(class_map.items(), keys.tolist(), strict=True):
        if at >= 0:
            found[at] = targets[name]
    return found


def near_miss_remark(theirs: Sequence[str], ours: Sequence[str], to_target: np.ndarray) -> str | None:
    """One sentence about classes of theirs that are none of ours, though some name differs in blanks or case
    alone; None where there are none. `to_target` (len(theirs),) int64 is what `match_classes` found."""
    own: dict[str, str] = {folded_name(name): name for name in ours}
    missed = [
        f"{name!r} ({own[folded_name(name)]!r})"
        for name, target in zip(theirs, to_target.tolist(), strict=True)
        if target < 0 and folded_name(name) in own
    ]
    if not missed:
        return None
    more = f", … {len(missed)} in all" if len(missed) > _SHOWN else ""
    return (
        f"classes not used, because their names are close to classes of the target, but not equal: "
        f"{', '.join(missed[:_SHOWN])}{more}; --class-map FILE matches them"
    )


def _no_target(name: str, ours: Sequence[str]) -> str:
    if folded_name(name) in map(folded_name, ours):
        return f"the class map names {name!r}, which fits several classes of the target; write it as there"
    some = ", ".join(ours[:3]) + (f", … {len(ours)} in all" if len(ours) > 3 else "")
    return f"the class map names {name!r}, which is no class of the target ({some})"
