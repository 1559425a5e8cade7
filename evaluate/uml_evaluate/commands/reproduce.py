"""`uml reproduce`: parse, run one recipe, print."""

from __future__ import annotations

from pathlib import Path

import click

from uml_cache.command import Output, uml_command

_EXAMPLE = """
uml reproduce --list
uml reproduce gaussian
uml reproduce gaussian --sweep attenuation --scale tiny
"""


@uml_command("reproduce", example=_EXAMPLE, short_help="Repeat an experiment of the paper.")
@click.argument("name", required=False)
@click.option("--list", "list_", is_flag=True, help="Say which experiments there are.")
@click.option("--scale", type=click.Choice(["full", "tiny"]), default="full", show_default=True,
              help="tiny: a few steps and samples, to see it work; its numbers mean nothing.")  # fmt: skip
@click.option("--sweep", metavar="SETTING", help="Vary one setting instead: see --list.")
@click.option("--seeds", metavar="S[,S]|S-S", help="Seeds.  [default: the experiment's]")
@click.option("--out", type=click.Path(path_type=Path), default=Path("reproduce"), show_default=True,
              help="Folder for results and figures.")  # fmt: skip
def reproduce(
    output: Output,
    name: str | None,
    list_: bool,
    scale: str,
    sweep: str | None,
    seeds: str | None,
    out: Path,
) -> None:
    """Run one of the paper's experiments and say what came of it, whichever way it fell.

    The same command goes on where it was stopped.
    """
    from uml_cache.errors import InputError
    from uml_evaluate.reproduce import RECIPES, find_recipe
    from uml_train.settings import parse_numbers

    if list_:
        known = [{"name": r.name, "summary": r.summary, "sweeps": list(r.sweeps)} for r in RECIPES.values()]
        lines = [f"{r.name}  {r.summary}\n  sweeps: {', '.join(r.sweeps)}" for r in RECIPES.values()]
        output.result(known, "\n".join(lines))
        return
    if name is None:
        raise InputError(f"which experiment? known: {', '.join(RECIPES)}")
    recipe = find_recipe(name)
    numbers = None if seeds is None else parse_numbers(seeds, "--seeds")
    found = recipe.run(out / name, scale=scale, sweep=sweep, seeds=numbers, output=output)
    output.result(found.to_json(), found.text())
