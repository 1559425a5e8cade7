"""One way through training, whatever is trained: open, begin the run, train the cells it lacks, write tables.

    typed settings ─ open_session ─▶ Session ─ train_session ─▶ Run
    a Run          ─ reopened ─────▶ Session ─ add_cells ─────▶ its new cells

A `Session` holds what is open meanwhile. Three kinds of it differ in what a cell is and how one is trained:
heads on features (`uml_train.runs.head_session`), networks on sequences (`uml_train.pretrain`), whole
networks on samples (`uml_train.finetune`). All of them share this module: the folder, the lock, what is
resumed, how cells are kept, progress, the method `auto` and the tables.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from uml_cache import FeatureSet, Output, Progress, StoreInfo
from uml_train.data.selection import Role, Selection
from uml_train.folder import begin, run_lock
from uml_train.problem import LeftOut, Problem
from uml_train.record.identity import Watch
from uml_train.record.keeping import Finished, Keeper
from uml_train.record.mending import mend
from uml_train.run import Cell, Run, missing_cells
from uml_train.runs.auto import choose
from uml_train.runs.ranks import Ranks
from uml_train.settings import AUTO, TrainSettings

if TYPE_CHECKING:
    from uml_train.pretrain.searches import Pretraining
    from uml_train.protocols.grid import Grid

_LOOKED_AT = 256  # samples, for features that never change


@dataclass(eq=False, kw_only=True)
class Session(ABC):
    """What is open while the cells of a run are trained; `settings` have every default resolved."""

    settings: TrainSettings
    selection: Selection
    unrelated: list[Role]
    problem: Problem
    grid: Grid | Pretraining
    ranks: Ranks
    output: Output

    doing: ClassVar[str] = "training"
    done: ClassVar[str] = "trained"
    unit: ClassVar[str] = "cell"

    @abstractmethod
    def cells(self) -> list[Cell]:
        """Every cell of the settings."""

    @abstractmethod
    def results(self, run: Run, cells: Sequence[Cell], bar: Progress) -> Generator[Finished, None, None]:
        """Train cells, and give each as it is done; of several processes the first gives those they share."""

    def amount(self, cells: Sequence[Cell]) -> int:
        """How many `unit`s the cells take."""
        return len(cells)

    def described(self) -> dict[str, Any] | None:
        """What decides the run beside its settings, as JSON values."""
        return None

    def check(self) -> None:
        """Raises `WorkError` where what is trained on, stores apart, is not what it was."""
        return

    @property
    def stores(self) -> list[StoreInfo]:
        """The feature stores that are read, as they were when they were opened."""
        return [source.features.info for source in self.problem.sources]


def begin_run(session: Session) -> Run:
    """The run of a session's settings: its folder made, or found as it was left."""
    return begin(
        session.settings,
        session.selection,
        session.unrelated,
        session.problem,
        session.grid,
        session.described(),
        session.output,
    )


def train_session(session: Session, left_out: list[LeftOut] | None = None) -> Run:
    """Train every cell of a session's settings; the finished run.

    Args:
        left_out: takes the rows that are not used.
    """
    session.ranks.in_turn(lambda: begin_run(session))
    run = begin_run(session)
    _remark_classes(session)
    _remark_texts(session)
    _remark_constant(session)
    if left_out is not None:
        left_out += session.problem.left_out()
    cells = session.cells()
    if not _add(session, run, cells, thorough=True):
        session.output.say(f"{run.path} is complete; nothing was trained")
    return run


def add_cells(session: Session, run: Run, wanted: Sequence[Cell]) -> list[Cell]:
    """Train those of the wanted cells that a run lacks; returns them."""
    return _add(session, run, wanted, thorough=False)


def _add(session: Session, run: Run, wanted: Sequence[Cell], *, thorough: bool) -> list[Cell]:
    began, ranks, output = time.perf_counter(), session.ranks, session.output
    with run_lock(run.path, output, ranks):
        watch = Watch(session.stores)

        def unchanged() -> None:
            watch.check()
            session.check()

        ranks.in_turn(lambda: mend(run, wanted, output, thorough=thorough))
        todo = missing_cells(wanted, run)
        ranks.wait()  # every process has listed what is missing before one of them adds to it
        cells = [cell for cell in todo if cell.method != AUTO]
        with (
            output.progress(session.amount(cells), session.unit, session.doing) as bar,
            Keeper(run, unchanged) as keeper,
            closing(session.results(run, cells, bar)) as results,
        ):
            for finished in results:
                keeper.keep(finished)

        def finish() -> None:
            choose(run, [cell for cell in todo if cell.method == AUTO])
            run.write_tables()

        ranks.in_turn(finish)
    if todo:
        count = f"{len(cells)} cell{'s' * (len(cells) != 1)}"
        output.say(f"{session.done} {count} in {time.perf_counter() - began:.0f} s")
    return todo


def _remark_classes(session: Session) -> None:
    """Say which classes an auxiliary has nothing for, and which of its own are not used."""
    for label, notes in session.problem.notes.items():
        if lacking := notes["without_auxiliary"]:
            session.output.say(f"{label} has nothing for {len(lacking)} classes: {', '.join(lacking)}")
        if unused := notes["unused"]:
            names = ", ".join(unused)
            session.output.say(f"{label}: {len(unused)} of its classes are not the target's: {names}")


def _remark_texts(session: Session) -> None:
    """Say where `--texts N` finds fewer than N samples of a class, so that the class gives all it has."""
    wanted = session.settings.texts
    if not isinstance(wanted, int):
        return
    for source in session.problem.auxiliaries.values():
        _, counts = np.unique(source.labels, return_counts=True)
        if few := int((counts < wanted).sum()):
            session.output.say(
                f"{source.label}: {few} of {len(counts)} classes have fewer than the {wanted} samples of "
                f"--texts, the smallest {counts.min()}; they give all they have"
            )


def _remark_constant(session: Session) -> None:
    """Say where samples from all over a modality have the same features."""
    for source in session.problem.sources:
        features = source.features
        if not isinstance(features, FeatureSet) or features.info.dim is None or len(source.rows) < 2:
            continue  # samples that are encoded while they are trained on, or sequences
        count = min(_LOOKED_AT, len(source.rows))
        rows = source.rows[np.linspace(0, len(source.rows) - 1, count).astype(np.int64)]
        some = torch.empty((len(rows), features.info.dim), dtype=features.source.dtype)
        features.source.read(torch.from_numpy(rows), some)
        if bool((some == some[0]).all()):
            session.output.say(
                f"warning: {source.label}: the features of {count} samples from all over it are the same, "
                "so that no class can be told from another; look at what made them"
            )
