"""From a run to its table: one row per method, and the paired differences that say what the data added.

Shapes: S seeds that both sides of a difference have, N test samples.

The ladder from the plain linear layer to the full method (paper Table 2 compares its two ends only):

    unimodal → unimodal-deep → init-only → uml-init
           depth    initialisation   data on top of it
               unimodal-deep → uml
                          data

What the data adds is `uml` − `unimodal-deep` and `uml-init` − `init-only`: same network, same search, with and
without the unpaired samples. The differences to the plain linear layer are given too. Nothing is chosen on
test: every difference between two named methods is listed, whichever way it falls.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from uml_cache.errors import InputError
from uml_evaluate.statistics import Interval, across_data_sets, generator_for, mean_std, paired_difference

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from uml_train import CellResult, Run
    from uml_train.settings import Shots

ALONE = ("unimodal", "unimodal-deep")
TRAINED_ON_DATA = ("uml", "uml-init")
ORDER = ("unimodal", "unimodal-deep", "init-only", "uml", "uml-init")

Arm = tuple[str, str | None]
"""A method and its control, such as ("uml", None) or ("uml", "permuted")."""

LADDER: tuple[tuple[str, Arm, Arm], ...] = (
    ("deeper head", ("unimodal-deep", None), ("unimodal", None)),
    ("initialisation", ("init-only", None), ("unimodal-deep", None)),
    ("data, after initialisation", ("uml-init", None), ("init-only", None)),
    ("data", ("uml", None), ("unimodal-deep", None)),
    ("all, to plain linear", ("uml", None), ("unimodal", None)),
    ("all, to plain linear", ("uml-init", None), ("unimodal", None)),
)


def arm_name(arm: Arm) -> str:
    """`uml`, or `uml[permuted]` for a control."""
    method, control = arm
    return method if control is None else f"{method}[{control}]"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method at one number of shots: accuracy in percent over its seeds (`std` is None for one seed)."""

    dataset: str
    target: str
    auxiliaries: tuple[str, ...]
    encoders: dict[str, str]
    method: str
    control: str | None
    objective: str
    trunk: str
    normalize: str
    texts: int | str
    grid: str
    shots: Shots
    label_budget: int
    shared_width: int
    mean: float
    std: float | None
    seeds: int

    @property
    def arm(self) -> Arm:
        return self.method, self.control

    def to_json(self) -> dict[str, Any]:
        """DESIGN's ROW, and `shared_width`: `unimodal-deep` has one row for each."""
        return {**vars(self), "auxiliaries": list(self.auxiliaries)}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """a − b in percentage points, paired by seed.

    `shots` is None where the difference is the mean over all shots of the comparison. `left_out` counts seeds
    that one side alone has. `role` says what the pair measures.
    """

    dataset: str
    target: str
    auxiliaries: tuple[str, ...]
    shots: Shots | None
    role: str
    a: str
    b: str
    interval: Interval
    left_out: int

    def to_json(self) -> dict[str, Any]:
        """DESIGN's entry of `differences`."""
        return {
            "dataset": self.dataset,
            "target": self.target,
            "auxiliaries": list(self.auxiliaries),
            "shots": self.shots,
            "a": self.a,
            "b": self.b,
            "delta": self.interval.delta,
            "ci_low": self.interval.low,
            "ci_high": self.interval.high,
            "seeds": self.interval.draws,
        }


@dataclass(frozen=True, kw_only=True)
class AcrossDataSets:
    """One difference averaged over data sets; `interval.draws` is their number."""

    target: str
    auxiliaries: tuple[str, ...]
    shots: Shots
    role: str
    a: str
    b: str
    datasets: tuple[str, ...]
    interval: Interval


