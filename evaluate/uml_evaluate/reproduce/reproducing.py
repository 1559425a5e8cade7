"""One recipe from start to end: data, runs, the answer and its files.

OUT/result.json         the result file
OUT/decomposition.md    every table in full
OUT/runs/               the runs, for `uml eval` and `uml report`
OUT/tiny/               all of these for `--scale tiny`, and the generated data
OUT/small/              all of these for `--scale small`
OUT/PROTOCOL/           all of these for a protocol that is not the recipe's own
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uml_cache import QUIET, InputError, Output
from uml_evaluate.reproduce.recipe.recipe import Recipe
from uml_evaluate.reproduce.supply import Sources

if TYPE_CHECKING:
    from uml_evaluate.reproduce.result import Result


@dataclass(frozen=True, kw_only=True)
class Reproduced:
    """The answer of one recipe, as JSON and as text, and its result file."""

    value: dict[str, Any]
    text: str
    result: Path


def reproduce(
    recipe: Recipe,
    out: Path,
    sources: Sources,
    *,
    scale: str = "full",
    protocol: str | None = None,
    seeds: Sequence[int] | None = None,
    datasets: Iterable[str] | None = None,
    sweep: str | None = None,
    beside: Iterable[Path] = (),
    output: Output = QUIET,
) -> Reproduced:
    """Run what a recipe needs and can have, and compare it with what was published.

    Args:
        out: its folder; what is finished there is not run again.
        sources: the cache, and where what it lacks comes from; not used at the scale `tiny`.
        scale: `full`; `small` for a short version on data and encoders that are at hand; or `tiny` for one
            on generated data.
        protocol, seeds, datasets: instead of the recipe's own.
        sweep: a setting of the Gaussian experiment to vary.
        beside: result files and folders of others.

    Raises:
        InputError: options that do not fit the recipe, result files that are none.
    """
    from uml_evaluate.reproduce.result import others

    results = others(recipe.name, beside) if scale == "full" else []
    if protocol is not None and protocol != recipe.protocol:
        recipe, out = replace(recipe, protocol=protocol), out / protocol
    if recipe.kind == "gaussian":
        if scale == "small":
            raise InputError(f"{recipe.name} makes its own data; give --scale full or tiny")
        if datasets is not None:
            raise InputError(f"{recipe.name} makes its own data; leave --only out")
        return _gaussian(recipe, out, scale, sweep, seeds, results, output)
    if sweep is not None:
        raise InputError(f"--sweep belongs to the kind gaussian; {recipe.name} varies what its file says")
    return _runs(recipe, out, sources, scale, seeds, datasets, results, output)


def _runs(
    recipe: Recipe,
    out: Path,
    sources: Sources,
    scale: str,
    seeds: Sequence[int] | None,
    datasets: Iterable[str] | None,
    results: Sequence[Result],
    output: Output,
) -> Reproduced:
    from uml_evaluate.comparing.shown.tables import markdown
    from uml_evaluate.reproduce.generated import generate, shrunk
    from uml_evaluate.reproduce.recipe_run import run_parts
    from uml_evaluate.reproduce.result import describe
    from uml_evaluate.reproduce.show import answer
    from uml_evaluate.reproduce.supply import Supply

    if seeds is not None:
        recipe = replace(
            recipe,
            variants={
                name: replace(setting, train={**setting.train, "seeds": list(seeds)})
                for name, setting in recipe.variants.items()
            },
        )
    if scale == "small":
        from uml_evaluate.reproduce.small import at_hand

        out = out / "small"
        recipe, sources = at_hand(recipe, sources, output)
    if scale == "tiny":
        out = out / "tiny"
        recipe = shrunk(recipe, out / "generated")
        sources = generate(recipe, out / "generated")
    outcome = run_parts(recipe, Supply(sources, output, recipe.files), out, datasets=datasets, output=output)
    value = describe(outcome, scale)
    text = answer(outcome, scale, results)
    written = out / "result.json"
    if outcome.comparisons:
        full = "\n".join(
            f"{markdown(comparison)}" for _, comparison in (*outcome.comparisons, *outcome.shifted)
        )
        _write(out / "decomposition.md", full)
        text += f"\n\ntables  {out / 'decomposition.md'}"
    _write(written, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return Reproduced(value=value, text=f"{text}\nresult  {written}", result=written)


def _gaussian(
    recipe: Recipe,
    out: Path,
    scale: str,
    sweep: str | None,
    seeds: Sequence[int] | None,
    results: Sequence[Result],
    output: Output,
) -> Reproduced:
    from uml_evaluate.reproduce.gaussian.repeat import run
    from uml_evaluate.reproduce.recipe.published import Key, Number
    from uml_evaluate.reproduce.result import frame
    from uml_evaluate.reproduce.show import alone

    found = run(out, scale=scale, protocol=recipe.protocol, sweep=sweep, seeds=seeds, output=output)
    answer = found.to_json()
    numbers = [
        Number(
            key=Key(
                variant=f"hidden width {row['hidden']}" + (f", {sweep} {row['value']:g}" if sweep else ""),
                method=row["arm"],
                measure="held-out squared error of X",
            ),
            value=row["mean"],
            seeds=len(row["errors"]),
        )
        for row in answer["table"]
    ]
    value = {**frame(recipe, scale, numbers), **answer}
    name = "result" + (f"-{sweep}" if sweep else "") + ("-tiny" if scale == "tiny" else "")
    written = out / f"{name}.json"
    _write(written, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    beside = alone(numbers, results) if results else []
    text = "\n\n".join([*beside, f"{found.text()}\nresult  {written}"])
    return Reproduced(value=value, text=text, result=written)


def _write(path: Path, text: str) -> None:
    from uml_train import write_atomic

    write_atomic(path, text.encode())
