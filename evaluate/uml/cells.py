"""Labels, splits and groups of samples in memory: one cell a sample.

Shapes: N samples. Arrays hold strings and have dtype object.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from uml_cache import InputError, Output, as_groups, as_splits, read_labels, unique_ids
from uml_manifests import NO_SPLIT, SPLITS


def cells_of(given: Any, own: Any, argument: str) -> Any:
    """The cells that a call gives, or those of the column that it names; else the data's own.

    Raises:
        InputError: a name, and the samples come from no table with such a column.
    """
    if isinstance(given, str) and own is None:
        raise InputError(f"{argument}={given!r} names a column, and the samples come from no table with it")
    return own if given is None or isinstance(given, str) else given


def need_cells(argument: str, given: Any, rows: int) -> list[Any]:
    """One cell a sample, of a list, an array, a tensor or a column of pandas.

    Raises:
        InputError: a collection without an order, a mapping, or another number of cells than samples.
    """
    if isinstance(given, set | frozenset | Mapping):
        raise InputError(
            f"{argument} is a {type(given).__name__}, which does not say whose each one is; give a list with "
            "one a sample"
        )
    cells = given.tolist() if hasattr(given, "tolist") else list(given)
    if len(cells) != rows:
        raise InputError(f"there are {rows} samples and {len(cells)} {argument}; give one a sample")
    return list(cells)


def need_one_order(data: Any, **given: Any) -> None:
    """Raise `InputError` where columns of pandas have the same index in another order: whose is whose?"""
    index = getattr(data, "index", None)
    if index is None or callable(index):
        return
    for argument, cells in given.items():
        other = getattr(cells, "index", None)
        if other is None or callable(other) or index.equals(other):
            continue
        if len(index) == len(other) and index.sort_values().equals(other.sort_values()):
            raise InputError(
                f"{argument} and the samples have one index in two orders; bring them into one "
                f"({argument}.loc[samples.index]), or give {argument}.tolist()"
            )


def labelled(
    labels: Any, rows: int, known: tuple[str, ...] | None, output: Output
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """(N,) class names, None for no label, and the classes.

    Of several classes of one name the later ones get a number.


    Raises:
        InputError: cells that are no labels, or not one a sample.
    """
    if labels is None:
        return None, ()
    cells = need_cells("labels", labels, rows)
    cells = [None if isinstance(cell, float) and cell != cell else cell for cell in cells]
    read = read_labels([cells], [rows], [known], ["labels"])
    for remark in read.remarks:
        output.say(remark)
    classes = tuple(unique_ids(list(read.classes)))
    names = np.array([None if code < 0 else classes[code] for code in read.codes], dtype=object)
    return names, classes


def splits_of(splits: Any, rows: int) -> np.ndarray | None:
    """(N,) `train`, `val`, `test` or an empty string; None for no splits.

    Raises:
        InputError: other cells, or not one a sample.
    """
    if splits is None:
        return None
    codes = as_splits(need_cells("splits", splits, rows), rows, "splits")
    return np.array(["" if code == NO_SPLIT else SPLITS[code] for code in codes], dtype=object)


def groups_of(groups: Any, rows: int) -> np.ndarray | None:
    """(N,) names, an empty string for no group; None where no sample has one.

    Raises:
        InputError: cells that are no names, or not one a sample.
    """
    found = None if groups is None else as_groups(need_cells("groups", groups, rows), "groups")
    return None if found is None else np.array(found, dtype=object)


def numbers_of(features: Any) -> np.ndarray:
    """An array (n, D), a table or a tensor of torch, of any floating type and device, as numpy.

    Raises:
        InputError: some of its values are masked.
    """
    if hasattr(features, "detach"):
        held = features.detach().cpu()
        return np.asarray(held.float() if held.is_floating_point() and held.element_size() < 4 else held)
    if isinstance(features, np.ma.MaskedArray) and np.ma.is_masked(features):
        raise InputError("features are masked in places; leave these rows out, or fill them")
    return np.asarray(features)
