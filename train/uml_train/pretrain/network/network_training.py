"""One network's training, from any step on: losses, curriculum, checkpoints, several processes.

Shapes: B sequences of a batch, T their tokens, D features of a token, C classes.

A step's loss is, with one batch of every modality that takes part (processes share its sequences out),

    supervised · cross-entropy of the target's classes
      + own · next-token error of the target + Σ λ · next-token error of an auxiliary.

Batches and dropout are functions of (seed, step) alone, so that a checkpoint holds weights and moments only,
and a resumed training is, on a CPU, the same bit for bit.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from uml_cache import InputError, Progress
from uml_train.data.batches import BatchOrder
from uml_train.pretrain.network.dropout import Dropout
from uml_train.pretrain.network.sequences import Sequences, pieces
from uml_train.pretrain.network.shared_transformer import SharedTransformer
from uml_train.record.checkpoint import Checkpoint
from uml_train.runs.ranks import Ranks
from uml_train.runs.workers import chosen_device
from uml_train.settings import TrainSettings

_CHUNK = 64  # steps whose batches are drawn together
_POINTS = 20  # entries of a training's history


@dataclass(frozen=True, kw_only=True)
class Timetable:
    """Which modality takes part in which step.

    `target` steps use the target; the first `first` of all steps are one side's alone: the target's, or with
    `auxiliary_first` the auxiliaries', who then come before the target's budget.
    """

    target: int
    first: int = 0
    auxiliary_first: bool = False

    @property
    def steps(self) -> int:
        """How many steps there are in all."""
        return self.target + (self.first if self.auxiliary_first else 0)

    def batch_of(self, modality: int, step: int) -> int | None:
        """The how many-th batch of its own a modality (0: the target) takes in a step; None: it does not."""
        waits = self.first if (modality == 0) == self.auxiliary_first else 0
        return step - waits if step >= waits else None


@dataclass(frozen=True, eq=False, kw_only=True)
class PretrainingTask:
    """What one network is trained on.

    Args:
        streams: the target's sequences first.
        labels: (n,) int64 classes of the target's rows, for the supervised part.
        supervised, own: weights of the target's two losses, at least 0.
        weight: λ of every auxiliary, at least 0.
        lr, batch_size, clip: of Adam (> 0), of every modality's batch, of the gradient's length (0: not
            clipped).
        seed: of batches and dropout.
    """

    streams: Sequence[Sequences]
    timetable: Timetable
    lr: float
    batch_size: int
    seed: int
    labels: np.ndarray | None = None
    supervised: float = 0.0
    own: float = 1.0
    weight: float = 1.0
    clip: float = 0.0


@dataclass(frozen=True, eq=False)
class Where:
    """Where a network trains: device, precision of its products on CUDA, and the processes that share it."""

    device: str = "cpu"
    precision: str = "float32"
    ranks: Ranks = field(default_factory=Ranks)

    @classmethod
    def of(cls, settings: TrainSettings, ranks: Ranks) -> Where:
        """Where a run's networks train: of several processes on one machine each takes a GPU of its own."""
        device = chosen_device(settings.device)
        if device == "cuda":
            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        return cls(device, settings.precision, ranks)

    @contextlib.contextmanager
    def products(self) -> Iterator[None]:
        """Products in the chosen precision; weights and losses stay float32."""
        mixed = self.device.startswith("cuda") and self.precision != "float32"
        with torch.autocast("cuda", torch.bfloat16) if mixed else contextlib.nullcontext():
            yield


@dataclass(frozen=True, eq=False)
class Outcome:
    """A finished training: losses by modality now and then, its seconds, whether the loss stayed finite."""

    history: list[dict[str, float]]
    seconds: float
    finite: bool


