"""What each arm of a run without labels trains: candidates, sequences, losses, how many steps.

An arm is what networks are trained for: (auxiliaries, method, control, seed), and under `joint` the labelled
draw too. Every candidate of the search is one network of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from uml_train.pretrain.network.network_training import PretrainingTask, Timetable
from uml_train.pretrain.network.sequences import Sequences
from uml_train.pretrain.network.shared_transformer import SharedTransformer
from uml_train.pretrain.searches import Pretraining, PretrainingCandidate
from uml_train.pretrain.sequence_problem import SequenceProblem
from uml_train.run import Cell
from uml_train.runs.drawn import Draw, draw_rows
from uml_train.settings import UNRELATED, Shots, TrainSettings


def sequence_cells(settings: TrainSettings, grid: Pretraining, shots: Sequence[Shots]) -> list[Cell]:
    """Every cell once, those of one arm together. Tables show a width where a single one is searched."""
    width = grid.width[0] if len(grid.width) == 1 else 0
    arms: list[tuple[tuple[str, ...], str, str | None]] = []
    for method in settings.methods:
        if method == "unimodal":
            arms.append(((), method, None))
            continue
        controls = (None, *settings.controls) if method == "uml" else (None,)
        arms += [(labels, method, control) for labels in settings.auxiliaries or () for control in controls]
    return [
        Cell(auxiliaries=a, method=m, control=c, shots=k, seed=seed, shared_width=width)
        for seed in settings.seeds
        for a, m, c in arms
        for k in shots
    ]


def arm_name(cell: Cell, *, joint: bool) -> str:
    """The arm of a cell: without labels it is the same whatever the probe's shots."""
    return (cell if joint else replace(cell, shots="all")).key


@dataclass(frozen=True, eq=False)
class Arms:
    """The arms of one run: settings with every default resolved, over open stores."""

    problem: SequenceProblem
    grid: Pretraining
    settings: TrainSettings

    @property
    def joint(self) -> bool:
        """Whether classes of labelled samples are learnt, too."""
        return self.settings.objective == "joint"

    def by_arm(self, cells: Sequence[Cell]) -> dict[str, list[Cell]]:
        """The cells of every arm, by the arm's name."""
        found: dict[str, list[Cell]] = {}
        for cell in cells:
            found.setdefault(self.name(cell), []).append(cell)
        return found

    def steps(self, cells: Sequence[Cell]) -> int:
        """Steps of all networks of the cells' arms."""
        firsts = [cells_of_arm[0] for cells_of_arm in self.by_arm(cells).values()]
        return sum(self.timetable(first, c).steps for first in firsts for c in self.candidates(first))

    def name(self, cell: Cell) -> str:
        """The arm of a cell, as `arm_name` has it."""
        return arm_name(cell, joint=self.joint)

    def epoch(self, cell: Cell) -> int:
        """Steps of a pass over the target."""
        rows = len(self.draw(cell).train)
        return max(1, rows // min(rows, self.grid.batch_size))

    def candidates(self, cell: Cell) -> tuple[PretrainingCandidate, ...]:
        """As many for every method."""
        return self.grid.candidates_for(
            auxiliaries=cell.method != "unimodal",
            weighted=cell.method != "self-supervised",
            equal=self.settings.candidates == "equal",
        )

    def timetable(self, cell: Cell, candidate: PretrainingCandidate) -> Timetable:
        """Steps of a network, and when which modality takes part."""
        epoch = self.epoch(cell)
        target = self.grid.steps or self.grid.epochs * epoch
        inside = self.grid.curriculum == "auxiliary-first"
        # The public code counts epochs from 0 and goes to joint training after the one numbered `step`.
        length = (candidate.step or 0) + inside if candidate.step is not None else 0
        first = min(length * epoch, target) if cell.auxiliaries else 0
        return Timetable(
            target=target - first if inside else target,
            first=first,
            auxiliary_first=self.grid.curriculum.startswith("auxiliary"),
        )

    def draw(self, cell: Cell) -> Draw:
        """The target's rows that a cell's networks may learn from; their classes only under `joint`."""
        return draw_rows(self.problem.problem, cell.shots if self.joint else "all", cell.seed)

    def streams(self, cell: Cell) -> list[Sequences]:
        """The sequences that an arm learns from, the target's first, the control applied."""
        target = self.problem.problem.target
        own = self.problem.sequences[target.label]
        if self.joint:
            rows = target.rows[self.draw(cell).train]
            raw = replace(own, mean=None, scale=None).only(rows[own.features.tokens.lengths[rows] > 0])
            own = raw.standardised() if self.settings.normalize == "standard" else raw
        found = [own]
        for label in cell.auxiliaries:
            name = f"{label}@{(cell.control or '').removeprefix(UNRELATED)}"
            stream = self.problem.sequences[name if name in self.problem.sequences else label]
            found.append(stream.as_noise(cell.seed) if cell.control == "random" else stream)
        return found

    def network(
        self, cell: Cell, candidate: PretrainingCandidate, streams: Sequence[Sequences]
    ) -> tuple[SharedTransformer, PretrainingTask]:
        """A candidate's network at its start, and what it is to be trained on."""
        seed = cell.seed + (candidate.repeat << 32)
        longest = self.problem.longest if self.grid.positions == "learned" else 0
        model = SharedTransformer(
            self.grid.network(candidate.width, longest),
            {stream.label: stream.vocabulary or stream.dim for stream in streams},
            seed,
            self.classes,
            discrete=[stream.label for stream in streams if stream.vocabulary is not None],
        )
        weight = 1.0 if candidate.alpha is None else candidate.alpha
        own = {"unimodal": 0.0, "uml": weight, "self-supervised": 1.0}[cell.method] if self.joint else 1.0
        return model, PretrainingTask(
            streams=streams,
            timetable=self.timetable(cell, candidate),
            lr=candidate.lr,
            batch_size=self.grid.batch_size,
            seed=seed,
            labels=self._labels(streams[0]) if self.joint else None,
            supervised=float(self.joint and cell.method != "self-supervised"),
            own=own,
            weight=weight,
            clip=self.grid.clip,
        )

    @property
    def classes(self) -> int:
        """Outputs of the supervised part."""
        return len(self.problem.problem.classes) if self.joint else 0

    def _labels(self, target: Sequences) -> np.ndarray:
        source = self.problem.problem.target
        label_of = dict(zip(source.rows.tolist(), source.labels.tolist(), strict=True))
        return np.array([label_of[row] for row in target.rows.tolist()])