class Comparison:
    """A target with one configuration of auxiliaries: what the table of a report shows.

    `auxiliaries` is () for a run that has unimodal methods alone. `shots` ascend, "all" last.
    """

    def __init__(
        self, scores: _Scores, cells: Sequence[CellResult], auxiliaries: tuple[str, ...], width: int | None
    ) -> None:
        self._scores = scores
        self.auxiliaries = auxiliaries
        self.shared_width = width
        self._cells: dict[tuple[Arm, Shots], dict[int, CellResult]] = {}
        for result in cells:
            cell = result.cell
            if cell.method in ALONE:
                belongs = cell.method == "unimodal" or width is None or cell.shared_width == width
            else:
                belongs = (cell.auxiliaries, cell.shared_width) == (auxiliaries, width)
            if belongs:
                key = ((cell.method, cell.control), cell.shots)
                self._cells.setdefault(key, {})[cell.seed] = result
        first = next(iter(self._cells.values()))
        self.dataset = next(iter(first.values())).dataset
        self.target = next(iter(first.values())).target
        self.arms: list[Arm] = sorted({arm for arm, _ in self._cells}, key=_arm_order)
        self.shots: list[Shots] = sorted({shots for _, shots in self._cells}, key=_shots_order)

    @cached_property
    def rows(self) -> list[Row]:
        """Every method at every number of shots, in the order of the ladder, controls after their method."""
        return [_row(list(self._cells[a, k].values())) for a in self.arms for k in self.shots if (a, k) in self._cells]

    @cached_property
    def differences(self) -> list[Difference]:
        """Every pair of the ladder and of the controls, at every number of shots."""
        pairs = self._pairs()
        return [
            difference
            for k in self.shots
            for role, a, b in pairs
            if (difference := self._difference(role, a, b, [k])) is not None
        ]

    @cached_property
    def averaged(self) -> list[Difference]:
        """Every pair as the mean over all shots, each seed's draws kept together."""
        found = (self._difference(role, a, b, self.shots) for role, a, b in self._pairs())
        return [difference for difference in found if difference is not None]

    @property
    def title(self) -> str:
        """Such as `shapes: image ← text + audio`."""
        return f"{self.dataset}: {self.target}" + (f" ← {' + '.join(self.auxiliaries)}" if self.auxiliaries else "")

    @property
    def seeds(self) -> int:
        """The largest number of seeds that a row has."""
        return max(row.seeds for row in self.rows)

    def row(self, arm: Arm, shots: Shots) -> Row | None:
        """The row of a method, or None."""
        return next((row for row in self.rows if row.arm == arm and row.shots == shots), None)

    def _pairs(self) -> list[tuple[str, Arm, Arm]]:
        deep: Arm = ("unimodal-deep", None)
        controls = [arm for arm in self.arms if arm[1] is not None]
        return [
            *(pair for pair in LADDER if pair[1] in self.arms and pair[2] in self.arms),
            *((f"{c[1]} against no data", c, deep) for c in controls if deep in self.arms),
            *((f"data against {c[1]}", (c[0], None), c) for c in controls if (c[0], None) in self.arms),
        ]

    def _difference(self, role: str, a: Arm, b: Arm, shots: Sequence[Shots]) -> Difference | None:
        a_cells = [self._cells.get((a, k), {}) for k in shots]
        b_cells = [self._cells.get((b, k), {}) for k in shots]
        both = set.intersection(*map(set, a_cells + b_cells))
        if not both:
            return None
        seeds = sorted(both)
        a_sn, b_sn = (
            sum(np.stack([self._scores.correct(cells[s]) for s in seeds]).astype(np.int64) for cells in side)
            for side in (a_cells, b_cells)
        )
        names = (self.dataset, self.target, self.auxiliaries, tuple(shots), arm_name(a), arm_name(b))
        found = paired_difference(a_sn, b_sn, rng=generator_for(*names))
        percent = [None if x is None else 100.0 * x / len(shots) for x in (found.delta, found.low, found.high)]
        return Difference(
            dataset=self.dataset,
            target=self.target,
            auxiliaries=self.auxiliaries,
            shots=shots[0] if len(shots) == 1 else None,
            role=role,
            a=arm_name(a),
            b=arm_name(b),
            interval=Interval(percent[0] or 0.0, percent[1], percent[2], found.draws),
            left_out=len(set.union(*map(set, a_cells + b_cells)) - both),
        )


