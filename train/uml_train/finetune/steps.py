"""The network of one model and its training: backbone, projection and shared head, unpaired data beside it.

Shapes: B target samples of a step, b samples of an auxiliary, D features of a modality, W shared width,
C classes, S modalities, the target first.

The loss of a step is CE(target) + alpha · Σ CE(auxiliary), each a mean over its batch (paper 4.2). The
weights begin as the same model's over cached features do, and the batches are the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from uml_train.bank import Fitted, HeadModel
from uml_train.batches import BatchOrder, BatchPlan
from uml_train.finetune.backbones import Backbone, State
from uml_train.finetune.checkpoints import Checkpoint
from uml_train.finetune.data import Key, Loader, torch_seed
from uml_train.grid import Schedule
from uml_train.heads import HeadWeights
from uml_train.ranks import Ranks
from uml_train.rows import Held, Rows, as_rows


@dataclass(eq=False, kw_only=True)
class Stream:
    """Where one modality's inputs come from.

    `rows` (n,) are manifest rows of the model's samples, for a modality with a network of its own
    (`backbone`, `loader`); a modality of cached features has neither.
    """

    backbone: Backbone | None = None
    loader: Loader | None = None
    rows: np.ndarray | None = None
    lr: float | None = None


@dataclass(eq=False, kw_only=True)
class Task:
    """One model to be trained: the head model (its target's features are yet to be made) and its inputs.

    `validation` (v,) are manifest rows of the target; `unfreeze_at` is the step from which nothing is frozen,
    None for never.
    """

    model: HeadModel
    streams: list[Stream]
    validation: np.ndarray
    unfreeze_at: int | None = None


class Network(nn.Module):
    """Backbones and head as one module. Its `forward` is a step's loss, so that it can be run in parallel."""

    def __init__(self, model: HeadModel, backbones: Sequence[Backbone | None]) -> None:
        super().__init__()
        start = model.start()
        self.encoders = [None if b is None else b.encoder for b in backbones]
        self.networks = nn.ModuleDict({str(i): b.network for i, b in enumerate(backbones) if b is not None})
        self.projections = nn.ParameterDict(
            {str(i): nn.Parameter(p) for i, p in enumerate(start.projections) if p is not None}
        )
        self.head = nn.Parameter(start.head)
        self.scales = nn.Parameter(start.scales, requires_grad=model.candidate.learnable_scale)
        self.trunk = None if start.trunk is None else nn.ParameterList(start.trunk)

    def logits(self, stream: int, inputs: Any) -> Tensor:
        """Logits (B, C) float32 of one modality: samples as its network takes them, or cached features."""
        encoder = self.encoders[stream]
        features = inputs if encoder is None else encoder.features(inputs)
        return self.weights.logits(features, stream).float()

    @property
    def weights(self) -> HeadWeights:
        """Projections, head and scales as they are."""
        projections: list[Tensor | None] = [self.projections.get(str(i)) for i in range(len(self.encoders))]
        trunk = None if self.trunk is None else (self.trunk[0], self.trunk[1])
        return HeadWeights(projections, self.head, self.scales, trunk)

    def forward(self, batches: Sequence[tuple[int, Any, Tensor, float]]) -> tuple[Tensor, Tensor]:
        """The loss, and per modality (S, 3) the sum of losses, how many were right, how many there were.

        Args:
            batches: (modality, inputs, labels, what each row's loss is multiplied by).
        """
        total = torch.zeros((), device=self.head.device)
        seen = torch.zeros(len(self.encoders), 3, device=self.head.device)
        for stream, inputs, labels, weight in batches:
            logits = self.logits(stream, inputs)
            loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
            total = total + weight * loss
            right = (logits.detach().argmax(1) == labels).sum()
            seen[stream] += torch.stack([loss.detach(), right, torch.full_like(right, len(labels))])
        return total, seen


class Tuner:
    """Trains one task's model; between evaluations nothing is decided, so a run can go on from any of them.

    Args:
        ranks: processes that share every batch; each one's part of the gradient is summed.
        precision: `float32`, or `bfloat16` for autocast.
    """

    def __init__(
        self,
        task: Task,
        schedule: Schedule,
        *,
        device: str = "cpu",
        precision: str = "float32",
        ranks: Ranks | None = None,
    ) -> None:
        self.task, self.schedule = task, schedule
        self.model = model = task.model
        self.device = torch.device(device)
        self.precision = precision
        self.ranks = ranks or Ranks()
        self.plan = BatchPlan.of(model)
        self.orders = BatchOrder()
        self.network = Network(model, [s.backbone for s in task.streams]).to(self.device)
        self.optimizer = torch.optim.AdamW(
            self._groups(), lr=model.candidate.lr, weight_decay=model.candidate.weight_decay
        )
        self.features = [
            None if stream.backbone is not None else self._kept(samples.features)
            for stream, samples in zip(task.streams, model.streams, strict=True)
        ]

    def fit(
        self,
        checkpoint: Checkpoint | None = None,
        on_evaluation: Callable[[int, float], object] = lambda step, accuracy: None,
    ) -> tuple[Fitted, State]:
        """Train until the schedule or the patience ends; the best validated weights, and the whole state.

        Args:
            checkpoint: where the training goes on from, and leaves its state at every evaluation.
            on_evaluation: told of every evaluation.
        """
        saved = None if checkpoint is None else checkpoint.read()
        if saved is None:
            for stream in self.task.streams:
                if stream.backbone is not None:
                    stream.backbone.reset(self.model.seed)
            progress = _Progress(best_state=self._state())
        else:
            self.network.load_state_dict(saved["network"])
            self.optimizer.load_state_dict(saved["optimizer"])
            progress = _Progress(**saved["progress"])
        first = progress.steps
        if not progress.ended:
            for point in self._train(first, progress):
                if checkpoint is not None:
                    content = {
                        "network": self._state(),
                        "optimizer": self.optimizer.state_dict(),
                        "progress": vars(progress),
                    }
                    self.ranks.in_turn(lambda content=content: checkpoint.write(content))  # type: ignore[misc]
                on_evaluation(int(point["step"]), point["val_acc"])
        self.network.load_state_dict(progress.best_state)
        fitted = Fitted(
            weights=self.network.weights.clone(),
            val_acc=progress.best,
            best_step=progress.best_step,
            steps=progress.steps,
            history=progress.history,
        )
        return detached(fitted), progress.best_state

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Classes (n,) int32 that the network gives manifest rows of the target."""
        loader = self.task.streams[0].loader
        assert loader is not None
        inputs = loader.batches(self._evaluation(rows))
        return self._predict(rows, inputs)

    def _train(self, first: int, progress: _Progress) -> Iterator[dict[str, float]]:
        """Steps from `first` on; yields after every evaluation, with the state as it is then."""
        loader = self.task.streams[0].loader
        assert loader is not None
        inputs = loader.batches(self._planned(first))
        tuned = [
            None if s.loader is None or i == 0 else s.loader.batches(self._planned_auxiliary(i, first))
            for i, s in enumerate(self.task.streams)
        ]
        self._set_frozen(self.task.unfreeze_at is None or first < self.task.unfreeze_at)
        seen = torch.zeros(len(self.task.streams), 3, device=self.device)
        for step in range(first, self.schedule.steps):
            if step == self.task.unfreeze_at and step > first:
                self._set_frozen(False)
            seen += self._step(step, [inputs, *tuned[1:]])
            if not self.schedule.evaluates(step):
                continue
            point = {"step": step + 1, "val_acc": self._validate(inputs), **self._remarks(seen)}
            seen.zero_()
            progress.add(step + 1, point, self._state, self.schedule)
            yield point
            if progress.ended:
                return

    def _kept(self, features: Tensor | Rows) -> Rows:
        rows = as_rows(features)
        return rows.to(self.device) if isinstance(rows, Held) else rows

    def _step(self, step: int, sources: Sequence[Iterator[Any] | None]) -> Tensor:
        drawn = self.orders.draw(self.model, self.plan, step, 1)
        batches = []
        for i, (source, samples, rows) in enumerate(zip(sources, self.model.streams, drawn, strict=True)):
            if not len(rows):
                continue  # a step without auxiliaries
            own = rows[0][self.ranks.rank :: self.ranks.world]
            features = self.features[i]
            if source is not None:
                inputs: Any = moved(next(source), self.device)
            else:
                assert features is not None
                index = own.to(self.device) if isinstance(features, Held) else own
                inputs = features.take(index).values.to(self.device)
            weight = (1.0 if i == 0 else self.model.alpha) / self.plan.batch[i]
            batches.append((i, inputs, samples.labels[own].to(self.device), weight * self.ranks.world))
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.lr(group["base"], step)
        # Dropout draws from torch's own generator: seeded by the step, it does not matter what came before.
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(torch_seed("step", self.model.seed, step, self.ranks.rank))
            with self._autocast():
                loss, seen = self._parallel(batches)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
        self.optimizer.step()
        return seen

    def _planned(self, first: int) -> Iterator[list[Key]]:
        """Every batch from a step on in the order in which it is needed, evaluations included."""
        rows = self.task.streams[0].rows
        assert rows is not None
        for step in range(first, self.schedule.steps):
            (drawn,) = self.orders.draw(self.model, self.plan, step, 1)[0]
            own = drawn[self.ranks.rank :: self.ranks.world]
            yield [(int(rows[r]), step, self.model.seed) for r in own]
            if self.schedule.evaluates(step):
                yield from self._evaluation(self.task.validation)

    def _planned_auxiliary(self, stream: int, first: int) -> Iterator[list[Key]]:
        """Every batch of an auxiliary with a network of its own."""
        rows = self.task.streams[stream].rows
        assert rows is not None
        for step in range(first, self.schedule.steps):
            for drawn in self.orders.draw(self.model, self.plan, step, 1)[stream]:
                own = drawn[self.ranks.rank :: self.ranks.world]
                yield [(int(rows[r]), step, self.model.seed) for r in own]

    def _evaluation(self, rows: np.ndarray) -> list[list[Key]]:
        own = rows[self.ranks.rank :: self.ranks.world]
        size = max(self.model.candidate.batch_size, 1)
        return Loader.plain(own[at : at + size] for at in range(0, len(own), size))

    def _predict(self, rows: np.ndarray, inputs: Iterator[Any]) -> np.ndarray:
        modes = {module: module.training for module in self.network.modules()}
        self.network.eval()
        count = len(self._evaluation(rows))
        with torch.no_grad(), self._autocast():
            parts = [
                self.network.logits(0, moved(next(inputs), self.device)).argmax(1).cpu() for _ in range(count)
            ]
        for module, training in modes.items():
            module.training = training
        found = torch.zeros(len(rows), dtype=torch.int32)
        if parts:
            found[self.ranks.rank :: self.ranks.world] = torch.cat(parts).int()
        return self.ranks.summed(found).numpy()

    def _validate(self, inputs: Iterator[Any]) -> float:
        labels = self.model.validation[1].numpy()
        return 100.0 * float((self._predict(self.task.validation, inputs) == labels).sum()) / len(labels)

    def _remarks(self, seen: Tensor) -> dict[str, float]:
        """Per modality the mean loss and the accuracy on the training batches since the last evaluation."""
        remarks = {}
        sums = self.ranks.summed(seen.cpu()).tolist()
        for samples, (loss, right, count) in zip(self.model.streams, sums, strict=True):
            if count:
                remarks[f"loss.{samples.name}"] = loss / count
                remarks[f"acc.{samples.name}"] = 100.0 * right / count
        return remarks

    def _set_frozen(self, frozen: bool) -> None:
        for stream in self.task.streams:
            if stream.backbone is not None:
                stream.backbone.set_frozen(frozen)
        self._parallel = self.ranks.parallel(self.network, partly=self.plan.period > 1)

    def _groups(self) -> list[dict[str, Any]]:
        """Parameters by learning rate: the auxiliary's network may have its own."""
        rates: dict[float, list[nn.Parameter]] = {}
        own = {
            id(p): stream.lr
            for stream in self.task.streams
            if stream.backbone is not None and stream.lr is not None
            for p in stream.backbone.network.parameters()
        }
        base = self.model.candidate.lr
        for parameter in self.network.parameters():
            rates.setdefault(own.get(id(parameter), base) or base, []).append(parameter)
        return [{"params": parameters, "base": rate, "lr": rate} for rate, parameters in rates.items()]

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=getattr(torch, self.precision))

    def _state(self) -> State:
        return {k: v.detach().cpu().clone() for k, v in self.network.state_dict().items()}


