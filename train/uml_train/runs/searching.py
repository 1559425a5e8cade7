"""Which search a run makes where that is left to us: heads that are solved, or trained by steps."""

from __future__ import annotations

from dataclasses import replace

from uml_cache import InputError, Output
from uml_train.grid import AUTO, FAIR
from uml_train.problem import Problem
from uml_train.settings import STEPPED, TrainSettings

_SOLVABLE = 30_000_000  # probabilities of one modality, rows × classes, that are held at once


def with_search(settings: TrainSettings, problem: Problem, output: Output) -> TrainSettings:
    """The settings with grid and normalisation chosen, where they are left to us; shots are resolved.

    Raises:
        InputError: the grid `fair` is asked for where heads cannot be solved, or where they are not a refit
            or a method in closed form.
    """
    reason = _not_solved(settings, problem)
    grid = settings.grid
    if grid == FAIR and reason:
        raise InputError(
            f"--grid fair solves heads on all rows at once, and {reason}; --grid quick trains them"
        )
    if grid == AUTO:
        grid = STEPPED["grid"] if reason else FAIR
        if reason:
            output.say(f"heads are trained by AdamW (--grid {grid}), because {reason}")
    if settings.refit and grid != FAIR:
        raise InputError("--refit is for heads that are solved on all rows at once (--grid fair)")
    normalize = settings.normalize
    if normalize == "auto":
        normalize = "shrunk" if grid == FAIR else STEPPED["normalize"]
    methods = settings.methods if grid == FAIR else settings.stepped_methods()
    return replace(settings, grid=grid, normalize=normalize, methods=methods)


def _not_solved(settings: TrainSettings, problem: Problem) -> str | None:
    """Why heads cannot be solved on all rows at once; None where they can."""
    for option, usual in (("trunk", "linear"), ("sampling", "shuffled"), ("precision", "float32")):
        value = getattr(settings, option)
        if value != usual:
            return f"--{option} {value} needs steps on batches"
    if settings.device == "cuda":
        return "they are solved on the CPU, not on CUDA"
    if settings.loader == "stream":
        return "streamed rows are never together"
    classes = len(problem.classes)
    rows = max(len(problem.train) if k == "all" else k * classes for k in settings.shots or ())
    rows = max([rows, *(len(source.rows) for source in problem.auxiliaries.values())])
    return None if rows * classes <= _SOLVABLE else f"{rows:,} rows of {classes:,} classes are too many"
