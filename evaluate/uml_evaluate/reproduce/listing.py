"""`uml reproduce --list`: every table and figure, its recipes, and what can be done here."""

from __future__ import annotations

from typing import Any

from uml_evaluate.reproduce.recipe.items import list_items, list_recipes
from uml_evaluate.reproduce.recipe.parts import parts_of
from uml_evaluate.reproduce.recipe.recipe import Recipe
from uml_evaluate.reproduce.result import shipped
from uml_evaluate.reproduce.supply import Sources, Supply


def listing(sources: Sources) -> tuple[list[dict[str, Any]], str]:
    """All items and the recipes that stand for themselves: as JSON, and as text."""
    recipes = list_recipes()
    supply = Supply(sources)
    here = {name: _here(recipe, supply) for name, recipe in recipes.items()}
    measured = {name: [one.name for one in shipped() if one.recipe == name] for name in recipes}
    printed = {item for recipe in recipes.values() for table in recipe.published for item in table.items}
    rows: list[dict[str, Any]] = []
    used: set[str] = set()
    for item in list_items().values():
        used.update(item.recipes)
        rows.append(
            {
                "name": item.name,
                "v1": item.v1,
                "shows": item.shows,
                "recipes": list(item.recipes),
                "published": item.name in printed,
                "here": [here[name] for name in item.recipes],
                "results": [one for name in item.recipes for one in measured[name]],
            }
        )
    rows += [
        {
            "name": name, "v1": "", "shows": recipe.title, "recipes": [name],
            "published": bool(recipe.published), "here": [here[name]], "results": measured[name],
        }
        for name, recipe in recipes.items()
        if name not in used
    ]  # fmt: skip
    lines = [f"{'':<12}{'arXiv v1':<11}{'recipe':<25}{'paper numbers':<15}shows"]
    lines += [_line(row) for row in rows]
    state = [
        f"  {name:<20}{text}" + f"; measured: {', '.join(measured[name])}" * bool(measured[name])
        for name, text in here.items()
    ]
    lines += ["", f"What can be done here, with the cache {sources.cache}:", *state]
    return rows, "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    names = " + ".join(row["recipes"]) or "not repeated"
    if len(names) > 24:
        names = f"{len(row['recipes'])} recipes"
    numbers = "recorded" if row["published"] else "none recorded"
    return f"{row['name']:<12}{row['v1']:<11}{names:<25}{numbers:<15}{row['shows']}".rstrip()


def _here(recipe: Recipe, supply: Supply) -> str:
    if recipe.kind == "gaussian":
        return f"runs anywhere; {recipe.note}"
    parts = parts_of(recipe)
    there = sum(not supply.missing(part) for part in parts)
    return f"{there} of {len(parts)} runs have what they need here"
