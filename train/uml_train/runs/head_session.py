"""Heads on cached features, as a session."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from uml_cache import Output, Progress
from uml_train.data.given_splits import read_splits
from uml_train.data.selection import select_stores
from uml_train.problem import open_problem, read_class_map
from uml_train.protocols.grid import Grid
from uml_train.protocols.named_grids import load_grid
from uml_train.record.identity import require_content
from uml_train.record.keeping import Finished
from uml_train.run import Cell, Run
from uml_train.runs.ranks import Ranks
from uml_train.runs.session import Session
from uml_train.runs.settled.combinations import cells_of
from uml_train.runs.settled.reopening import open_recorded, recorded_selection, require_heads
from uml_train.runs.settled.resolving import check_tokens, resolve, unrelated_roles
from uml_train.runs.settled.searching import with_search
from uml_train.runs.workers import run_grid, train_cells
from uml_train.settings import TRANSFORMER, TrainSettings


@dataclass(eq=False, kw_only=True)
class HeadSession(Session):
    """Every process trains its part of the cells, each cell whole."""

    grid: Grid

    def cells(self) -> list[Cell]:
        """Every cell of the settings."""
        return cells_of(self.settings, self.problem, self.settings.shots or ())

    def results(self, run: Run, cells: Sequence[Cell], bar: Progress) -> Generator[Finished, None, None]:
        """Train cells in this process or in several, and give each as it is done."""
        part = self.ranks.part(cells)
        roles = [self.selection.target, *self.selection.auxiliaries, *self.unrelated]
        stores = {role.label: role.store.path for role in roles}
        if part:
            alone = self.ranks.world == 1
            yield from train_cells(run, self.problem, part, stores, bar, self.output, alone=alone)


def open_heads(settings: TrainSettings, ranks: Ranks, output: Output) -> HeadSession:
    """Find and open the stores that settings mean, and resolve the settings over them; nothing is written.

    Raises:
        InputError: stores that are missing, ambiguous or unsealed; classes that do not meet; draws larger
            than the data.
    """
    tokens = settings.trunk == TRANSFORMER
    selection = select_stores(
        settings.cache, settings.dataset, settings.target, settings.auxiliaries, prefer_tokens=tokens
    )
    if tokens:
        check_tokens(selection, output)
    unrelated = unrelated_roles(settings, selection)
    problem = open_problem(
        selection.dataset,
        selection.target,
        selection.auxiliaries,
        read_class_map(settings.class_map) if settings.class_map else None,
        unrelated,
        read_splits(settings.splits) if settings.splits else None,
        ids=settings.ids,
        short_classes=settings.short_classes,
        unlabelled=settings.splits is None,  # rows that --splits does not name are not used
    )
    for remark in (*selection.remarks, *problem.remarks):
        output.say(remark)
    resolved = with_search(resolve(settings, selection, problem, output), problem, output)
    return HeadSession(
        settings=resolved,
        selection=selection,
        unrelated=unrelated,
        problem=problem,
        grid=load_grid(resolved.grid, alpha=resolved.alpha, ratio=resolved.ratio, texts=resolved.texts),
        ranks=ranks,
        output=output,
    )


def reopen_heads(run: Run, cache: Path | None, output: Output) -> HeadSession:
    """What a run with heads was trained on, to train more on it.

    Raises:
        InputError: a run without heads or of version 0.1, or a store is gone or has changed.
    """
    require_heads(run)
    require_content(run)
    selection, unrelated = recorded_selection(run, cache)
    return HeadSession(
        settings=run.settings if cache is None else replace(run.settings, cache=cache),
        selection=selection,
        unrelated=unrelated,
        problem=open_recorded(run, selection, unrelated),
        grid=run_grid(run),
        ranks=Ranks(),
        output=output,
    )
