"""A recipe run: every part trained that can be, its numbers read, and what could not be run with the reason.

Nothing here trains: `uml_train` does, and goes on where it was stopped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uml_cache import InputError, Output, StoreInfo, WorkError, make_folder
from uml_evaluate.analyses.running import analyse
from uml_evaluate.comparing.comparison import Comparison, compare
from uml_evaluate.comparing.shift import shifted
from uml_evaluate.probes.completing import complete_probes
from uml_evaluate.reproduce.readings import of_finding, pooled
from uml_evaluate.reproduce.recipe.parts import Need, Part, parts_of
from uml_evaluate.reproduce.recipe.published import Key, Number
from uml_evaluate.reproduce.recipe.recipe import Recipe
from uml_evaluate.reproduce.recipe.settings import finetune_settings, grid_file, train_settings
from uml_evaluate.reproduce.supply import Supply
from uml_evaluate.reproduce.verdicts import Verdict, verdicts
from uml_train import fine_tune, full_name, train

if TYPE_CHECKING:
    from uml_evaluate.analyses.finding import Finding
    from uml_train import Run, TrainSettings


@dataclass(frozen=True, kw_only=True)
class Lacking:
    """Something that was not run, and why, in a line."""

    what: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a recipe's parts came to.

    Comparisons come with their variants; `shifted` are those of the same heads on other data sets.
    """

    recipe: Recipe
    runs: list[Run]
    comparisons: list[tuple[str, Comparison]]
    shifted: list[tuple[str, Comparison]]
    findings: list[tuple[str, Finding]]
    numbers: list[Number]
    lacking: list[Lacking]

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """The recipe's verdicts on what was run; none where it asks for none."""
        return verdicts(self.comparisons, self.recipe.verdicts, self.recipe.baselines)


def run_parts(
    recipe: Recipe, supply: Supply, out: Path, *, datasets: Iterable[str] | None, output: Output
) -> Outcome:
    """Train and read every part that has what it needs.

    Raises:
        InputError: the recipe has no part for these data sets.
    """
    parts = parts_of(recipe, datasets)
    if not parts:
        raise InputError(f"{recipe.name} has none of these data sets; it has {', '.join(recipe.datasets)}")
    make_folder(out)
    outcome = Outcome(recipe=recipe, runs=[], comparisons=[], shifted=[], findings=[], numbers=[], lacking=[])
    values: dict[Key, list[Number]] = defaultdict(list)
    for i, part in enumerate(parts):
        output.say(f"{recipe.name}: part {i + 1} of {len(parts)}, {part.name}")
        try:
            run = _trained(recipe, part, supply, out, output)
        except (InputError, WorkError) as error:
            outcome.lacking.append(Lacking(what=part.name, why=_line(error)))
            continue
        outcome.runs.append(run)
        _read(part, compare(run, _finished(run, part)), outcome, values)
        _look(recipe, part, run, supply, outcome, values, output)
    outcome.numbers.extend(pooled(values))
    return outcome


def _trained(recipe: Recipe, part: Part, supply: Supply, out: Path, output: Output) -> Run:
    """The finished run of a part. Raises `InputError` or `WorkError` where it cannot be had."""
    if recipe.kind == "finetune":
        return _finetuned(recipe, part, supply, out, output)
    needed = {need: supply.store(need) for need in part.needs}
    run = train(settings_of(recipe, part, needed, supply, out), output=output)
    if recipe.probes:
        complete_probes(run, recipe.probes, shots=run.settings.shots or (), output=output)
    return run


def _finetuned(recipe: Recipe, part: Part, supply: Supply, out: Path, output: Output) -> Run:
    tuning = part.setting.finetune or {}
    places: dict[str, Any] = {
        "data": str(supply.folder(part.target)),
        "name": part.dataset,
        "keep": False,
        "workers": supply.sources.workers,
        "weights": supply.sources.weights.get(tuning["encoder"]),
    }
    needed = {}
    for need in part.needs[1:]:
        if need.encoder is None:
            places["aux_data"] = str(supply.folder(need))
        else:
            needed[need] = supply.store(need)
    settings = settings_of(recipe, part, needed, supply, out)
    tuned = finetune_settings(part.setting, protocol=recipe.protocol, **places)
    return fine_tune(settings, tuned, output=output)


