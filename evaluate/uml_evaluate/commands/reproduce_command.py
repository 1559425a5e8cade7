"""`uml reproduce`: parse, run recipes, print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from uml_cache import Output, declared, uml_command

_EXAMPLE = """
uml reproduce --list
uml reproduce table17 --check
uml reproduce table17 --scale small --data ./data/shapes
uml reproduce table17 --cache ./feats --out ./runs/table17
uml reproduce table17 --only oxford_pets --dry-run
uml reproduce table2 --scale tiny
uml reproduce table22 --protocol fair --scale tiny
uml reproduce ./my.toml --with ./results
uml reproduce gaussian --sweep attenuation --scale tiny
"""
_PATH = click.Path(path_type=Path)


@uml_command("reproduce", example=_EXAMPLE, short_help="Repeat a table or figure of the paper.")
@click.argument("name", required=False)
@click.option("--list", "list_", is_flag=True,
              help="Say which tables and figures there are, and what can be done here.")  # fmt: skip
@click.option("--cache", type=_PATH, default=Path("feats"), show_default=True, help="Folder with features.")
@click.option("--out", type=_PATH, help="Folder for runs and results.  [default: reproduce/RECIPE]")
@click.option("--data", type=_PATH,
              help="Folder with the data sets' folders, as CoOp has them; read in place.")  # fmt: skip
@click.option("--descriptions", type=_PATH,
              help="Folder with description files: descriptors_NAME.json or NAME.json.")  # fmt: skip
@click.option("--weights", multiple=True, metavar="ENCODER=PATH", help="Weights of an encoder; repeatable.")
@click.option("--only", metavar="NAME[,NAME]", help="These data sets of the recipe alone.")
@click.option("--seeds", metavar="S[,S]|S-S", help="Seeds.  [default: the recipe's]")
@click.option("--scale", type=click.Choice(["full", "small", "tiny"]), default="full", show_default=True,
              help="How much is run. small: a short version on your own data (--data), with encoders that "
                   "are here in place of missing ones; tiny: on generated data, whose numbers mean "
                   "nothing.")  # fmt: skip
@click.option("--protocol", type=click.Choice(["fair", "paper", "authors"]),
              help="Whose settings hold where the recipe gives none.  [default: the recipe's; the paper's "
                   "recipes: paper]")  # fmt: skip
@click.option("--sweep", metavar="SETTING", help="Setting of the Gaussian experiment that is varied instead.")
@click.option("--with", "beside", type=_PATH, multiple=True, metavar="FILE|FOLDER",
              help="Result files of others, shown beside the paper's numbers; repeatable.")  # fmt: skip
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True,
              help="Where encoders and heads run.")  # fmt: skip
@click.option("--check", is_flag=True,
              help="Say what is there and what is missing: data, weights, disk, memory, hours. Without NAME "
                   "of every recipe.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what there is to train, to extract, and for how long.")
def reproduce(
    output: Output, name: str | None, list_: bool, cache: Path, out: Path | None, dry_run: bool, **rest: Any
) -> None:
    """Run what repeats a table or figure of the paper, from the cache, and say how the numbers compare.

    NAME is a table (table17), a figure (figure33), a recipe, or a recipe file of your own. Features that the
    cache lacks are extracted where data and weights are there; what cannot be run is listed with the reason.
    The same command continues where it stopped.
    """
    from uml_cache import InputError, WorkError
    from uml_evaluate.reproduce.recipe.items import find_recipes
    from uml_evaluate.reproduce.supply import Sources

    sources = Sources(
        cache=cache, data=rest["data"], descriptions=rest["descriptions"], device=rest["device"],
        weights=_weights(rest["weights"]),
    )  # fmt: skip
    if list_:
        from uml_evaluate.reproduce.listing import listing

        output.result(*listing(sources))
        return
    if rest["check"]:
        from uml_evaluate.reproduce.checking import checked

        output.result(*checked(name, sources, protocol=rest["protocol"], output=output))
        return
    if name is None:
        raise InputError("which table, figure or recipe? `uml reproduce --list` shows them")
    recipes = find_recipes(name)
    answers, texts = [], []
    for recipe in recipes:
        own = Path("reproduce") / recipe.name if out is None else out / recipe.name
        folder = out if out is not None and len(recipes) == 1 else own
        value, text = _one(recipe, folder, sources, dry_run, output, rest)
        answers.append(value)
        texts.append(text)
    output.result(answers[0] if len(answers) == 1 else answers, "\n\n\n".join(texts))
    if not dry_run and not any(answer["numbers"] for answer in answers):
        raise WorkError(
            f"nothing of {name} could be run here; the reasons are listed, and in the result file"
        )


def _one(
    recipe: Any, out: Path, sources: Any, dry_run: bool, output: Output, options: dict[str, Any]
) -> tuple[Any, str]:
    from dataclasses import replace

    from uml_cache import InputError
    from uml_evaluate.reproduce.reproducing import reproduce as run
    from uml_train import TrainSettings

    sources = replace(sources, protocol=options["protocol"] or recipe.protocol)
    only = options["only"]
    datasets = None if only is None else [part.strip() for part in only.split(",")]
    if datasets is not None:
        _check_datasets(datasets, recipe)
    if dry_run:
        from uml_evaluate.reproduce.plan import planned

        if recipe.kind == "gaussian":
            raise InputError("--dry-run counts runs on features; the Gaussian experiment has none")
        if options["protocol"] is not None:
            recipe = replace(recipe, protocol=options["protocol"])
        found = planned(recipe, sources, scale=options["scale"], datasets=datasets, output=output)
        return found.to_json(), found.text()
    done = run(
        recipe, out, sources, scale=options["scale"], protocol=options["protocol"],
        seeds=options["seeds"] and declared(TrainSettings)["seeds"].read(options["seeds"], "--seeds"),
        datasets=datasets, sweep=options["sweep"], beside=options["beside"], output=output,
    )  # fmt: skip
    return done.value, done.text


def _check_datasets(datasets: list[str], recipe: Any) -> None:
    from uml_cache import unknown

    for name in datasets:
        if name not in recipe.datasets:
            raise unknown(f"data set of {recipe.name}:", name, recipe.datasets)


def _weights(given: tuple[str, ...]) -> dict[str, Path]:
    from uml_cache import InputError

    found = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise InputError(f"--weights is {text!r}; give ENCODER=PATH, such as audioclip=./AudioCLIP.pt")
        found[name] = Path(path)
    return found
