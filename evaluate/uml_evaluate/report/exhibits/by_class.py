"""Samples of each class in each modality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from uml_evaluate.report.exhibits.samples import Samples, Shown
from uml_train import match_classes

if TYPE_CHECKING:
    from uml_evaluate.comparing.comparison import Comparison
    from uml_train import Run

MOST_CLASSES = 20
_EACH = {"image": 4, "text": 2, "audio": 1}


@dataclass(frozen=True)
class ClassSamples:
    """One class: for every modality how many samples it has, and some of them."""

    name: str
    columns: list[tuple[int, list[Shown]]]


def by_class(run: Run, comparison: Comparison, samples: Samples) -> tuple[list[str], list[ClassSamples]]:
    """The roles that can be shown, and the classes, at most `MOST_CLASSES`."""
    classes = tuple(run.config["classes"])
    roles = [
        role for role in (comparison.target, *comparison.auxiliaries) if samples.manifest(role) is not None
    ]
    rows_of = {role: _rows(samples, role, classes, run) for role in roles}
    shown = [
        ClassSamples(
            str(name),
            [
                (
                    len(rows_of[role][c]),
                    _some(samples, role, rows_of[role][c], _EACH[role.partition(":")[0].partition(".")[0]]),
                )
                for role in roles
            ],
        )
        for c, name in enumerate(classes[:MOST_CLASSES])
    ]
    return roles, shown if roles else []


def _rows(samples: Samples, role: str, classes: tuple[str, ...], run: Run) -> list[np.ndarray]:
    """The rows of each class of the target."""
    manifest = samples.manifest(role)
    assert manifest is not None
    told = (run.identity or {}).get("class_map") or {}
    to_target = np.append(match_classes(manifest.classes, classes, told), -1)
    labels = to_target[manifest.labels]
    return [np.flatnonzero(labels == c) for c in range(len(classes))]


def _some(samples: Samples, role: str, rows: np.ndarray, most: int) -> list[Shown]:
    """Some samples from all over a class; those that cannot be read give way to others."""
    picked = rows[np.linspace(0, len(rows) - 1, min(2 * most, len(rows))).astype(int)] if len(rows) else rows
    order = [*picked[::2], *picked[1::2]]
    found: list[Shown] = []
    for row in order:
        if len(found) == most:
            break
        if (shown := samples.show(role, int(row))) is not None:
            found.append(shown)
    return found
