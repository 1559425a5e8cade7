"""`uml reproduce --check`: what a recipe needs and what of it is here, before anything is made.

Data, weights and features are looked for, not opened. Disk is what the missing features will take, memory
the largest run's features as float32; hours are those of runs whose features are here, timed by a few steps,
and of the others by models and steps at the rate that was measured.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from uml_cache import QUIET, Output, available_cores, memory_bytes
from uml_evaluate.reproduce.plan import Plan, bytes_of, plan
from uml_evaluate.reproduce.recipe.items import find_recipes, list_recipes
from uml_evaluate.reproduce.recipe.parts import Need, Part, parts_of
from uml_evaluate.reproduce.recipe.recipe import Recipe
from uml_evaluate.reproduce.supply import Sources, Supply
from uml_extract import weights_at_hand
from uml_train import bytes_text, time_text

_FLOAT32 = 4


@dataclass(frozen=True, kw_only=True)
class Checked:
    """One recipe. `features`, `data` and `weights` say of everything that it reads whether it is here;
    `disk_bytes` is a lower bound where `unsized` names what has no size beforehand (texts, tokens)."""

    recipe: Recipe
    plan: Plan | None
    features: dict[str, bool]
    data: dict[str, bool]
    weights: dict[str, bool]
    disk_bytes: int
    unsized: list[str]
    memory_bytes: int

    @property
    def seconds(self) -> float | None:
        """Of all runs, where the time of some is known; None where it is of none."""
        if self.plan is None:
            return None
        known = [(part.models, part.seconds) for part in self.plan.parts if part.seconds is not None]
        models = sum(count for count, _ in known)
        if not models:
            return None
        return sum(seconds for _, seconds in known) / models * sum(p.models for p in self.plan.parts)

    @property
    def ready(self) -> bool:
        """Whether everything is here or can be made of what is here."""
        return all(self.data.values()) and all(self.weights.values())

    def to_json(self) -> dict[str, Any]:
        """The check as JSON values."""
        return {
            "recipe": self.recipe.name,
            "protocol": self.recipe.protocol,
            "ready": self.ready,
            "runs": None if self.plan is None else len(self.plan.parts),
            "models": None if self.plan is None else sum(part.models for part in self.plan.parts),
            "features": self.features,
            "data": self.data,
            "weights": self.weights,
            "disk_bytes": self.disk_bytes,
            "without_size": self.unsized,
            "memory_bytes": self.memory_bytes,
            "seconds": self.seconds,
        }

    def text(self) -> str:
        """The check for the terminal: a line for each thing that is missing."""
        head = f"{self.recipe.name}: {self.recipe.title} (protocol {self.recipe.protocol})"
        if self.plan is None:
            return f"{head}\n  needs nothing but this machine"
        models = sum(part.models for part in self.plan.parts)
        lines = [head, f"  {len(self.plan.parts)} runs, {models:,} models"]
        for what, found in (("features", self.features), ("data", self.data), ("weights", self.weights)):
            missing = [name for name, there in found.items() if not there]
            said = f"{len(found) - len(missing)} of {len(found)} here"
            lines.append(f"  {what:<9}{said}" + (f"; missing: {', '.join(missing)}" if missing else ""))
        more = f" and what {', '.join(self.unsized)} take" if self.unsized else ""
        lines.append(f"  disk     {bytes_text(self.disk_bytes)}{more}")
        lines.append(f"  memory   {bytes_text(self.memory_bytes)} of features at once")
        known = self.seconds
        when = "not known before there are features" if known is None else f"about {time_text(known)}"
        lines.append(f"  training {when}")
        return "\n".join(lines)


def checked(
    name: str | None, sources: Sources, *, protocol: str | None, output: Output = QUIET
) -> tuple[dict[str, Any], str]:
    """What the recipes of a name, or all of them, need and have here: as JSON, and as text.

    Raises:
        InputError: an unknown name.
    """
    recipes = list(list_recipes().values()) if name is None else find_recipes(name)
    found = [check(recipe, sources, protocol=protocol, output=output) for recipe in recipes]
    free = shutil.disk_usage(_existing(sources.cache)).free
    machine = {"cores": available_cores(), "memory_bytes": memory_bytes(), "free_disk_bytes": free}
    here = (
        f"this machine: {machine['cores']} cores, {bytes_text(machine['memory_bytes'])} of memory, "
        f"{bytes_text(free)} free where {sources.cache} is"
    )
    value = {"machine": machine, "recipes": [one.to_json() for one in found]}
    return value, "\n\n".join([*(one.text() for one in found), here])


def check(
    recipe: Recipe, sources: Sources, *, protocol: str | None = None, output: Output = QUIET
) -> Checked:
    """What one recipe needs and has here."""
    if protocol is not None:
        recipe = replace(recipe, protocol=protocol)
    if recipe.kind == "gaussian":
        return Checked(
            recipe=recipe, plan=None, features={}, data={}, weights={}, disk_bytes=0, unsized=[],
            memory_bytes=0,
        )  # fmt: skip
    sources = replace(sources, protocol=recipe.protocol)
    supply = Supply(sources, QUIET)
    parts = parts_of(recipe)
    needs = dict.fromkeys(need for part in parts for need in part.needs)
    needs |= dict.fromkeys(replace(p.target, dataset=d) for p in parts for d in recipe.shift)
    stores = {need: supply.find(need) is not None for need in needs if need.encoder is not None}
    absent = [need for need in needs if not stores.get(need, False)]
    data = {_data_name(need): supply.has_data(need.dataset, need.place) for need in absent}
    names = dict.fromkeys(need.encoder for need in absent if need.encoder is not None)
    for setting in recipe.variants.values():
        tuned = setting.finetune or {}
        names |= dict.fromkeys(str(tuned[key]) for key in ("encoder", "tune_aux") if key in tuned)
    weights = {name: weights_at_hand(name, sources.weights.get(name)) for name in names}
    wide = 2 if recipe.protocol != "fair" else 1  # float32 in place of float16
    sizes = {need: bytes_of(need) * wide for need in absent if need.encoder is not None}
    return Checked(
        recipe=recipe,
        plan=plan(recipe, supply, datasets=None, output=output),
        features={need.text(): there for need, there in stores.items()},
        data=data,
        weights=weights,
        disk_bytes=sum(sizes.values()),
        unsized=[need.text() for need, size in sizes.items() if not size],
        memory_bytes=max((_memory(part, supply) for part in parts), default=0),
    )


def _memory(part: Part, supply: Supply) -> int:
    """Bytes of a run's features as float32, as far as they are known."""
    total = 0
    for need in part.needs:
        store = supply.find(need) if need.encoder is not None else None
        if store is not None:
            shape = store.arrays.get("pooled", {}).get("shape", [0, 0])
            total += _FLOAT32 * int(shape[0]) * int(shape[1])
        elif need.encoder is not None:
            total += 2 * bytes_of(need)
    return total


def _data_name(need: Need) -> str:
    return f"{need.dataset} {need.place}"


def _existing(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path
