"""Embedded samples as the feature stores that training and advice read."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uml.embedding import Embedded, of_features
from uml_cache import QUIET, InputError, Output, as_splits, store_arrays

if TYPE_CHECKING:
    from uml_manifests import Manifest

_NAME = re.compile(r"[A-Za-z0-9_-]+")


def as_embedded(value: Any, what: str, output: Output = QUIET) -> Embedded:
    """What `embed` gave; or a pair (features (N, D), labels (N,)).

    Raises:
        InputError: anything else, or samples without labels.
    """
    if isinstance(value, tuple) and len(value) == 2:
        value = of_features(value[0], labels=value[1], output=output)
    if not isinstance(value, Embedded):
        raise InputError(
            f"{what} is a {type(value).__name__}; expected what uml.embed gave, or a pair (features, labels)"
        )
    if value.labels is None or not any(one is not None for one in value.labels):
        raise InputError(
            f"{what} has no labels, and heads cannot learn from such samples: give labels= to uml.embed, "
            "or take its with_labels(…)"
        )
    return value


def write_stores(
    root: Path, name: str, target: Embedded, auxiliaries: Mapping[str, Embedded]
) -> tuple[Path, str, list[str]]:
    """Write the stores of a target and its auxiliaries into a cache folder of their own below `root`.

    Returns the folder, and the labels of the target and of each auxiliary there.

    Raises:
        InputError: a name that cannot be one.
    """
    for label in (name, *auxiliaries):
        if not _NAME.fullmatch(label):
            raise InputError(f"the name {label!r} may hold letters, digits, - and _ only")
    folder = root / "feats" / _digest([target, *auxiliaries.values()], [name, *auxiliaries])
    labels = [_write(folder, name, target, None)]
    for label, one in auxiliaries.items():
        labels.append(_write(folder, name, one, None if label == one.modality != target.modality else label))
    return folder, labels[0], labels[1:]


def samples_of(one: Embedded) -> Manifest | None:
    """The samples with their classes, as a report shows them."""
    if one.manifest is None:
        return None
    return replace(one.manifest, classes=one.class_names, labels=_codes(one))


def _codes(one: Embedded) -> np.ndarray:
    """(N,) int32 positions in the class names, -1 for none."""
    assert one.labels is not None
    place = {label: code for code, label in enumerate(one.class_names)}
    return np.array([-1 if label is None else place[label] for label in one.labels], np.int32)


def _write(folder: Path, name: str, one: Embedded, set: str | None) -> str:
    store_arrays(
        folder,
        one.features,
        dataset=name,
        modality=one.modality,
        set=set,
        encoder=one.encoder,
        variant=one.variant,
        labels=_codes(one),
        classes=one.class_names,
        splits=as_splits(None if one.splits is None else list(one.splits), len(one), "splits"),
        groups=None if one.groups is None else list(one.groups),
        samples=one.contents or None,
        reasons=one.failed,
        dtype=one.dtype,
    )
    return one.modality if set is None else f"{one.modality}.{set}"


def _digest(all_of_them: list[Embedded], names: list[str]) -> str:
    """Twelve hexadecimal digits that tell these samples with these labels from others."""
    found = hashlib.sha256(json.dumps(names).encode())
    for one in all_of_them:
        labels = [] if one.labels is None else [str(label) for label in one.labels]
        splits = None if one.splits is None else list(one.splits)
        words = [dict(one.encoder), one.variant, list(one.class_names), labels, splits, sorted(one.failed)]
        found.update(json.dumps(words, sort_keys=True).encode())
        if one.groups is not None:
            found.update(json.dumps(list(one.groups)).encode())
        found.update(np.ascontiguousarray(one.features).data)
    return found.hexdigest()[:12]
