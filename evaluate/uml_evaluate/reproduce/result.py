"""The result file: what a recipe measured, on what, small enough to be contributed.

    OUT/result.json      numbers, differences, findings' sentences, what was not run, stores, grid, versions

Results of others are shown beside the paper's numbers: those in `results/` of this package, and any file or
folder that is named.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uml_cache import InputError, parse_json
from uml_evaluate.comparing.comparison import across
from uml_evaluate.reproduce.recipe.published import Number

if TYPE_CHECKING:
    from uml_evaluate.reproduce.recipe.recipe import Recipe
    from uml_evaluate.reproduce.recipe_run import Outcome
    from uml_train import Run

FORMAT = 1
FILE = "result.json"
_PACKAGES = ("uml-cache", "torch", "numpy", "timm", "transformers")


@dataclass(frozen=True, kw_only=True)
class Result:
    """A result file, read. `name` says whose it is in a table."""

    name: str
    recipe: str
    scale: str
    numbers: list[Number]


def frame(recipe: Recipe, scale: str, numbers: Sequence[Number]) -> dict[str, Any]:
    """What every result file holds: of which recipe, when, with which versions, and the numbers."""
    return {
        "format": FORMAT,
        "recipe": recipe.name,
        "title": recipe.title,
        "scale": scale,
        "protocol": recipe.protocol,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "versions": {name: version(name) for name in _PACKAGES},
        "numbers": [number.to_json() for number in numbers],
    }


def describe(outcome: Outcome, scale: str) -> dict[str, Any]:
    """The content of the result file of a recipe that made runs."""
    return {
        **frame(outcome.recipe, scale, outcome.numbers),
        "differences": [
            {**d.to_json(), "variant": variant, "role": d.role}
            for variant, comparison in (*outcome.comparisons, *outcome.shifted)
            for d in comparison.differences
        ],
        "across_data_sets": [
            {
                "auxiliaries": list(d.auxiliaries), "shots": d.shots, "a": d.a, "b": d.b, "role": d.role,
                "datasets": list(d.datasets), "delta": d.interval.delta, "ci_low": d.interval.low,
                "ci_high": d.interval.high,
            }
            for d in across(comparison for _, comparison in outcome.comparisons)
        ],
        "verdicts": [one.to_json() for one in outcome.verdicts],
        "findings": [
            {"dataset": dataset, "analysis": finding.analysis, "said": list(finding.said)}
            for dataset, finding in outcome.findings
        ],
        "not_run": [{"what": lacking.what, "why": lacking.why} for lacking in outcome.lacking],
        "runs": [_run(run) for run in outcome.runs],
    }  # fmt: skip


def _machine() -> dict[str, Any]:
    import torch

    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"python": platform.python_version(), "system": platform.system(), "gpu": cuda}


def _run(run: Run) -> dict[str, Any]:
    config = run.config
    return {
        "run": run.path.name,
        "dataset": config["dataset"],
        "configurations": config["configurations"],
        "protocol": config["protocol"],
        "grid": {**config["grid"], "candidates": len(config["grid"]["candidates"])},
        "seeds": config["settings"]["seeds"],
        "shots": config["settings"]["shots"],
        "stores": {
            label: {key: store[key] for key in ("encoder", "fingerprint", "rows", "failed_rows")}
            for label, store in config["stores"].items()
        },
    }


def read_result(path: Path) -> Result:
    """Read a result file. Raises `InputError` for a file that is none."""
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise InputError(f"{path}: result format {values['format']!r}, and this release reads {FORMAT}")
        numbers = [Number.from_json(number) for number in values["numbers"]]
        return Result(
            name=path.stem if path.name != FILE else path.parent.name,
            recipe=str(values["recipe"]),
            scale=str(values["scale"]),
            numbers=numbers,
        )
    except OSError:
        raise InputError(f"result {path}: no such file") from None
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is no result file ({type(error).__name__}: {error})") from None


@cache
def shipped() -> tuple[Result, ...]:
    """The results that come with this package, by the names of their files."""
    folder = files("uml_evaluate.reproduce") / "results"
    found = sorted(Path(str(entry)) for entry in folder.iterdir()) if folder.is_dir() else []
    return tuple(read_result(path) for path in found if path.suffix == ".json")


def others(recipe: str, given: Iterable[Path]) -> list[Result]:
    """Results of a recipe at full scale: those shipped, and those that are given.

    Args:
        given: result files, folders of such files, and folders that `uml reproduce` wrote.

    Raises:
        InputError: a path that is not there, a folder without a result, or a file that is none.
    """
    found = []
    for path in given:
        inside = [path / FILE] if (path / FILE).is_file() else sorted(path.glob("*.json"))
        if path.is_dir() and not inside:
            raise InputError(f"{path} holds no result file; `uml reproduce` writes {FILE}")
        found += inside if path.is_dir() else [path]
    results = [*shipped(), *(read_result(path) for path in found if path.suffix == ".json")]
    return [result for result in results if (result.recipe, result.scale) == (recipe, "full")]


def seeds_of(numbers: Sequence[Number]) -> int:
    """The largest number of seeds behind a number."""
    return max((number.seeds for number in numbers), default=0)
