"""`complete`: the cells that a run lacks. Where it lacks none, neither torch nor its stores are needed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from uml_cache import QUIET, Output
from uml_train.run import Cell, Run, missing_cells
from uml_train.runs.settled.combinations import named_cells
from uml_train.settings import Shots


def complete(
    run: Run, *, shots: Sequence[Shots], cache: Path | None = None, output: Output = QUIET
) -> list[Cell]:
    """Train those cells of a run at `shots` that it lacks, with the run's own settings; returns them.

    Args:
        cache: where the run's stores are now, if they have moved.

    Raises:
        InputError: the stores are gone or have changed since the run, or a file of it is damaged.
    """
    wanted = wanted_cells(run, shots)
    if not missing_cells(wanted, run):
        run.settle_tables(output.say)
        return []
    from uml_train.training import grow, reopened

    with ExitStack() as stack:
        return grow(reopened(run, cache, output, stack), run, wanted)


def wanted_cells(run: Run, shots: Sequence[Shots]) -> list[Cell]:
    """Every cell at `shots` that the run's settings ask for."""
    if run.config["objective"] in ("supervised", "finetune"):
        return named_cells(run, run.settings, shots)
    from uml_train.pretrain.pretraining import network_cells

    return network_cells(run, shots)
