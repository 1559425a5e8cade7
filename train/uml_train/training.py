"""`train`: from settings to a finished run folder; `complete`: more cells for a run that exists."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from uml_cache import QUIET, Output
from uml_train.folder import extend_splits, run_lock
from uml_train.problem import LeftOut
from uml_train.record.identity import recorded_store, require_content
from uml_train.run import Cell, Run, missing_cells
from uml_train.runs.cells import draw_rows
from uml_train.runs.head_session import head_cells, open_heads, reopen_heads
from uml_train.runs.ranks import Ranks
from uml_train.runs.reopening import open_run_problem, require_heads
from uml_train.runs.session import Session, add_cells, train_session
from uml_train.settings import Shots, TrainSettings

__all__ = ["complete", "open_run_problem", "recorded_store", "require_heads", "train"]


def train(settings: TrainSettings, *, left_out: list[LeftOut] | None = None, output: Output = QUIET) -> Run:
    """Train every cell of the settings and return the finished run.

    The run's folder is named by data set, target and a digest of the settings and the stores' content, so the
    same settings over the same content go on where they stopped, and over another content begin another run.

    Args:
        left_out: takes the rows that are not used.

    Raises:
        InputError: stores that are missing, ambiguous or unsealed; classes that do not meet; draws larger
            than the data.
        WorkError: a store is changed while the run trains on it.
    """
    ranks = Ranks.of_environment()
    return train_session(_opened(settings, ranks, output if ranks.first else QUIET), left_out)


def complete(
    run: Run, *, shots: Sequence[Shots], cache: Path | None = None, output: Output = QUIET
) -> list[Cell]:
    """Train those cells of a run at `shots` that it lacks, with the run's own settings; returns them.

    Args:
        cache: where the run's stores are now, if they have moved.

    Raises:
        InputError: the stores are gone or have changed since the run, or a file of it is damaged.
    """
    wanted = _cells_at(run, shots)
    if not missing_cells(wanted, run):
        run.settle_tables(output.say)
        return []
    require_content(run)
    draws = {(cell.shots, cell.seed) for cell in wanted}
    with ExitStack() as stack:
        session = _reopened(run, cache, output, stack)
        for k, seed in draws:
            draw_rows(session.problem, k, seed)
        with run_lock(run.path, output):
            extend_splits(run, session.problem, draws, output)
        return add_cells(session, run, wanted)


def _opened(settings: TrainSettings, ranks: Ranks, output: Output) -> Session:
    if settings.objective == "supervised":
        return open_heads(settings, ranks, output)
    from uml_train.pretrain.pretraining import open_networks

    return open_networks(settings, ranks, output)


def _cells_at(run: Run, shots: Sequence[Shots]) -> list[Cell]:
    if run.config["objective"] in ("supervised", "finetune"):
        return head_cells(run, shots)
    from uml_train.pretrain.pretraining import network_cells

    return network_cells(run, shots)


def _reopened(run: Run, cache: Path | None, output: Output, stack: ExitStack) -> Session:
    if "finetune" in run.config:
        from uml_train.finetune.tuning_session import reopen_samples

        return reopen_samples(run, cache, output, stack)
    if run.settings.objective == "supervised":
        return reopen_heads(run, cache, output)
    from uml_train.pretrain.pretraining import reopen_networks

    return reopen_networks(run, cache, output)
