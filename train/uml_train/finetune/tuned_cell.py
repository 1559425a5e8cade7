"""One cell of a fine-tuning: a network per candidate, and the test score of the one that validates best.

Shapes: n rows of a draw.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from uml_cache import Output
from uml_train.data.source import Source
from uml_train.finetune.network.backbones import State
from uml_train.finetune.network.steps import Tuner
from uml_train.finetune.network.whole_network import TunedStream, TuningTask
from uml_train.finetune.opening import Networks, Part
from uml_train.heads.models import Fitted, best_validated
from uml_train.problem import Problem
from uml_train.protocols.grid import Grid
from uml_train.record.checkpoint import Checkpoint
from uml_train.run import Cell
from uml_train.runs.cells import Prepared, Trained, prepare
from uml_train.runs.drawn import auxiliary_positions, draw_rows
from uml_train.runs.ranks import Ranks
from uml_train.settings import TrainSettings


@dataclass(frozen=True, eq=False)
class TunedCell:
    """A trained cell: its outcome, the selected network and its state, and the checkpoints it leaves."""

    trained: Trained
    tuner: Tuner
    state: State
    seconds: float
    checkpoints: list[Checkpoint]


@dataclass(frozen=True, eq=False)
class CellTuner:
    """Trains the cells of one run, one after the other; several processes share every batch."""

    networks: Networks
    problem: Problem
    settings: TrainSettings
    grid: Grid
    ranks: Ranks
    device: str
    output: Output

    def train(self, cell: Cell, folder: Path, told: Callable[[int, float], object]) -> TunedCell:
        """Train every candidate from where its checkpoint stands, select, score.

        Args:
            folder: of the checkpoints.
            told: of every evaluation: step, validation accuracy.
        """
        began = time.perf_counter()
        prepared = prepare(self.problem, cell, self.settings, self.grid)
        fitted: list[Fitted] = []
        seconds: list[float] = []
        tuner, state = None, None
        checkpoints = [
            Checkpoint(folder / f"{cell.key}.{i}.pt", self.output.say) for i in range(len(prepared.models))
        ]
        for i, checkpoint in enumerate(checkpoints):
            start = time.perf_counter()
            tuner = self.tuner(cell, prepared, i)
            found, state = tuner.fit(checkpoint, told)
            fitted.append(found)
            seconds.append(time.perf_counter() - start)
        selected = best_validated([f.val_acc for f in fitted], [f.best_step for f in fitted])
        if tuner is None or state is None or selected != len(fitted) - 1:
            tuner = self.tuner(cell, prepared, selected)
            _, state = tuner.fit(checkpoints[selected])  # finished: this only brings its best state back
        target = self.problem.target
        trained = Trained(
            prepared=prepared,
            fitted=fitted,
            seconds=seconds,
            selected=selected,
            answers=tuner.test(target.rows[self.problem.test]),
        )
        return TunedCell(trained, tuner, state, time.perf_counter() - began, checkpoints)

    def tuner(self, cell: Cell, prepared: Prepared, index: int) -> Tuner:
        """The training of one candidate of a cell, not begun."""
        tuning, tuned = self.networks.tuning, self.networks.tuned
        draw = draw_rows(self.problem, cell.shots, cell.seed)
        model = prepared.models[index]

        def stream(part: Part, source: Source, positions: np.ndarray, lr: float | None = None) -> TunedStream:
            return TunedStream(
                backbone=part.backbone,
                loader=part.loader,
                rows=source.rows[positions],
                lr=lr,
                unit=prepared.mapping[index][source.label].unit,
            )

        streams = [stream(self.networks.target, self.problem.target, draw.train)]
        for samples in model.auxiliaries:
            if tuned is None or samples.name != tuned.role.label:
                streams.append(TunedStream())
                continue
            source = self.problem.auxiliaries[samples.name]
            texts = model.candidate.texts or self.settings.texts
            positions = auxiliary_positions(source, cell.seed, texts)
            streams.append(stream(tuned, source, positions, tuning.aux_lr))
        if tuning.recompute:
            for each in streams:
                if each.backbone is not None:
                    each.backbone.encoder.checkpoint_gradients()
        return Tuner(
            TuningTask(
                model=model,
                streams=streams,
                validation=self.problem.target.rows[draw.val],
                unfreeze_at=tuning.unfreeze_at,
            ),
            self.grid.schedule,
            device=self.device,
            precision=self.settings.precision,
            ranks=self.ranks,
            ema=tuning.ema,
            batch_norm=tuning.batch_norm,
        )


def write_backbones(cell: Cell, tuner: Tuner, state: State, folder: Path) -> list[Path]:
    """Write the selected networks as folders that `uml extract --encoder` takes; returns these.

    The target's has the cell's name, an auxiliary's its modality behind.
    """
    written = []
    for i, stream in enumerate(tuner.task.streams):
        if stream.backbone is None:
            continue
        prefix = f"networks.{i}."
        own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        name = cell.key if i == 0 else f"{cell.key}-{tuner.model.streams[i].name}"
        stream.backbone.write(own, folder / name)
        written.append(folder / name)
    return written
