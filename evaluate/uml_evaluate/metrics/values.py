"""The number of every test row, by cell: what a table of one metric is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from uml_cache import InputError
from uml_evaluate.comparing.rows import PROBES
from uml_evaluate.metrics.measures import ACCURACY, METRICS, Metric
from uml_train import DamagedFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from uml_train import CellResult, Run

_ROUNDING = 1e-9  # percent; a record holds an accuracy to the last bit


class RowValues:
    """What a metric gives each test row of the cells of a run; every file is read once."""

    def __init__(self, run: Run, metric: Metric = ACCURACY) -> None:
        self.metric = metric
        self._run = run
        self._known: dict[str, NDArray[np.generic]] = {}

    def of(self, result: CellResult) -> NDArray[np.generic]:
        """(N,) bool or float64, whose mean is the metric, in the metric's own scale.

        Raises:
            InputError: files are gone, damaged or at odds, or scores that the metric needs were not kept.
        """
        key = result.cell.key
        if key not in self._known:
            labels, predictions = self._run.test_labels, checked_predictions(self._run, result)
            scores = result.test_scores if self.metric.needs_scores else None
            if self.metric.needs_scores and scores is None:
                raise InputError(without_scores(self._run, [self.metric.name]))
            shape = len(labels), len(self._run.config["classes"])
            if scores is not None and scores.shape != shape:
                raise InputError(
                    f"{result.scores_path} has scores of shape {scores.shape}, and test rows × classes are "
                    f"{shape}; {result.remedy}"
                )
            self._known[key] = self.metric.rows(labels, predictions, scores)
        return self._known[key]

    @property
    def chance(self) -> tuple[float, float]:
        """Percent of the test rows that guessing, and always saying the most frequent class, is right on."""
        counts = np.bincount(self._run.test_labels)
        # Of a shifted data set only some of the run's classes compete.
        shifted = "shift" in self._run.config
        classes = np.count_nonzero(counts) if shifted else len(self._run.config["classes"])
        return 100.0 / classes, 100.0 * float(counts.max() / counts.sum())

    def mean(self, result: CellResult) -> float:
        """The metric of a cell, in its unit."""
        return self.metric.factor * float(self.of(result).mean())


def checked_predictions(run: Run, result: CellResult) -> NDArray[np.int32]:
    """(N,) classes, which fit the test rows and the accuracy of the record. Raises `DamagedFile`."""
    labels, predictions = run.test_labels, result.test_predictions
    if predictions.shape != labels.shape:
        why = f"has {len(predictions)} predictions for {len(labels)} test rows"
        raise DamagedFile(result.predictions_path, why, result.remedy)
    found = 100.0 * float((predictions == labels).mean())
    if abs(found - result.test_acc) > _ROUNDING:
        why = (
            f"says {result.test_acc:.2f} % and its predictions are right on {found:.2f} %: one of the two is "
            "damaged"
        )
        raise DamagedFile(result.record_path, why, result.remedy)
    return predictions


def available(run: Run, cells: Sequence[CellResult], names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those of the metrics that cells of a run give, and a line for what is left out.

    Raises:
        InputError: none is left.
    """
    metrics = {name: METRICS[name] for name in names}
    classes = len(run.config["classes"])
    said = [
        f"{name} is always 100 % with {classes} classes and is left out"
        for name, metric in metrics.items()
        if classes <= metric.more_than
    ]
    found = [name for name, metric in metrics.items() if classes > metric.more_than]
    needy = [name for name in found if METRICS[name].needs_scores]
    lacking = [result for result in cells if not has_scores(result)]
    heads = [result for result in cells if result.cell.method not in PROBES] or cells
    if needy and not any(has_scores(result) for result in heads):
        said.append(without_scores(run, needy))
        found = [name for name in found if name not in needy]
    elif needy and lacking:
        methods = ", ".join(dict.fromkeys(result.cell.method for result in lacking))
        said.append(
            f"{len(lacking)} of {len(cells)} cells keep no scores ({methods}) and are left out of "
            f"{', '.join(needy)}; a new run keeps them"
        )
    if not found:
        raise InputError("; ".join(said))
    return found, said


def has_scores(result: CellResult) -> bool:
    """Whether the scores of a cell's test rows were kept and are there."""
    path = result.scores_path
    return path.relative_to(result.folder).as_posix() in result.files and path.exists()


def without_scores(run: Run, names: Sequence[str]) -> str:
    """One line for metrics that a run's files do not give."""
    plain = ", ".join(name for name, metric in METRICS.items() if not metric.needs_scores)
    return (
        f"{run.path} keeps no scores of its test rows (made by version 0.1, too large, or deleted): "
        f"{', '.join(names)} need{'s' * (len(names) == 1)} a new run; {plain}, per-class and confusion do not"
    )
