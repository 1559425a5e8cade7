"""`uml eval`: the table of a run at given shots; cells that the run lacks there are trained first."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from uml_cache import QUIET, InputError, Output, WorkError
from uml_evaluate.comparing.comparison import Comparison, compare, table
from uml_evaluate.comparing.rows import ORDER, PROBES, TEXTBOOK
from uml_evaluate.comparing.shown.figures import differences_figure, file_name, save
from uml_evaluate.comparing.shown.summary import summary
from uml_evaluate.comparing.shown.tables import WIDTH, terminal
from uml_evaluate.metrics.classes import ClassTables
from uml_evaluate.metrics.measures import ACCURACY, METRICS, PER_CLASS, TABLES
from uml_evaluate.metrics.values import available
from uml_evaluate.probes.completing import complete_probes
from uml_train import complete, missing_cells, require_heads, run_grid, store_remarks, time_text, wanted_cells

if TYPE_CHECKING:
    from uml_train import Cell, Run, Shots


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found. `trained` and `probed` count the cells that the run lacked.

    `comparisons` has one for every metric and configuration; `classes` the tables of classes by their name.
    """

    run: Run
    comparisons: list[Comparison]
    figures: list[Path]
    trained: int
    probed: int = 0
    classes: dict[str, list[ClassTables]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The answer of `uml eval --json`; with `per_class` and `confusion` where they were asked for."""
        classes = {
            name.replace("-", "_"): [
                entry
                for one in found
                for entry in (one.per_class_json() if name == PER_CLASS else one.confusion_json())
            ]
            for name, found in self.classes.items()
        }
        return {
            **classes,
            "table": [row.to_json() for row in table(self.comparisons)],
            "differences": [d.to_json() for c in self.comparisons for d in c.differences],
            "figures": [str(path) for path in self.figures],
            "rows": self.run.config.get("used", {}),
        }

    def text(self) -> str:
        """The tables and a summary of each, for the terminal."""
        search = search_text(self.run, {row.shots for row in table(self.comparisons)})
        parts = [
            f"{terminal(comparison)}\n\n{summary(comparison)}"
            if comparison.metric is ACCURACY
            else terminal(comparison)
            for comparison in self.comparisons
        ]
        for name, found in self.classes.items():
            parts += [one.per_class_text() if name == PER_CLASS else one.confusion_text() for one in found]
        return "\n\n\n".join([*parts, search] if search else parts)


def search_text(run: Run, shots: Iterable[Shots]) -> str:
    """How many candidates validation chose from, per method; empty where every method searched the same."""
    wanted = set(shots)
    counts: dict[int, list[str]] = {}
    found = {r.cell.method: r for r in run.cells if r.cell.shots in wanted and r.cell.method in PROBES}
    for name in sorted(found, key=ORDER.index):
        counts.setdefault(len(found[name].candidates), []).append(name)
    if not counts:
        return ""
    parts = [f"{', '.join(names)}: {n}" for n, names in counts.items()]
    if any(r.cell.shots in wanted and r.cell.method not in PROBES for r in run.cells):
        grid = run_grid(run)
        looks = f"each looked at up to {grid.schedule.looks} times while it trains"
        heads = {
            r.cell.method: len(r.candidates)
            for r in run.cells
            if r.cell.shots in wanted and r.cell.method not in PROBES and r.chosen is None
        }
        others = [f"{m}: {heads[m]}" for m in ORDER if heads.get(m, grid.size) != grid.size]
        parts[:0] = [f"heads: {grid.size}" if grid.points else f"heads: {grid.size}, {looks}", *others]
    return fill(f"Candidates that validation chose from. {'; '.join(parts)}.", WIDTH)


def evaluate(
    run: Run,
    *,
    shots: Sequence[Shots],
    heads: bool = True,
    probes: Sequence[str] = (),
    metrics: Sequence[str] = (ACCURACY.name,),
    train: bool = True,
    cache: Path | None = None,
    output: Output = QUIET,
) -> Evaluation:
    """Compare the methods of a run at `shots`, training with the run's own settings what it lacks there.

    Figures of the differences are written into the run's folder `figures`, as PNG and SVG, where it can be
    written. What the run's stores are by now is said; results that are there are shown all the same.

    Args:
        shots: labelled target samples per class: numbers from 1 on, or "all".
        heads: whether the run's own methods are trained where it lacks them.
        probes: probes and rivals that are fitted to the same draws and added to the run.
        train: whether anything is trained or fitted; without, the table shows what is there.
        metrics: names of `METRICS` and `TABLES`; each has tables of its own.
        cache: where the run's stores are now, if they have moved; needed only for training.

    Raises:
        InputError: the stores are gone or have changed, a class has fewer samples than asked for, files of
            the run are damaged, or it gives none of the metrics.
    """
    if probes:
        require_heads(run)
    for remark in store_remarks(run, cache):
        output.say(remark)
    try:
        lacks = _lacking(run, shots) if heads else []
        if lacks:
            output.say(_announced(run, shots, lacks, train=train))
        trained = complete(run, shots=shots, cache=cache, output=output) if heads and train else []
        fits = bool(probes) and train
        probed = complete_probes(run, probes, shots=shots, cache=cache, output=output) if fits else []
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{run.path / 'config.json'} is damaged ({type(error).__name__}: {error}); train again"
        ) from None
    if heads and train:
        add_textbook(run, shots=shots, cache=cache, output=output)
    names = ", ".join(map(str, shots))
    if probed:
        fitted = ", ".join(dict.fromkeys(cell.method for cell in probed))
        output.say(f"{run.path}: {len(probed)} cells of {fitted} were fitted and added to it")
    elif fits:
        output.say(f"{run.path} has every cell of the rivals at {names} shots; none was fitted")
    if trained:
        output.say(
            f"{run.path} lacked {len(trained)} cells at {names} shots; they were trained and added to it"
        )
    elif heads and not lacks:
        output.say(f"{run.path} is complete at {names} shots; nothing was trained")
    comparisons = _compared(run, shots, [name for name in metrics if name in METRICS], output)
    asked = [name for name in metrics if name in TABLES]
    plain = compare(run, shots) if asked else []
    classes = {name: [ClassTables.of(run, comparison) for comparison in plain] for name in asked}
    figures: list[Path] = []
    for comparison in comparisons:
        if comparison.metric is ACCURACY and comparison.differences:
            try:
                figures += _figure(run, comparison, shots)
            except (
                OSError
            ) as error:  # somebody else's run, or a snapshot: its table can be shown all the same
                figures_folder = run.path / "figures"
                output.say(f"{figures_folder} cannot be written ({error.strerror}); no figure was saved")
                break
    counts = {"trained": len(trained), "probed": len(probed)}
    return Evaluation(run=run, comparisons=comparisons, figures=figures, classes=classes, **counts)


def _lacking(run: Run, shots: Sequence[Shots]) -> list[Cell]:
    """The cells at `shots` that the run's settings ask for and that it does not have."""
    return missing_cells(wanted_cells(run, shots), run)


def _announced(run: Run, shots: Sequence[Shots], lacks: Sequence[Cell], *, train: bool) -> str:
    """What is going to be trained, and for how long, by the time that the run's own cells took."""
    names = ", ".join(map(str, shots))
    said = f"{run.path} lacks {len(lacks)} cell{'s' * (len(lacks) != 1)} at {names} shots"
    if not train:
        return f"{said}; the table is without them (--no-train)"
    took: dict[str, list[float]] = {}
    for result in run.cells:
        took.setdefault(result.cell.method, []).append(result.seconds)
    every = [s for seconds in took.values() for s in seconds]
    if not every:
        return f"{said}: they are trained now; --no-train shows what is there"
    means = {method: sum(seconds) / len(seconds) for method, seconds in took.items()}
    guess = sum(means.get(cell.method, sum(every) / len(every)) for cell in lacks)
    return (
        f"{said}: they are trained now, in about {time_text(max(guess, 1.0))} of one core, judging by its "
        "other cells; --no-train shows what is there"
    )


def _figure(run: Run, comparison: Comparison, shots: Sequence[Shots]) -> list[Path]:
    """The files of the figure of differences; drawn where a cell is newer than they are."""
    numbers = "-".join(map(str, shots))
    name = f"{file_name(comparison)}-k{numbers}-differences"
    files = [run.path / "figures" / f"{name}.{kind}" for kind in ("png", "svg")]
    with contextlib.suppress(FileNotFoundError):
        drawn = min(file.stat().st_mtime_ns for file in files)
        cells = [run.path / "cells", *(run.path / "cells").iterdir()]
        if all(cell.stat().st_mtime_ns < drawn for cell in cells):
            return files
    return save(differences_figure(comparison), run.path / "figures", name).files


def add_textbook(
    run: Run, *, shots: Sequence[Shots], cache: Path | None = None, output: Output = QUIET
) -> None:
    """Fit the best textbook classifier on those draws of a run that lack it; a line where it cannot be."""
    if run.config.get("objective") != "supervised":
        return
    try:
        complete_probes(run, (TEXTBOOK,), shots=shots, cache=cache, output=output)
    except (InputError, WorkError, OSError) as error:  # its stores are gone, or somebody else's run
        output.say(f"the best textbook classifier is no row of this table: {error}")


def _compared(run: Run, shots: Sequence[Shots], names: Sequence[str], output: Output) -> list[Comparison]:
    """The comparisons by every metric that the run gives at these shots."""
    if not names:
        return []
    cells = [result for result in run.cells if result.cell.shots in set(shots)]
    found, said = available(run, cells, names)
    for line in said:
        output.say(line)
    return [comparison for name in found for comparison in compare(run, shots, metric=METRICS[name])]
