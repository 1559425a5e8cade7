"""Probes that a run lacks are fitted; where it lacks none, neither torch nor its stores are needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uml_cache import QUIET, InputError, Output
from uml_evaluate.probes.wanted import wanted_probes
from uml_train import Cell, Run, Shots, missing_cells, require_heads


def complete_probes(
    run: Run,
    names: Sequence[str],
    *,
    shots: Sequence[Shots],
    cache: Path | None = None,
    output: Output = QUIET,
) -> list[Cell]:
    """Fit those cells of the probes at `shots` that a run lacks, and add them to it; returns them.

    A probe that cannot be fitted to the run's encoders is left out, with a remark that says why. Where
    nothing is lacking neither torch nor the run's stores are needed.

    Args:
        cache: where the run's stores are now, if they have moved.

    Raises:
        InputError: no probe fits the run's encoders; its stores are gone or have changed; a class has fewer
            samples than asked for.
    """
    require_heads(run)
    wanted, remarks = wanted_probes(run, names, shots)
    if not wanted:
        raise InputError("; ".join(remarks))
    for remark in remarks:
        output.say(remark)
    if not missing_cells([w.cell for w in wanted], run):
        run.settle_tables(output.say)
        return []
    from uml_evaluate.probes.cells import fit_probes

    return fit_probes(run, wanted, cache=cache, output=output)
