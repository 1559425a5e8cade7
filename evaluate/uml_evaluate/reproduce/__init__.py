"""Experiments of the paper that one command repeats; `RECIPES` says which."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from uml_cache.command import Output
from uml_cache.errors import unknown


class Finding(Protocol):
    """What a recipe found, for the terminal and as JSON."""

    def to_json(self) -> dict[str, Any]: ...

    def text(self) -> str: ...


@dataclass(frozen=True)
class Recipe:
    """One experiment. `home` is the module with its `run(out, *, scale, sweep, seeds, output)`.

    `sweeps` are the settings that it can vary beside its main comparison.
    """

    name: str
    summary: str
    home: str
    sweeps: tuple[str, ...] = ()

    def run(
        self, out: Path, *, scale: str, sweep: str | None, seeds: tuple[int, ...] | None, output: Output
    ) -> Finding:
        """Run it, or go on with it, below the folder `out`."""
        if sweep is not None and sweep not in self.sweeps:
            raise unknown(f"sweep of {self.name}:", sweep, self.sweeps)
        run: Callable[..., Finding] = import_module(self.home).run
        return run(out, scale=scale, sweep=sweep, seeds=seeds, output=output)


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="gaussian",
            summary="E.14: does half a budget of Y beside half of X reconstruct X better than X alone?",
            home="uml_evaluate.reproduce.gaussian",
            sweeps=("budget", "attenuation", "noise", "steps"),
        ),
    )
}


def find_recipe(name: str) -> Recipe:
    """The recipe of a name. Raises `InputError` with the closest ones."""
    if name not in RECIPES:
        raise unknown("experiment", name, RECIPES)
    return RECIPES[name]
