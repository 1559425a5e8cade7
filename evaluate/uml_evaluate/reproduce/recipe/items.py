"""The paper's tables and figures, and which recipes repeat each."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from uml_cache import unknown
from uml_evaluate.reproduce.recipe.recipe import Recipe, parse_recipe, read_recipe


@dataclass(frozen=True, kw_only=True)
class Item:
    """A table or figure. `v1` is what the first version on arXiv calls it."""

    name: str
    v1: str
    shows: str
    recipes: tuple[str, ...]


@cache
def list_items() -> dict[str, Item]:
    """Every table and figure by name, in the paper's order."""
    text = (files("uml_evaluate.reproduce") / "paper.toml").read_text(encoding="utf-8")
    items = (Item(**{**one, "recipes": tuple(one["recipes"])}) for one in tomllib.loads(text)["items"])
    return {item.name: item for item in items}


@cache
def list_recipes() -> dict[str, Recipe]:
    """The shipped recipes by name, their settings unchecked."""
    folder = files("uml_evaluate.reproduce") / "recipes"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".toml"))
    return {
        name.removesuffix(".toml"): parse_recipe(
            (folder / name).read_text(encoding="utf-8"), name.removesuffix(".toml"), name, check=False
        )
        for name in names
    }


def find_recipes(name: str) -> list[Recipe]:
    """The recipes of a name: of a recipe, of a table or figure (`table2`), or a recipe file.

    Raises:
        InputError: an unknown name, with the closest ones; a file that is not there or is refused; an item
            that no recipe repeats.
    """
    if name.endswith(".toml"):
        return [read_recipe(Path(name))]
    recipes, items = list_recipes(), list_items()
    if name in recipes:
        return [recipes[name]]
    if name in items and items[name].recipes:
        return [recipes[recipe] for recipe in items[name].recipes]
    raise unknown("table, figure or recipe", name, covered({*recipes, *items}))


def covered(names: Iterable[str]) -> list[str]:
    """Those of the names that something can be run for."""
    items = list_items()
    return [name for name in names if name not in items or items[name].recipes]
