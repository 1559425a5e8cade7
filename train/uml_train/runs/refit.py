"""A head to take away: the selected one of a cell, solved once more on training and validation rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from uml_cache import QUIET, Output
from uml_train.heads.export import head_file
from uml_train.record.tensors import read_tensor_file, tensor_file
from uml_train.runs.settled.reopening import open_run_problem, require_heads
from uml_train.runs.workers import run_grid

if TYPE_CHECKING:
    from uml_train.problem import Problem
    from uml_train.run import CellResult, Run

_KEY = "uml"


def head_bytes(
    run: Run,
    result: CellResult,
    *,
    refit: bool = True,
    problem: Problem | None = None,
    cache: Path | None = None,
    output: Output = QUIET,
) -> bytes:
    """The bytes of a cell's head, for new samples.

    Args:
        refit: solve the selected point again on training and validation rows together, where heads are
            solved at all (grid `fair`); a head that was trained by steps is taken as it is, and that is said.
        problem: the run's problem, where it is open already.
        cache: where the run's stores are now, if they have moved; needed to refit.

    Raises:
        InputError: a run without heads, stores that are gone or have changed.
    """
    require_heads(run)
    grid = run_grid(run)
    if not refit or run.settings.refit or not grid.points:
        if refit and not grid.points:
            output.say(
                "the head was trained by steps, and validation chose where to stop: it is taken as it is, "
                "without the validation rows"
            )
        return result.checked(result.head_path)
    from uml_train.runs.one_cell import solve_for_new

    problem = problem or open_run_problem(run, cache)
    candidate = result.candidates[result.selected]
    fitted, again = solve_for_new(problem, result.cell, run.settings, grid, candidate)
    about = {**result.about(run.config["classes"]), "refit": True}
    streams = [stream.name for stream in again.models[0].streams]
    return head_file(fitted.weights, streams, again.mapping[0], about)


def head_with(path: Path, about: Mapping[str, Any]) -> bytes:
    """The bytes of a head's file that says more of it: `about` goes beside what it says already."""
    arrays, config = read_tensor_file(path, _KEY, "head of `uml train`")
    return tensor_file({name: torch.from_numpy(a) for name, a in arrays.items()}, _KEY, {**config, **about})