def compare(run: Run, shots: Iterable[Shots] | None = None) -> list[Comparison]:
    """One `Comparison` per configuration of auxiliaries of a run, in the run's order, at `shots` (None: all).

    Raises:
        InputError: the run has no finished cell (at these shots), or its files are damaged.
    """
    cells = run.cells
    if shots is not None:
        wanted = set(shots)
        cells = [result for result in cells if result.cell.shots in wanted]
    if not cells:
        raise InputError(f"{run.path} has no finished cell; `uml train` with the same options goes on with it")
    found = dict.fromkeys((c.cell.auxiliaries, c.cell.shared_width) for c in cells if c.cell.method not in ALONE)
    order = [tuple(labels) for labels in run.config.get("configurations", [])]
    ranked = sorted(found, key=lambda key: (order.index(key[0]) if key[0] in order else len(order), key))
    scores = _Scores(run)
    return [Comparison(scores, cells, *key) for key in ranked] or [Comparison(scores, cells, (), None)]


def table(comparisons: Iterable[Comparison]) -> list[Row]:
    """All rows, each once: the unimodal ones are shared by the configurations of a run."""
    unique = {
        (row.dataset, row.target, row.auxiliaries, row.arm, row.shots, row.shared_width): row
        for comparison in comparisons
        for row in comparison.rows
    }
    return list(unique.values())


def across(comparisons: Iterable[Comparison]) -> list[AcrossDataSets]:
    """Differences averaged over data sets, where two or more have the same comparison.

    Runs are the same comparison if target, auxiliaries, encoders, normalisation, texts and grid are; of two
    runs of one data set the later in the list counts.
    """
    groups: dict[tuple[Any, ...], dict[str, Difference]] = {}
    for comparison in comparisons:
        settings = next((r for r in reversed(comparison.rows) if r.auxiliaries), comparison.rows[-1])
        same = (tuple(sorted(settings.encoders.items())), settings.normalize, settings.texts, settings.grid)
        for d in comparison.differences:
            key = (d.target, d.auxiliaries, d.shots, d.role, d.a, d.b, same)
            groups.setdefault(key, {})[d.dataset] = d
    found = []
    for (target, auxiliaries, shots, role, a, b, same), by_dataset in groups.items():
        if len(by_dataset) < 2:
            continue
        names = tuple(sorted(by_dataset))
        rng = generator_for("across", names, target, auxiliaries, shots, a, b, same)
        interval = across_data_sets([by_dataset[name].interval.delta for name in names], rng=rng)
        found.append(
            AcrossDataSets(
                target=target, auxiliaries=auxiliaries, shots=shots, role=role, a=a, b=b,
                datasets=names, interval=interval,
            )
        )  # fmt: skip
    return found


def _row(results: list[CellResult]) -> Row:
    first = results[0]
    mean, std = mean_std(r.test_acc for r in results)
    return Row(
        dataset=first.dataset,
        target=first.target,
        auxiliaries=first.cell.auxiliaries,
        encoders=first.encoders,
        method=first.cell.method,
        control=first.cell.control,
        objective=first.objective,
        trunk=first.trunk,
        normalize=first.normalize,
        texts=first.texts,
        grid=first.grid,
        shots=first.cell.shots,
        label_budget=first.label_budget,
        shared_width=first.cell.shared_width,
        mean=mean,
        std=std,
        seeds=len(results),
    )


class _Scores:
    """Which test rows each cell of a run is right about; every file is read once."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._known: dict[str, NDArray[np.bool_]] = {}

    def correct(self, result: CellResult) -> NDArray[np.bool_]:
        """(N,) right or wrong. Raises `InputError` for files that are gone or damaged."""
        key = result.cell.key
        if key not in self._known:
            record = self._run.path / "cells" / f"{key}.json"
            try:
                labels, predictions = self._run.test_labels, result.test_predictions
            except (OSError, ValueError, EOFError) as error:
                raise InputError(
                    f"the predictions of {record} cannot be read ({error}); delete that file and train again"
                ) from None
            if predictions.shape != labels.shape:
                raise InputError(
                    f"{record} has {len(predictions)} predictions for {len(labels)} test rows; "
                    "delete that file and train again"
                )
            self._known[key] = predictions == labels
        return self._known[key]


def _arm_order(arm: Arm) -> tuple[int, str]:
    method, control = arm
    return (ORDER.index(method) if method in ORDER else len(ORDER)), control or ""


def _shots_order(shots: Shots) -> float:
    return float("inf") if shots == "all" else shots
