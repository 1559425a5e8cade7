"""What a recipe would do: `--dry-run`. Nothing is written.

Time is estimated as `uml train --dry-run` does it, by training a few steps, so that it takes the features;
what has none yet is counted in models and in bytes to extract.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from uml_cache import InputError, Output
from uml_evaluate.reproduce.recipe.parts import Need, Part, parts_of, shots_of
from uml_evaluate.reproduce.recipe.recipe import Recipe
from uml_evaluate.reproduce.recipe.settings import grid_file, train_settings
from uml_evaluate.reproduce.recipe_run import settings_of
from uml_evaluate.reproduce.supply import Sources, Supply
from uml_manifests import list_benchmarks
from uml_train import (
    AUTO,
    FAIR,
    OBJECTIVES,
    SELF_TRAINING,
    SOLVED,
    WITH_AUXILIARIES,
    WITH_AUXILIARY_LOSS,
    TrainSettings,
    bytes_text,
    estimate,
    load_grid,
    time_text,
)


@dataclass(frozen=True, kw_only=True)
class PartPlan:
    """One part: models to train, how many of the things that it reads are missing, and what it takes.

    `head_bytes` and `seconds` are None where nothing could be timed.
    """

    name: str
    models: int
    missing: int
    head_bytes: int | None
    seconds: float | None

    def text(self) -> str:
        """One line: models, bytes and time."""
        said = [f"{self.models:,} models"]
        if self.head_bytes is not None:
            said.append(f"{bytes_text(self.head_bytes)} of heads")
        if self.seconds is not None:
            said.append(f"about {time_text(self.seconds)}")
        if self.missing:
            said.append(f"lacks {self.missing}")
        return f"  {self.name}: {'; '.join(said)}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a recipe would do. `missing` are the things that are not here by name, with the bytes of their
    features; 0 where that is not known beforehand, as of texts."""

    recipe: Recipe
    parts: list[PartPlan]
    missing: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values."""
        return {
            "recipe": self.recipe.name,
            "parts": [vars(part) for part in self.parts],
            "missing": [{"what": what, "bytes": size or None} for what, size in self.missing.items()],
        }

    def text(self) -> str:
        """A line for each part, the sums, and a line for each thing that is missing."""
        known = [part.seconds for part in self.parts if part.seconds is not None]
        total = f"{len(self.parts)} runs, {sum(part.models for part in self.parts):,} models"
        if known:
            total += f"; about {time_text(sum(known))} for the {len(known)} that could be timed"
        if any(part.seconds is None and not part.missing for part in self.parts):
            total += "; networks are not timed"
        lines = [f"{self.recipe.name}: {self.recipe.title}", *(part.text() for part in self.parts), total]
        if self.missing:
            lines.append("missing, and extracted where data and weights are there:")
            for what, size in self.missing.items():
                lines.append(f"  {what}" + (f", at least {bytes_text(size)}" if size else ""))
        return "\n".join([*lines, "nothing was written"])


def planned(
    recipe: Recipe, sources: Sources, *, scale: str, datasets: Iterable[str] | None, output: Output
) -> Plan:
    """The plan of a recipe at a scale; what `tiny` reads is generated for it and forgotten again."""
    if scale == "small":
        from uml_evaluate.reproduce.small import at_hand

        recipe, sources = at_hand(recipe, sources, output)
    if scale != "tiny":
        return plan(recipe, Supply(sources, output), datasets=datasets, output=output)
    from uml_evaluate.reproduce.generated import generate, shrunk

    with TemporaryDirectory() as scratch:
        small = shrunk(recipe, Path(scratch))
        supply = Supply(generate(small, Path(scratch)), output)
        return plan(small, supply, datasets=datasets, output=output)


def plan(recipe: Recipe, supply: Supply, *, datasets: Iterable[str] | None, output: Output) -> Plan:
    """Count what every part trains and lacks, and time what can be timed."""
    parts = parts_of(recipe, datasets)
    missing = dict.fromkeys(need for part in parts for need in supply.missing(part))
    shifts = (replace(part.target, dataset=name) for part in parts for name in recipe.shift)
    missing |= dict.fromkeys(need for need in shifts if supply.find(need) is None)
    return Plan(
        recipe=recipe,
        parts=[_planned(recipe, part, supply, output) for part in parts],
        missing={need.text(): bytes_of(need) for need in missing},
    )


def _planned(recipe: Recipe, part: Part, supply: Supply, output: Output) -> PartPlan:
    missing = len(supply.missing(part))
    seconds = head_bytes = None
    models = _models(recipe, part)
    if not missing and recipe.kind == "heads":
        with TemporaryDirectory() as scratch:
            try:
                needed = {need: supply.store(need) for need in part.needs}
                found = estimate(settings_of(recipe, part, needed, supply, Path(scratch)), output=output)
                seconds, head_bytes, models = found.seconds, found.head_bytes, found.models
            except InputError as error:
                output.say(f"{part.name}: {error}")
    return PartPlan(name=part.name, models=models, missing=missing, head_bytes=head_bytes, seconds=seconds)


def _models(recipe: Recipe, part: Part) -> int:
    """Models of all cells; of `unimodal-deep` one for all widths of the shared space."""
    setting = part.setting
    auxiliaries = ("text",) if part.configurations[0] else ()
    settings = train_settings(setting, recipe.kind, auxiliaries, protocol=recipe.protocol)
    with TemporaryDirectory() as scratch:
        if setting.grid is not None:
            settings = replace(settings, grid=str(grid_file(setting.grid, Path(scratch), setting.setup)))
        candidates = _candidates(recipe.kind, settings)
    configurations = sum(bool(needs) for needs in part.configurations)
    count = 0
    for method in candidates:
        if recipe.kind == "ssl":
            alone = method == OBJECTIVES["ssl"][0]
        else:
            alone = method not in WITH_AUXILIARIES
        controls = settings.controls if method in settings.controlled else ()
        count += candidates[method] * (1 if alone else configurations * (1 + len(controls)))
    return count * len(settings.seeds) * len(part.shots or shots_of(setting))


def _candidates(kind: str, settings: TrainSettings) -> dict[str, int]:
    """How many models of each method validation chooses from."""
    equal = settings.candidates == "equal"
    if kind == "ssl":
        from uml_train import load_pretraining

        search = load_pretraining(settings.grid, alpha=settings.alpha)
        return {
            method: len(search.candidates_for(auxiliaries=method != OBJECTIVES["ssl"][0], equal=equal))
            for method in settings.methods
        }
    family = "finetune-" if kind == "finetune" else ""
    name = FAIR if kind == "heads" and settings.grid == AUTO else settings.grid
    grid = load_grid(name, alpha=settings.alpha, ratio=settings.ratio, texts=settings.texts, family=family)
    methods = settings.methods if grid.points else settings.stepped_methods()
    found = {}
    for method in methods:
        if method == AUTO:
            continue
        loss = method in WITH_AUXILIARY_LOSS
        if method in SOLVED:
            found[method] = len(grid.crossed_points(prior=method in WITH_AUXILIARIES))
            found[method] += method == SELF_TRAINING  # each strength, and the chosen one with guesses
        elif grid.points:
            found[method] = len(grid.points_for(auxiliary_loss=loss))
        else:
            sees = method in WITH_AUXILIARIES
            found[method] = len(grid.candidates_for(auxiliary_loss=loss, sees_texts=sees, equal=equal))
    return found


def bytes_of(need: Need) -> int:
    """Bytes of pooled float16 features; 0 where width or number of samples is not known beforehand."""
    from uml_extract import list_encoders

    rows = {benchmark.name: sum(benchmark.sizes) for benchmark in list_benchmarks()}.get(need.dataset, 0)
    entry = list_encoders().get(need.encoder or "")
    known = entry is not None and need.modality != "text" and not need.tokens
    return 2 * rows * (entry.spec.width or 0) if known and entry is not None else 0