def settings_of(
    recipe: Recipe, part: Part, stores: Mapping[Need, StoreInfo], supply: Supply, out: Path
) -> TrainSettings:
    """The settings of a part's run below `out`, over these stores.

    Raises:
        InputError: a file of folds that is not there, a grid that is refused.
    """
    values: dict[str, Any] = {
        "cache": supply.sources.cache, "out": out / "runs", "device": supply.sources.device,
    }  # fmt: skip
    if recipe.kind != "finetune":
        values |= {"dataset": part.dataset, "target": _label(part.target, stores[part.target])}
    if part.setting.grid is not None:
        values["grid"] = str(grid_file(part.setting.grid, out, part.setting.setup))
    if part.shots is not None:
        values["shots"] = part.shots
    if part.texts is not None:
        values["texts"] = part.texts
    if part.fold:
        assert part.shots is not None
        values["splits"] = supply.fold(part.target, part.fold, part.shots[0])
    settings = train_settings(part.setting, recipe.kind, (), protocol=recipe.protocol, **values)
    configurations = tuple(
        tuple(_label(need, stores[need]) if need in stores else need.place for need in needs)
        for needs in part.configurations
        if needs
    )
    return replace(settings, auxiliaries=configurations)


def _label(need: Need, store: StoreInfo) -> str:
    """The name that `uml train` takes for exactly this store."""
    return f"{need.place}:{full_name(store)}"


def _finished(run: Run, part: Part) -> Sequence[Any] | None:
    return part.shots if part.shots is not None else run.settings.shots


def _read(
    part: Part,
    comparisons: Sequence[Comparison],
    outcome: Outcome,
    values: dict[Key, list[Number]],
    dataset: str | None = None,
) -> None:
    """Take the accuracies of every method; comparisons are in the order of the configurations."""
    for variant, comparison in zip(part.variants, comparisons, strict=True):
        (outcome.comparisons if dataset is None else outcome.shifted).append((variant, comparison))
        for row in comparison.rows:
            key = Key(
                dataset=dataset or part.dataset,
                variant=variant or None,
                shots=row.shots,
                method=row.method,
                control=row.control,
            )
            values[key].append(Number(key=key, value=row.mean, std=row.std, seeds=row.seeds))


def _look(
    recipe: Recipe,
    part: Part,
    run: Run,
    supply: Supply,
    outcome: Outcome,
    values: dict[Key, list[Number]],
    output: Output,
) -> None:
    """Shifted data sets and analyses of a finished run."""
    for name in recipe.shift:
        try:
            supply.store(replace(part.target, dataset=name))
            found = shifted(run, [name], cache=supply.sources.cache, output=output)
        except (InputError, WorkError) as error:
            outcome.lacking.append(Lacking(what=f"{part.name} → {name}", why=_line(error)))
            continue
        _read(part, found.shifts[0].shifted, outcome, values, dataset=name)
    if not recipe.analyses:
        return
    options = {"boundary": {"pair": _pair(recipe.boundary, run.config["classes"])}} if recipe.boundary else {}
    for variant, labels in zip(part.variants, run.config["configurations"] or [None], strict=True):
        try:
            found_all = analyse(
                run, recipe.analyses, auxiliaries=labels, shots=_finished(run, part), options=options,
                output=output,
            )  # fmt: skip
        except (InputError, WorkError) as error:
            outcome.lacking.append(Lacking(what=f"analyses of {part.name}", why=_line(error)))
            continue
        for finding in found_all.findings:
            outcome.findings.append((part.dataset, finding))
            for number in of_finding(finding, part.dataset, variant or None):
                values[number.key].append(number)


def _pair(names: Sequence[str], classes: Sequence[str]) -> list[str]:
    """The run's spelling of two classes: case, `_` and blanks do not count."""
    known = {name.replace("_", " ").lower(): name for name in classes}
    return [known.get(name.replace("_", " ").lower(), name) for name in names]


def _line(error: Exception) -> str:
    return str(error).splitlines()[0]