class NetworkTrainer:
    """Trains one network; `checkpoint` is a file to go on from and to write every so many minutes.

    Args:
        every: so many steps after which `snapshot` is told of the step; 0: never.
    """

    def __init__(
        self,
        model: SharedTransformer,
        task: PretrainingTask,
        where: Where,
        checkpoint: Checkpoint | None = None,
        minutes: float = 10.0,
        *,
        every: int = 0,
        snapshot: Callable[[int], None] = lambda step: None,
    ) -> None:
        smallest = min(task.batch_size, *(len(stream.rows) for stream in task.streams))
        if smallest < where.ranks.world:
            raise InputError(
                f"{where.ranks.world} processes cannot share a batch of {smallest} samples; start fewer"
            )
        self.model = model.to(where.device)
        self._task, self._where = task, where
        self._optimizer = torch.optim.Adam(model.parameters(), lr=task.lr, foreach=True)
        self._order = BatchOrder()
        self._checkpoint, self._minutes = checkpoint, minutes
        self._every, self._snapshot = every, snapshot
        self._history: list[dict[str, float]] = []
        self._step, self._seconds = 0, 0.0

    def fit(self, progress: Progress) -> Outcome:
        """Train to the end."""
        self._resume()
        progress.update(self._step)
        total, where = self._task.timetable.steps, self._where.ranks
        began, saved, before = time.monotonic(), time.monotonic(), self._seconds
        finite = True
        self.model.train()
        while self._step < total and finite:
            losses = self._one(self._step)
            finite = all(math.isfinite(value) for value in losses.values())
            self._step += 1
            if self._step % max(1, total // _POINTS) == 0 or self._step == total or not finite:
                self._history.append({"step": self._step - 1, **(losses if finite else {})})
            progress.update(1)
            if self._every and self._step % self._every == 0 and where.first:
                self._snapshot(self._step)
            if self._checkpoint and time.monotonic() - saved >= 60 * self._minutes and self._step < total:
                self._seconds = before + time.monotonic() - began
                self._save()
                saved = time.monotonic()
        self.model.eval()
        return Outcome(self._history, before + time.monotonic() - began, finite)

    def _one(self, step: int) -> dict[str, float]:
        """One update; the losses of the modalities that took part, by name."""
        task, where = self._task, self._where
        losses: dict[str, Tensor] = {}
        with self._randomness(step) as drop:
            for i, stream in enumerate(task.streams):
                at = task.timetable.batch_of(i, step)
                if at is not None and (i or task.own or task.supervised):
                    self._add(losses, i, stream, self._rows(i, stream, at), drop)
            loss = torch.stack(list(losses.values())).sum()
            self._optimizer.zero_grad()
            loss.backward()
        if where.ranks.world > 1:
            self._share()
        if task.clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), task.clip)
        self._optimizer.step()
        return {f"loss.{name}": value for name, value in self._sums(losses).items()}

    def _add(
        self, losses: dict[str, Tensor], i: int, stream: Sequences, rows: np.ndarray, drop: Dropout
    ) -> None:
        """One modality's losses, each divided by what it counts in all processes together."""
        task, where, model = self._task, self._where, self.model
        lengths = stream.lengths[rows]
        targets = int(np.maximum(lengths - 1, 1).sum())
        # Sorted by length as batches are, and then dealt out, so that all processes have like work.
        mine = np.array(where.ranks.part(rows[np.argsort(lengths, kind="stable")].tolist()))
        batch = stream.batch(mine, where.device)
        with where.products():
            hidden = model(batch, stream.label, drop)
            weight = task.own if i == 0 else task.weight
            if weight:
                error = model.prediction_loss(hidden, batch, stream.label)
                losses[stream.label] = weight * error / targets
            if i == 0 and task.supervised and task.labels is not None:
                logits = model.classify(batch.layout.mean(hidden.float()))
                labels = torch.from_numpy(task.labels[mine]).to(where.device)
                wrong = functional.cross_entropy(logits.float(), labels, reduction="sum")
                losses["classes"] = task.supervised * wrong / len(rows)

    def _rows(self, i: int, stream: Sequences, at: int) -> np.ndarray:
        """Positions of the at-th batch of a modality."""
        rows = len(stream.rows)
        chunk = self._order.chunk(
            seed=self._task.seed,
            name=stream.label,
            rows=rows,
            batch=min(self._task.batch_size, rows),
            steps=_CHUNK,
            chunk=at // _CHUNK,
        )
        return chunk[at % _CHUNK].numpy()

    @contextlib.contextmanager
    def _randomness(self, step: int) -> Iterator[Dropout]:
        """Dropout that depends on (seed, step, process) alone."""
        p, key = self.model.config.dropout, (self._task.seed, step, self._where.ranks.rank)
        seed = np.random.SeedSequence(key)
        if self._where.device == "cpu":
            yield Dropout(p, np.random.Generator(np.random.SFC64(seed)))
            return
        with torch.random.fork_rng([self._where.device]):  # flash attention draws from the device's own
            torch.manual_seed(int(seed.generate_state(1, np.uint64)[0] >> 1))
            yield Dropout(p)

    def _share(self) -> None:
        """Sum the gradients of all processes: together their batches are the step's batch."""
        import torch.distributed as dist

        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in gradients])
        dist.all_reduce(flat)
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def _sums(self, losses: dict[str, Tensor]) -> dict[str, float]:
        values = torch.stack([value.detach() for value in losses.values()])
        if self._where.ranks.world > 1:
            import torch.distributed as dist

            dist.all_reduce(values)
        return dict(zip(losses, values.tolist(), strict=True))

    def _resume(self) -> None:
        state = None if self._checkpoint is None else self._checkpoint.read()
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._history, self._step, self._seconds = state["history"], state["step"], state["seconds"]

    def _save(self) -> None:
        if not self._where.ranks.first:
            return
        assert self._checkpoint is not None
        self._checkpoint.write(
            {
                "model": self.model.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "history": self._history,
                "step": self._step,
                "seconds": self._seconds,
            }
        )


def embed_rows(model: SharedTransformer, source: Sequences, where: Where) -> np.ndarray:
    """(n, W) float32: the pooled representation of every row, zeros for one without tokens."""
    result = np.zeros((len(source.rows), model.config.width), dtype=np.float32)
    model.eval()
    for part in pieces(source.lengths):
        rows = source.rows[part]
        order = part[np.argsort(source.features.tokens.lengths[rows], kind="stable")]
        with where.products():
            embedded = model.embed(source.batch(order, where.device), source.label)
        result[order] = embedded.cpu().numpy()
    return result
