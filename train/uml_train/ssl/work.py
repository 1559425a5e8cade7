"""Networks of an arm, and the probes of its cells: what a run without labels does.

Shapes: n rows of the target, W width.

An arm is what networks are trained for: (auxiliaries, method, control, seed), and under `joint` the labelled
draw too. Every candidate of the search is one network of it, kept in `RUN/models`.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache.command import Output, Progress
from uml_cache.errors import WorkError
from uml_train.cells import Draw, draw_rows
from uml_train.ranks import Ranks
from uml_train.run import Cell, CellResult, Run, write_atomic
from uml_train.settings import UNRELATED
from uml_train.ssl.data import Sequences
from uml_train.ssl.grid import Candidate, Pretraining
from uml_train.ssl.model import SharedTransformer
from uml_train.ssl.network import load_network, network_file
from uml_train.ssl.probe import Probe
from uml_train.ssl.problem import SequenceProblem
from uml_train.ssl.training import Task, Timetable, Trainer, Where, embed_rows
from uml_train.workers import chosen_device


@dataclass(frozen=True, eq=False)
class _Trained:
    """One candidate of an arm: its network's file, its record, and its embeddings of the target's rows."""

    path: Path
    candidate: Candidate
    about: dict[str, Any]
    embeddings: dict[int, np.ndarray]


class Work:
    """Trains and probes cells of one run."""

    def __init__(
        self, run: Run, problem: SequenceProblem, grid: Pretraining, ranks: Ranks, output: Output
    ) -> None:
        self._run, self._problem, self._grid, self._output = run, problem, grid, output
        self._settings = run.settings
        self._joint = self._settings.objective == "joint"
        device = chosen_device(self._settings.device)
        if device == "cuda":
            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        self._where = Where(device, self._settings.precision, ranks)
        self._ranks = ranks
        for folder in ("models", "checkpoints"):
            (run.path / folder).mkdir(exist_ok=True)

    def train(self, cells: Sequence[Cell]) -> None:
        """Every arm's networks, then the probes that were asked for."""
        arms: dict[str, list[Cell]] = {}
        for cell in cells:
            arms.setdefault(self._arm(cell), []).append(cell)
        for cells_of_arm in arms.values():
            count = len(self._candidates(cells_of_arm[0]))
            steps = count * self._timetable(cells_of_arm[0], self._grid.candidates[0]).steps
            with self._output.progress(steps, "step", self._arm(cells_of_arm[0])) as bar:
                self._train_arm(cells_of_arm, bar)

    def _train_arm(self, cells: Sequence[Cell], bar: Progress) -> None:
        first = cells[0]
        draws = {cell: draw_rows(self._problem.problem, cell.shots, cell.seed) for cell in cells}
        for i, candidate in enumerate(self._candidates(first)):
            if not self._model_path(first, i).exists():
                self._train_network(first, i, candidate, draws[first], bar)
        if not self._ranks.first:
            return
        needed = np.unique(np.concatenate([p for d in draws.values() for p in (d.train, d.val)]))
        trained = [self._embedded(first, i, c, needed) for i, c in enumerate(self._candidates(first))]
        for cell in cells:
            self._probe(cell, draws[cell], trained)

    def _train_network(self, cell: Cell, i: int, candidate: Candidate, draw: Draw, bar: Progress) -> None:
        streams = self._streams(cell, draw)
        target = self._problem.problem.target
        classes = len(self._problem.problem.classes) if self._joint else 0
        seed = cell.seed + (candidate.repeat << 32)
        model = SharedTransformer(
            self._grid.network(candidate.width, self._longest()),
            {stream.label: stream.dim for stream in streams},
            seed,
            classes,
        )
        label_of = dict(zip(target.rows.tolist(), target.labels.tolist(), strict=True))
        weight = 1.0 if candidate.alpha is None else candidate.alpha
        own = {"unimodal": 0.0, "uml": weight, "self-supervised": 1.0}[cell.method] if self._joint else 1.0
        task = Task(
            streams=streams,
            timetable=self._timetable(cell, candidate),
            lr=candidate.lr,
            batch_size=self._grid.batch_size,
            seed=seed,
            labels=np.array([label_of[row] for row in streams[0].rows.tolist()]) if self._joint else None,
            supervised=float(self._joint and cell.method != "self-supervised"),
            own=own,
            weight=weight,
            clip=self._grid.clip,
        )
        path = self._model_path(cell, i)
        checkpoint = self._run.path / "checkpoints" / f"{path.stem}.pt"
        outcome = Trainer(model, task, self._where, checkpoint, self._settings.checkpoint_minutes).fit(bar)
        if not outcome.finite:
            self._output.say(
                f"{path.stem}: the loss is no number any more; lower lr, or set clip in the grid"
            )
        about = {
            "seed": cell.seed,
            "method": cell.method,
            "control": cell.control,
            "steps": task.timetable.steps,
            "finite": outcome.finite,
            "history": outcome.history,
        }
        seconds = round(outcome.seconds, 2)

        def write() -> None:
            write_atomic(path.with_suffix(".json"), json.dumps({"seconds": seconds}).encode())
            write_atomic(path, network_file(model, streams, classes, about))
            checkpoint.unlink(missing_ok=True)

        self._ranks.in_turn(write)

    def _embedded(self, cell: Cell, i: int, candidate: Candidate, positions: np.ndarray) -> _Trained:
        """A candidate with embeddings of the target's rows at `positions`."""
        path = self._model_path(cell, i)
        network = load_network(path)
        seconds = json.loads(path.with_suffix(".json").read_text())["seconds"]
        about = {**network.about, "seconds": seconds}
        rows = self._embed(path, positions) if about["finite"] else np.zeros((len(positions), 1), np.float32)
        return _Trained(path, candidate, about, dict(zip(positions.tolist(), rows, strict=True)))

    def _embed(self, path: Path, positions: np.ndarray) -> np.ndarray:
        network = load_network(path)
        network.model.to(self._where.device)
        return embed_rows(network.model, network.mapped(self._problem.target_rows(positions)), self._where)

    def _probe(self, cell: Cell, draw: Draw, trained: Sequence[_Trained]) -> None:
        """Fit on the draw, choose on validation, score the chosen network once on the test rows."""
        problem = self._problem.problem
        labels = problem.target.labels
        probes, accuracies = [], []
        for one in trained:
            x = np.stack([one.embeddings[p] for p in draw.train.tolist()])
            probes.append(Probe(x, labels[draw.train]))
            val = np.stack([one.embeddings[p] for p in draw.val.tolist()])
            accuracies.append(probes[-1].accuracy(val, labels[draw.val]) if one.about["finite"] else 0.0)
        best = min(range(len(trained)), key=lambda i: (not trained[i].about["finite"], -accuracies[i], i))
        if not trained[best].about["finite"]:
            raise WorkError(
                f"{cell.key}: no candidate's loss stayed finite; lower lr, or set clip in the grid"
            )
        predictions = probes[best].predict(self._embed(trained[best].path, problem.test))
        steps = [one.about["steps"] for one in trained]
        result = CellResult(
            cell=cell,
            dataset=problem.dataset,
            target=problem.target.label,
            encoders={s.label: _encoder(s) for s in self._streams(cell, draw)},
            objective=self._settings.objective,
            trunk="transformer",
            normalize=self._settings.normalize,
            texts="all",
            grid=self._grid.name,
            label_budget=draw.label_budget,
            candidates=[
                {
                    "lr": one.candidate.lr,
                    "weight_decay": 0.0,
                    "batch_size": self._grid.batch_size,
                    "learnable_scale": False,
                    "alpha": one.candidate.alpha,
                    "ratio": None,
                    "repeat": one.candidate.repeat,
                    "width": one.candidate.width,
                    "step": one.candidate.step,
                    "val_acc": accuracy,
                    "best_step": one.about["steps"] - 1,
                    "steps": one.about["steps"],
                    "seconds": one.about["seconds"],
                }
                for one, accuracy in zip(trained, accuracies, strict=True)
            ],
            selected=best,
            val_acc=accuracies[best],
            test_acc=100.0 * float((predictions == labels[problem.test]).mean()),
            best_step=steps[best] - 1,
            seconds=sum(one.about["seconds"] for one in trained),
            history=[one.about["history"] for one in trained],
            folder=self._run.path,
        )
        write_atomic(result.head_path, trained[best].path.read_bytes())
        buffer = io.BytesIO()
        np.save(buffer, predictions, allow_pickle=False)
        write_atomic(result.predictions_path, buffer.getvalue())
        write_atomic(result.record_path, json.dumps(result.to_json(), ensure_ascii=False).encode())
        self._output.say(f"{cell.key}: val {result.val_acc:.1f}, test {result.test_acc:.1f}")

    def _streams(self, cell: Cell, draw: Draw) -> list[Sequences]:
        """The sequences that an arm learns from, the target's first, the control applied."""
        target = self._problem.problem.target
        own = self._problem.sequences[target.label]
        if self._joint:
            rows = target.rows[draw.train]
            raw = replace(own, mean=None, scale=None).only(rows[own.features.tokens.lengths[rows] > 0])
            own = raw.standardised() if self._settings.normalize == "standard" else raw
        found = [own]
        for label in cell.auxiliaries:
            name = f"{label}@{(cell.control or '').removeprefix(UNRELATED)}"
            stream = self._problem.sequences[name if name in self._problem.sequences else label]
            found.append(stream.as_noise(cell.seed) if cell.control == "random" else stream)
        return found

    def _candidates(self, cell: Cell) -> tuple[Candidate, ...]:
        with_auxiliaries = cell.method != "unimodal"
        return self._grid.candidates_for(
            auxiliaries=with_auxiliaries, weighted=cell.method != "self-supervised"
        )

    def _timetable(self, cell: Cell, candidate: Candidate) -> Timetable:
        draw = draw_rows(self._problem.problem, cell.shots if self._joint else "all", cell.seed)
        rows = len(draw.train)
        epoch = max(1, rows // min(rows, self._grid.batch_size))
        target = self._grid.steps or self._grid.epochs * epoch
        first = min((candidate.step or 0) * epoch, target) if cell.auxiliaries else 0
        return Timetable(
            target=target, first=first, auxiliary_first=self._grid.curriculum == "auxiliary-first"
        )

    def _longest(self) -> int:
        return self._problem.longest if self._grid.positions == "learned" else 0

    def _arm(self, cell: Cell) -> str:
        """The name of what a cell's networks are trained for: without labels, whatever the probe's shots."""
        return (cell if self._joint else replace(cell, shots="all")).key

    def _model_path(self, cell: Cell, i: int) -> Path:
        return self._run.path / "models" / f"{self._arm(cell)}-c{i}.safetensors"


def _encoder(stream: Sequences) -> str:
    name, variant = stream.features.encoder_name, stream.features.variant
    return f"{name}@{variant}" if variant else name
