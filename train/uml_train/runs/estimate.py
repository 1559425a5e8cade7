"""`uml train --dry-run`: how much there is to train, and how long it would take by a short calibration."""

from __future__ import annotations

import heapq
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from uml_cache import QUIET, Output
from uml_train.record.keeping import WRITING
from uml_train.runs.calibration import stepped_costs
from uml_train.runs.costs import Estimate
from uml_train.runs.head_session import open_heads
from uml_train.runs.ranks import Ranks
from uml_train.runs.solved_calibration import solved_costs
from uml_train.runs.workers import chosen_device, processes_of
from uml_train.settings import AUTO, TrainSettings


def estimate(settings: TrainSettings, *, output: Output = QUIET) -> Estimate:
    """Count a run's models and train some of them; nothing is written.

    Raises what `train` raises for the same settings.
    """
    if settings.objective != "supervised":
        from uml_train.pretrain.forecast import estimate_sequences

        return estimate_sequences(settings, output=output)
    began = time.perf_counter()
    session = open_heads(settings, Ranks(), output)
    opening = time.perf_counter() - began
    problem, resolved, grid = session.problem, session.settings, session.grid
    cells = [c for c in session.cells() if c.method != AUTO]
    device = "cpu" if grid.points else chosen_device(resolved.device)
    # The draws of other seeds have as many rows.
    kind_of = {cell: replace(cell, seed=resolved.seeds[0]) for cell in cells}
    kinds = Counter(kind_of.values())
    processes = 1 if device == "cuda" else processes_of(problem, cells, grid, resolved.trunk)
    if grid.points:
        costs, warming = solved_costs(problem, resolved, grid, list(kinds))
    else:
        costs, warming = stepped_costs(problem, resolved, grid, kinds, device), 0.0
    each = [costs[kind_of[cell]] for cell in cells]
    start = opening + warming + (_imports() + opening if processes > 1 else 0.0)
    seconds = start + _together((cost.seconds for cost in each), processes)
    models = grid.size * len(cells)
    return Estimate(
        dataset=problem.dataset,
        target=problem.target.label,
        cells=len(cells),
        models=models,
        model_steps=models * grid.schedule.steps,
        head_bytes=sum(4 * cost.parameters for cost in each),
        bank_bytes=max((cost.held for cost in each), default=0) * (models if device == "cuda" else processes),
        device=device,
        processes=processes,
        seconds=seconds,
        seconds_at_most=max(seconds, start + _together((cost.at_most for cost in each), processes)),
    )


def _together(seconds: Iterable[float], processes: int) -> float:
    """When the last cell is written: each goes to the process that is free first."""
    ends = [0.0] * processes
    for cell in seconds:
        heapq.heapreplace(ends, ends[0] + cell)
    return max(ends) * (1.0 + WRITING)


def _imports() -> float:
    """Seconds in which a process that trains cells imports what it needs."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import uml_train.runs.workers"], check=True)
    return time.perf_counter() - began
