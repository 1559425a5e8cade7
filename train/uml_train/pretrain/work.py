"""Networks of an arm, and the probes of its cells: what a run without labels does.

Shapes: n rows of the target, W width.

Networks of an arm are kept in `RUN/models`; what an arm is, `uml_train.pretrain.arms` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache import InputError, Output, Progress, WorkError, make_folder, write_together
from uml_train.heads.models import best_validated
from uml_train.pretrain.arms import Arms
from uml_train.pretrain.network.network_file import load_network, network_file
from uml_train.pretrain.network.network_training import NetworkTrainer, Where, embed_rows
from uml_train.pretrain.network.pathways import snapshot_path
from uml_train.pretrain.network.sequences import Sequences
from uml_train.pretrain.probe import Probe
from uml_train.pretrain.searches import PretrainingCandidate
from uml_train.record.checkpoint import Checkpoint
from uml_train.record.checksums import read_record, record_bytes
from uml_train.record.keeping import Finished
from uml_train.record.scores import Answers
from uml_train.run import Cell, Run
from uml_train.runs.drawn import Draw, draw_rows
from uml_train.runs.outcome import cell_result
from uml_train.runs.ranks import Ranks

_AGAIN = "run the same `uml train` command to train the network again"


@dataclass(frozen=True, eq=False)
class _Trained:
    """One candidate of an arm: its network's file, its record, and its embeddings of the target's rows."""

    path: Path
    candidate: PretrainingCandidate
    about: dict[str, Any]
    embeddings: dict[int, np.ndarray]


class Work:
    """Trains and probes cells of one run."""

    def __init__(self, run: Run, arms: Arms, ranks: Ranks, output: Output) -> None:
        self._run, self._arms, self._output = run, arms, output
        self._problem = arms.problem
        self._where = Where.of(arms.settings, ranks)
        self._ranks = ranks
        for folder in ("models", "checkpoints", *(["snapshots"] if arms.settings.snapshots else [])):
            make_folder(run.path / folder)

    def results(self, cells: Sequence[Cell], bar: Progress) -> Iterator[Finished]:
        """Every arm's networks, then the probes that were asked for; the first process gives them."""
        for name, cells_of_arm in self._arms.by_arm(cells).items():
            bar.set_postfix_str(name)
            yield from self._arm(cells_of_arm, bar)

    def _arm(self, cells: Sequence[Cell], bar: Progress) -> Iterator[Finished]:
        first = cells[0]
        draws = {cell: draw_rows(self._problem.problem, cell.shots, cell.seed) for cell in cells}
        for i, candidate in enumerate(self._arms.candidates(first)):
            if self._is_trained(first, i):
                bar.update(self._arms.timetable(first, candidate).steps)
            else:
                self._train_network(first, i, candidate, bar)
        if not self._ranks.first:
            return
        needed = np.unique(np.concatenate([p for d in draws.values() for p in (d.train, d.val)]))
        chosen: set[int] = set()
        trained = [self._embedded(first, i, c, needed) for i, c in enumerate(self._arms.candidates(first))]
        for cell in cells:
            finished = self._probe(cell, draws[cell], trained)
            yield finished
            chosen.add(finished.result.selected)
        self._forget(self._arms.name(first), chosen)

    def _forget(self, arm: str, chosen: set[int]) -> None:
        """Remove the snapshots of candidates that no probe selected."""
        for path in (self._run.path / "snapshots").glob("*.safetensors"):
            name, _, candidate = path.stem.rpartition("-e")[0].rpartition("-c")
            if name == arm and int(candidate) not in chosen:
                path.unlink()

    def _is_trained(self, cell: Cell, i: int) -> bool:
        """Whether a candidate's network is there and whole; all processes answer alike."""
        path = self._model_path(cell, i)
        whole = path.exists() and path.with_suffix(".json").exists()
        if whole:
            try:
                load_network(path)
                read_record(path.with_suffix(".json"), "", required=False)
            except InputError as error:
                self._output.say(f"{error}: the network is trained again")
                whole = False
        self._ranks.wait()  # every process has looked before one of them writes
        return whole

    def _train_network(self, cell: Cell, i: int, candidate: PretrainingCandidate, bar: Progress) -> None:
        streams = self._arms.streams(cell)
        model, task = self._arms.network(cell, candidate, streams)
        path = self._model_path(cell, i)
        checkpoint = Checkpoint(self._run.path / "checkpoints" / f"{path.stem}.pt", self._output.say)
        minutes = self._arms.settings.checkpoint_minutes
        epoch = self._arms.epoch(cell)

        def snapshot(step: int) -> None:
            about = {"seed": cell.seed, "method": cell.method, "control": cell.control, "steps": step}
            kept = snapshot_path(self._run.path, self._arms.name(cell), i, step // epoch)
            write_together({kept: network_file(model, streams, self._arms.classes, about)})

        every = self._arms.settings.snapshots * epoch
        trainer = NetworkTrainer(
            model, task, self._where, checkpoint, minutes, every=every, snapshot=snapshot
        )
        outcome = trainer.fit(bar)
        if not outcome.finite:
            self._output.say(f"{path.stem}: the loss is no longer finite; lower lr, or set clip in the grid")
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
            times = record_bytes({"seconds": seconds})
            network = network_file(model, streams, self._arms.classes, about)
            write_together({path.with_suffix(".json"): times, path: network})
            checkpoint.remove()

        self._ranks.in_turn(write)

    def _embedded(
        self, cell: Cell, i: int, candidate: PretrainingCandidate, positions: np.ndarray
    ) -> _Trained:
        """A candidate with embeddings of the target's rows at `positions`."""
        path = self._model_path(cell, i)
        network = load_network(path)
        seconds = read_record(path.with_suffix(".json"), _AGAIN, required=False)["seconds"]
        about = {**network.about, "seconds": seconds}
        rows = self._embed(path, positions) if about["finite"] else np.zeros((len(positions), 1), np.float32)
        return _Trained(path, candidate, about, dict(zip(positions.tolist(), rows, strict=True)))

    def _embed(self, path: Path, positions: np.ndarray) -> np.ndarray:
        network = load_network(path)
        network.model.to(self._where.device)
        return embed_rows(network.model, network.mapped(self._problem.target_rows(positions)), self._where)

    def _probe(self, cell: Cell, draw: Draw, trained: Sequence[_Trained]) -> Finished:
        """Fit on the draw, choose on validation, score the chosen network once on the test rows."""
        problem = self._problem.problem
        labels = problem.target.labels
        probes, accuracies = [], []
        for one in trained:
            x = np.stack([one.embeddings[p] for p in draw.train.tolist()])
            probes.append(Probe(x, labels[draw.train], self._arms.settings.probe))
            val = np.stack([one.embeddings[p] for p in draw.val.tolist()])
            accuracies.append(probes[-1].accuracy(val, labels[draw.val]) if one.about["finite"] else 0.0)
        finite = [one.about["finite"] for one in trained]
        best = best_validated([a if ok else -1.0 for a, ok in zip(accuracies, finite, strict=True)])
        if not finite[best]:
            raise WorkError(
                f"{cell.key}: no candidate's loss stayed finite; lower lr, or set clip in the grid"
            )
        answers = Answers(len(problem.test), len(problem.classes))
        embedded = self._embed(trained[best].path, problem.test)
        answers.take(slice(None), probes[best].logits(embedded, len(problem.classes)))
        result = cell_result(
            self._run,
            problem,
            cell,
            answers,
            candidates=[
                {
                    "lr": one.candidate.lr,
                    "weight_decay": 0.0,
                    "batch_size": self._arms.grid.batch_size,
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
            seconds=sum(one.about["seconds"] for one in trained),
            label_budget=draw.label_budget,
            history=[one.about["history"] for one in trained],
            encoders={s.label: _encoder(s) for s in self._arms.streams(cell)},
            objective=self._arms.settings.objective,
            trunk="transformer",
            normalize=self._arms.settings.normalize,
            texts="all",
            grid=self._arms.grid.name,
        )
        self._output.say(f"{cell.key}: val {result.val_acc:.1f}, test {result.test_acc:.1f}")
        return Finished(result, answers, trained[best].path.read_bytes())

    def _model_path(self, cell: Cell, i: int) -> Path:
        return self._run.path / "models" / f"{self._arms.name(cell)}-c{i}.safetensors"


def _encoder(stream: Sequences) -> str:
    name, variant = stream.features.encoder_name, stream.features.variant
    return f"{name}@{variant}" if variant else name
