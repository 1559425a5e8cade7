"""From a run to its table: one row per method, and the paired differences that say what the data added.

Shapes: S seeds that both sides of a difference have, N test samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from uml_cache import InputError
from uml_evaluate.comparing.known import scored_difference
from uml_evaluate.comparing.rows import (
    ALONE,
    FROM_RIDGE,
    LADDER,
    PROBES,
    SEQUENCES,
    TEXTBOOK,
    TRAINED_ON_DATA,
    AcrossDataSets,
    Arm,
    Difference,
    Row,
    arm_name,
    arm_order,
    shots_order,
)
from uml_evaluate.comparing.statistics import across_data_sets, generator_for, mean_std
from uml_evaluate.metrics.measures import ACCURACY, Metric
from uml_evaluate.metrics.values import RowValues, has_scores, without_scores
from uml_train import protocol_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from uml_train import CellResult, Run, Shots


class Comparison:
    """A target with one configuration of auxiliaries: what the table of a report shows.

    `auxiliaries` is () for a run that has unimodal methods alone. `shots` ascend, "all" last. `test_groups`
    is how many groups (speakers, patients) the test rows come from, None where the data has no groups.
    `protocol` is how tables name the run's protocol, "" where it is `fair`.
    """

    def __init__(
        self,
        values: RowValues,
        cells: Sequence[CellResult],
        auxiliaries: tuple[str, ...],
        width: int | None,
        *,
        test_groups: int | None = None,
        protocol: str = "",
    ) -> None:
        self._values = values
        self.metric = values.metric
        self.test_groups = test_groups
        self.protocol = protocol
        self.auxiliaries = auxiliaries
        self.shared_width = width
        self._cells: dict[tuple[Arm, Shots], dict[int, CellResult]] = {}
        aligned = any(c.cell.aligned for c in cells if c.cell.auxiliaries == auxiliaries and auxiliaries)
        for result in cells:
            cell = result.cell
            if not cell.auxiliaries:
                same = (cell.shared_width, cell.aligned) == (width, aligned)
                belongs = cell.method != "unimodal-deep" or width is None or same
            else:
                belongs = (cell.auxiliaries, cell.shared_width) == (auxiliaries, width)
            if belongs:
                key = ((cell.method, cell.control), cell.shots)
                self._cells.setdefault(key, {})[cell.seed] = result
        first = next(iter(self._cells.values()))
        self.dataset = next(iter(first.values())).dataset
        self.target = next(iter(first.values())).target
        self.objective = next(iter(first.values())).objective
        self.arms: list[Arm] = sorted({arm for arm, _ in self._cells}, key=arm_order)
        self.shots: list[Shots] = sorted({shots for _, shots in self._cells}, key=shots_order)

    @cached_property
    def rows(self) -> list[Row]:
        """Every method at every number of shots, in the order of the ladder, controls after their method."""
        return [
            _row(list(self._cells[a, k].values()), self._values)
            for a in self.arms
            for k in self.shots
            if (a, k) in self._cells
        ]

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

    def results(self, arm: Arm, shots: Shots) -> list[CellResult]:
        """The cells of a method, by seed; none where it has none."""
        found = self._cells.get((arm, shots), {})
        return [found[seed] for seed in sorted(found)]

    def values(self, result: CellResult) -> NDArray[np.generic]:
        """(N,) what the metric gives each test row of a cell: of accuracy bool, is it right; else float64."""
        return self._values.of(result)

    @property
    def chance(self) -> tuple[float, float]:
        """Accuracy in percent of guessing among the classes, and of always saying the largest one."""
        return self._values.chance

    @property
    def title(self) -> str:
        """Such as `shapes: image ← text + audio`."""
        return f"{self.dataset}: {self.target}" + (
            f" ← {' + '.join(self.auxiliaries)}" if self.auxiliaries else ""
        )

    @property
    def seeds(self) -> int:
        """The largest number of seeds that a row has."""
        return max(row.seeds for row in self.rows)

    def row(self, arm: Arm, shots: Shots) -> Row | None:
        """The row of a method, or None."""
        return next((row for row in self.rows if row.arm == arm and row.shots == shots), None)

    @property
    def baseline(self) -> str:
        """The method that is `uml` without the unpaired data."""
        return "unimodal" if self.on_sequences else "unimodal-deep"

    @property
    def on_sequences(self) -> bool:
        """Whether networks learnt from sequences, so that `unimodal` has the network of `uml`."""
        return self.objective in ("ssl", "joint")

    def _pairs(self) -> list[tuple[str, Arm, Arm]]:
        def without(control: Arm) -> Arm:
            return ("ridge" if control[0] in FROM_RIDGE else self.baseline), None

        ladder = SEQUENCES if self.on_sequences else LADDER
        controls = [arm for arm in self.arms if arm[1] is not None]
        return [
            *(pair for pair in ladder if pair[1] in self.arms and pair[2] in self.arms),
            *(
                (f"all, to the rival {arm[0]}", (method, None), arm)
                for arm in self.arms
                if arm[0] in PROBES
                for method in TRAINED_ON_DATA
                if (method, None) in self.arms
            ),
            *(
                ("head, to the textbook", (method, None), (TEXTBOOK, None))
                for method in ALONE
                if (method, None) in self.arms and (TEXTBOOK, None) in self.arms
            ),
            *((f"{c[1]} against no data", c, b) for c in controls if (b := without(c)) in self.arms),
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
            np.sum([[self._values.of(cells[s]) for s in seeds] for cells in side], axis=0)
            for side in (a_cells, b_cells)
        )
        found = scored_difference(a_sn, b_sn)
        return Difference(
            dataset=self.dataset,
            target=self.target,
            auxiliaries=self.auxiliaries,
            shots=shots[0] if len(shots) == 1 else None,
            role=role,
            a=arm_name(a),
            b=arm_name(b),
            interval=found.scaled(self.metric.factor / len(shots), self.metric.unit),
            metric=self.metric.name,
            left_out=len(set.union(*map(set, a_cells + b_cells)) - both),
        )


def compare(run: Run, shots: Iterable[Shots] | None = None, *, metric: Metric = ACCURACY) -> list[Comparison]:
    """One `Comparison` per configuration of auxiliaries of a run, in the run's order, at `shots` (None: all).

    Cells that lack the scores which a metric needs are left out.

    Raises:
        InputError: the run has no finished cell (at these shots), its files are damaged, or no cell has the
            scores that the metric needs.
    """
    cells = run.cells
    if shots is not None:
        wanted = set(shots)
        cells = [result for result in cells if result.cell.shots in wanted]
    if not cells:
        raise InputError(
            f"{run.path} has no finished cell; run `uml train` again with the same options to finish it"
        )
    if metric.needs_scores:
        cells = [result for result in cells if has_scores(result)]
        if not cells:
            raise InputError(without_scores(run, [metric.name]))
    found = dict.fromkeys((c.cell.auxiliaries, c.cell.shared_width) for c in cells if c.cell.auxiliaries)
    order = [tuple(labels) for labels in run.config.get("configurations", [])]
    ranked = sorted(found, key=lambda key: (order.index(key[0]) if key[0] in order else len(order), key))
    values = RowValues(run, metric)
    groups = run.config.get("test_groups")
    keys: list[tuple[tuple[str, ...], int | None]] = [*ranked] or [((), None)]
    protocol = protocol_text(run.config.get("protocol"))
    return [Comparison(values, cells, *key, test_groups=groups, protocol=protocol) for key in keys]


def table(comparisons: Iterable[Comparison]) -> list[Row]:
    """All rows, each once: the unimodal ones are shared by the configurations of a run."""
    unique = {
        (row.dataset, row.target, row.auxiliaries, row.arm, row.shots, row.shared_width, row.metric): row
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
        trained = [r for r in comparison.rows if r.method not in PROBES] or comparison.rows
        settings = next((r for r in reversed(trained) if r.auxiliaries), trained[-1])
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


def _row(results: list[CellResult], values: RowValues) -> Row:
    first = results[0]
    mean, std = mean_std(values.mean(r) for r in results)
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
        metric=values.metric.name,
        seeds=len(results),
    )