@dataclass(eq=False, kw_only=True)
class _Progress:
    """How far a training is, and its best evaluation."""

    best_state: State
    best: float = -1.0
    best_step: int = 0
    waited: int = 0
    steps: int = 0
    ended: bool = False
    history: list[dict[str, float]] = field(default_factory=list)

    def add(
        self, steps: int, point: dict[str, float], state: Callable[[], State], schedule: Schedule
    ) -> None:
        self.steps = steps
        self.history.append(point)
        if point["val_acc"] > self.best:
            self.best, self.best_step, self.waited = point["val_acc"], steps, 0
            self.best_state = state()
        else:
            self.waited += 1
        self.ended = self.waited >= schedule.patience or steps >= schedule.steps


def moved(inputs: Any, device: torch.device) -> Any:
    """Tensors, and tuples and lists of them, on a device."""
    if isinstance(inputs, Tensor):
        return inputs.to(device, non_blocking=True)
    return type(inputs)(moved(part, device) for part in inputs)


def detached(fitted: Fitted) -> Fitted:
    """The same with weights that are plain tensors on the CPU."""
    w = fitted.weights
    projections = [None if p is None else p.detach().cpu() for p in w.projections]
    trunk = None if w.trunk is None else (w.trunk[0].detach().cpu(), w.trunk[1].detach().cpu())
    fitted.weights = HeadWeights(projections, w.head.detach().cpu(), w.scales.detach().cpu(), trunk)
    return fitted
