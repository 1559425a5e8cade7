"""`train`: from settings to a finished run folder; `grow`: more cells for a run that exists."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from uml_cache import QUIET, Output
from uml_train.folder import extend_splits, run_lock
from uml_train.problem import LeftOut
from uml_train.record.identity import recorded_store
from uml_train.run import Cell, Run
from uml_train.runs.drawn import draw_rows
from uml_train.runs.head_session import open_heads, reopen_heads
from uml_train.runs.ranks import Ranks
from uml_train.runs.session import Session, add_cells, train_session
from uml_train.runs.settled.reopening import open_run_problem, require_heads
from uml_train.settings import TrainSettings

__all__ = ["open_run_problem", "recorded_store", "require_heads", "train"]


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


def grow(session: Session, run: Run, wanted: Sequence[Cell]) -> list[Cell]:
    """Add those of the wanted cells to a run that it lacks, and their draws to its splits; returns them.

    Raises:
        InputError: a class has fewer rows than asked for.
    """
    draws = {(cell.shots, cell.seed) for cell in wanted}
    for k, seed in draws:
        draw_rows(session.problem, k, seed)
    with run_lock(run.path, session.output):
        extend_splits(run, session.problem, draws, session.output)
    return add_cells(session, run, wanted)


def _opened(settings: TrainSettings, ranks: Ranks, output: Output) -> Session:
    if settings.objective == "supervised":
        return open_heads(settings, ranks, output)
    from uml_train.pretrain.pretraining import open_networks

    return open_networks(settings, ranks, output)


def reopened(run: Run, cache: Path | None, output: Output, stack: ExitStack) -> Session:
    if "finetune" in run.config:
        from uml_train.finetune.tuning_session import reopen_samples

        return reopen_samples(run, cache, output, stack)
    if run.settings.objective == "supervised":
        return reopen_heads(run, cache, output)
    from uml_train.pretrain.pretraining import reopen_networks

    return reopen_networks(run, cache, output)
