"""What a recipe would do: `--dry-run`. Nothing is written.

Time is estimated as `uml train --dry-run` does it, by training a few steps, so that it takes the features;
what has none yet is counted in models and in bytes to extract.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from uml_cache.command import Output
from uml_cache.errors import InputError
from uml_evaluate.reproduce.parts import Need, Part, parts_of, shots_of
from uml_evaluate.reproduce.recipe import Recipe
from uml_evaluate.reproduce.running import settings_of
from uml_evaluate.reproduce.settings import grid_file, train_settings
from uml_evaluate.reproduce.supply import Supply
from uml_manifests import list_benchmarks
from uml_train.estimate import bytes_text, estimate, time_text
from uml_train.grid import load_grid
from uml_train.settings import AUTO, METHODS, OBJECTIVES, WITH_AUXILIARIES


@dataclass(frozen=True, kw_only=True)
class PartPlan:
    """One part: models to train and what they take, and features that are missing.

    `bytes` are those of the missing features whose size is known beforehand (texts' are not); `head_bytes`
    and `seconds` are None where nothing could be timed.
    """

    name: str
    models: int
    missing: tuple[str, ...]
    bytes: int
    head_bytes: int | None
    seconds: float | None

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "missing": list(self.missing)}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a recipe would do."""

    recipe: Recipe
    parts: list[PartPlan]

    def to_json(self) -> dict[str, Any]:
        return {"recipe": self.recipe.name, "parts": [part.to_json() for part in self.parts]}

    def text(self) -> str:
        """A line for each part, and the sums."""
        known = [part.seconds for part in self.parts if part.seconds is not None]
        lacking = sum(bool(part.missing) for part in self.parts)
        lines = [f"{self.recipe.name}: {self.recipe.title}"]
        for part in self.parts:
            said = [f"{part.models:,} models"]
            if part.head_bytes is not None:
                said.append(f"{bytes_text(part.head_bytes)} of heads")
            if part.seconds is not None:
                said.append(f"about {time_text(part.seconds)} without early stopping")
            if part.missing:
                size = f" (at least {bytes_text(part.bytes)} to extract)" if part.bytes else ""
                said.append(f"lacks {', '.join(part.missing)}{size}")
            lines.append(f"  {part.name}: {'; '.join(said)}")
        models = sum(part.models for part in self.parts)
        total = f"{len(self.parts)} runs, {models:,} models"
        if known:
            total += f"; about {time_text(sum(known))} for the {len(known)} that could be timed"
        if lacking:
            total += f"; {lacking} lack features, which are extracted where data and weights are there"
        if len(known) < len(self.parts) - lacking:
            total += "; networks are not timed"
        return "\n".join([*lines, total, "nothing was written"])


def plan(recipe: Recipe, supply: Supply, *, datasets: Iterable[str] | None, output: Output) -> Plan:
    """Count what every part trains and lacks, and time what can be timed."""
    return Plan(
        recipe=recipe, parts=[_planned(recipe, part, supply, output) for part in parts_of(recipe, datasets)]
    )


def _planned(recipe: Recipe, part: Part, supply: Supply, output: Output) -> PartPlan:
    missing = supply.missing(part)
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
    return PartPlan(
        name=part.name,
        models=models,
        missing=tuple(need.text() for need in missing),
        bytes=sum(_size(need) for need in missing),
        head_bytes=head_bytes,
        seconds=seconds,
    )


def _models(recipe: Recipe, part: Part) -> int:
    """Models of all cells; of `unimodal-deep` one for all widths of the shared space."""
    setting = part.setting
    settings = train_settings(setting, recipe.kind, ("text",) if part.configurations[0] else ())
    methods = [m for m in settings.methods if m != AUTO]
    if recipe.kind == "ssl":
        alone = [m for m in methods if m == OBJECTIVES["ssl"][0]]
    else:
        alone = [m for m in methods if m in METHODS and m not in WITH_AUXILIARIES]
    configurations = sum(bool(needs) for needs in part.configurations)
    arms = len(alone) + configurations * (len(methods) - len(alone) + len(settings.controls))
    cells = arms * len(settings.seeds) * len(part.shots or shots_of(setting))
    return cells * _candidates(recipe, part)


def _candidates(recipe: Recipe, part: Part) -> int:
    setting = part.setting
    with TemporaryDirectory() as scratch:
        name = str(setting.train.get("grid", "quick"))
        if setting.grid is not None:
            name = str(grid_file(setting.grid, Path(scratch)))
        if recipe.kind == "ssl":
            from uml_train.ssl.grid import load_pretraining

            return len(load_pretraining(name).candidates)
        family = "finetune-" if recipe.kind == "finetune" else ""
        axes = {key: setting.train.get(key) for key in ("alpha", "ratio")}
        return len(load_grid(name, family=family, **axes).candidates)


def _size(need: Need) -> int:
    """Bytes of pooled float16 features; 0 where width or number of samples is not known beforehand."""
    from uml_extract import list_encoders

    rows = {benchmark.name: sum(benchmark.sizes) for benchmark in list_benchmarks()}.get(need.dataset, 0)
    entry = list_encoders().get(need.encoder or "")
    known = entry is not None and need.modality != "text" and not need.tokens
    return 2 * rows * (entry.spec.width or 0) if known and entry is not None else 0
