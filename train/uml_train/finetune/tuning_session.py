"""Whole networks on samples, as a session: a network per candidate of every cell."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from uml_cache import InputError, Output, Progress, StoreInfo, make_folder
from uml_train.data.selection import select_beside
from uml_train.finetune.finetune_settings import FinetuneSettings
from uml_train.finetune.opening import Networks, load_networks
from uml_train.finetune.tuned_cell import CellTuner, write_backbones
from uml_train.problem import open_problem, read_class_map
from uml_train.protocols.grid import Grid
from uml_train.protocols.named_grids import load_grid
from uml_train.record.checksums import path_sum
from uml_train.record.identity import content_of, require_content
from uml_train.record.keeping import Finished
from uml_train.run import Cell, Run
from uml_train.runs.ranks import Ranks
from uml_train.runs.session import Session
from uml_train.runs.settled.combinations import cells_of
from uml_train.runs.settled.reopening import class_map_of, splits_of
from uml_train.runs.settled.resolving import resolve, unrelated_roles
from uml_train.runs.settled.searching import with_texts
from uml_train.runs.workers import chosen_device, finished_cell, run_grid
from uml_train.settings import TrainSettings

_FAMILY = "finetune-"


@dataclass(eq=False, kw_only=True)
class SampleSession(Session):
    """All processes train one network together."""

    grid: Grid
    networks: Networks
    device: str

    doing = "fine-tuning"
    done = "fine-tuned"

    def cells(self) -> list[Cell]:
        """Every cell of the settings."""
        return cells_of(self.settings, self.problem, self.settings.shots or ())

    def described(self) -> dict[str, Any]:
        """The fine-tuning and its networks, as JSON values."""
        return self.networks.described()

    @property
    def stores(self) -> list[StoreInfo]:
        """The feature stores of the auxiliaries that have no network of their own."""
        own = {part.role.label for part in self.networks.parts}
        return [source.features.info for source in self.problem.sources if source.label not in own]

    def check(self) -> None:
        """Raises `WorkError` where a file of a sample is not the one that the run was begun with."""
        for part in self.networks.parts:
            part.check()

    def results(self, run: Run, cells: Sequence[Cell], bar: Progress) -> Generator[Finished, None, None]:
        """Train cells one after the other, all processes together, and give each as it is done."""
        tuner = CellTuner(
            self.networks, self.problem, self.settings, self.grid, self.ranks, self.device, self.output
        )
        for folder in ("checkpoints", "backbones"):
            make_folder(run.path / folder)
        for cell in cells:

            def told(step: int, accuracy: float, cell: Cell = cell) -> None:
                bar.set_postfix_str(f"{cell.key}: step {step}, val {accuracy:.1f}")

            tuned = tuner.train(cell, run.path / "checkpoints", told)
            self.ranks.wait()
            if self.ranks.first:
                found, remark = finished_cell(
                    run, self.problem, self.grid, cell, self.settings, tuned.trained, tuned.seconds
                )
                if self.networks.tuning.keep:
                    written = write_backbones(cell, tuned.tuner, tuned.state, run.path / "backbones")
                    found = replace(found, result=replace(found.result, files=_sums(run.path, written)))
                bar.set_postfix_str(remark)
                yield replace(found, at_once=True)
                for checkpoint in tuned.checkpoints:
                    checkpoint.remove()
            self.ranks.wait()
            bar.update(1)


def _sums(run: Path, folders: Sequence[Path]) -> dict[str, Any]:
    """What the cell's record says of the files in some folders."""
    files = [file for folder in folders for file in sorted(folder.rglob("*")) if file.is_file()]
    # Whoever lacks the space may delete them: a cell is whole without.
    return {file.relative_to(run).as_posix(): {**path_sum(file), "optional": True} for file in files}


def open_samples(
    settings: TrainSettings,
    tuning: FinetuneSettings,
    ranks: Ranks,
    output: Output,
    stack: ExitStack,
    run: Run | None = None,
) -> SampleSession:
    """Load the networks and open the data; nothing is written but which samples can be read.

    Args:
        stack: closes the processes that read samples.
        run: that is reopened: its search and its parts are taken, whatever files and manifest say now.

    Raises:
        InputError: data or weights that are missing, classes that do not meet, draws larger than the data.
    """
    device = chosen_device(settings.device)
    networks = load_networks(tuning, settings.out, ranks, output, stack)
    tuned = None if networks.tuned is None else networks.tuned.role
    selection = select_beside(settings.cache, networks.target.role, settings.auxiliaries, tuned)
    unrelated = unrelated_roles(settings, selection)
    problem = open_problem(
        selection.dataset,
        selection.target,
        selection.auxiliaries,
        _class_map(settings, run),
        unrelated=unrelated,
        splits=None if run is None else splits_of(run),
        ids=settings.ids,
        short_classes=settings.short_classes,
        opened={part.role.label: part.rows for part in networks.parts},
    )
    for remark in problem.remarks:
        output.say(remark)
    resolved = with_texts(resolve(settings, selection, problem, output), _FAMILY)
    if run is None:
        axes = {"alpha": resolved.alpha, "ratio": resolved.ratio}
        grid = load_grid(resolved.grid, **axes, texts=resolved.texts, family=_FAMILY)
    else:
        grid = run_grid(run)
    _check_batches(grid, ranks)
    return SampleSession(
        settings=resolved,
        selection=selection,
        unrelated=unrelated,
        problem=problem,
        grid=grid,
        networks=networks,
        device=device,
        ranks=ranks,
        output=output,
    )


def reopen_samples(run: Run, cache: Path | None, output: Output, stack: ExitStack) -> SampleSession:
    """What a run was trained with. Raises `InputError` where data, features or weights have changed since."""
    require_content(run)
    tuning = FinetuneSettings.from_json(run.config["finetune"])
    settings = run.settings if cache is None else replace(run.settings, cache=cache)
    session = open_samples(settings, tuning, Ranks(), output, stack, run)
    roles = [session.selection.target, *session.selection.auxiliaries, *session.unrelated]
    now = {role.label: content_of(role.store) for role in roles}
    for label, store in run.config["stores"].items():
        if now.get(label) != store["fingerprint"]:
            raise InputError(f"{label} has changed since {run.path} was trained; train again")
    if session.described()["networks"] != run.config["finetune"]["networks"]:
        raise InputError(f"the network's weights have changed since {run.path} was trained; train again")
    return session


def _class_map(settings: TrainSettings, run: Run | None) -> dict[str, str] | None:
    if run is not None:
        return class_map_of(run)
    return read_class_map(settings.class_map) if settings.class_map else None


def _check_batches(grid: Grid, ranks: Ranks) -> None:
    smallest = min(candidate.batch_size for candidate in grid.candidates)
    if smallest < ranks.world:
        raise InputError(
            f"{ranks.world} processes share a batch of {smallest}; use fewer, or a larger batch_size"
        )
