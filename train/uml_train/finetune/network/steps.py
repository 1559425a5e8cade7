"""The training of one model's network: backbone, projection and shared head, unpaired data beside it.

Shapes: n rows, S modalities, the target first.

The loss of a step is CE(target) + alpha · Σ CE(auxiliary), each a mean over its batch (paper 3.2, Alg. 2).
The weights begin as the same model's over cached features do, and the batches are the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from uml_train.data.rows import Held, Rows, as_rows
from uml_train.finetune.network.averages import Average
from uml_train.finetune.network.backbones import State
from uml_train.finetune.network.progress import Progress
from uml_train.finetune.network.whole_network import TunedNetwork, TuningTask, moved
from uml_train.finetune.order import Order
from uml_train.finetune.samples import torch_seed
from uml_train.heads.models import Fitted
from uml_train.heads.weights import HeadWeights
from uml_train.protocols.grid import Schedule
from uml_train.record.checkpoint import Checkpoint
from uml_train.record.scores import Answers
from uml_train.runs.ranks import Ranks


class Tuner:
    """Trains one task's model; between evaluations nothing is decided, so a run can go on from any of them.

    Args:
        ranks: processes that share every batch; each one's part of the gradient is summed.
        precision: `float32`, or `bfloat16` for autocast.
        ema: decay of a running average of the weights, which is evaluated and kept in their place.
        batch_norm: `until-evaluated` trains on in `eval` mode from the first evaluation on.
    """

    def __init__(
        self,
        task: TuningTask,
        schedule: Schedule,
        *,
        device: str = "cpu",
        precision: str = "float32",
        ranks: Ranks | None = None,
        ema: float | None = None,
        batch_norm: str = "batches",
    ) -> None:
        self.task, self.schedule = task, schedule
        self.model = model = task.model
        self.device = torch.device(device)
        self.precision = precision
        self.ranks = ranks or Ranks()
        self.order = Order(task, schedule, self.ranks)
        self.network = TunedNetwork(model, task.streams).to(self.device)
        self._ema = ema
        self._stays = batch_norm == "until-evaluated"
        self._average: Average | None = None
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
        progress = self._begun() if saved is None else self._resumed(saved)
        if not progress.ended:
            for point in self._train(progress.steps, progress):
                if checkpoint is not None:
                    self.ranks.in_turn(partial(checkpoint.write, self._saved(progress)))
                on_evaluation(int(point["step"]), point["val_acc"])
        self.network.load_state_dict(progress.best_state)
        fitted = Fitted(
            made=self.network.weights.clone(),
            val_acc=progress.best,
            best_step=progress.best_step,
            steps=progress.steps,
            history=progress.history,
        )
        return detached(fitted), progress.best_state

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Classes (n,) int32 that the network gives manifest rows of the target."""
        return self.test(rows).predictions

    def test(self, rows: np.ndarray) -> Answers:
        """What the network says of `rows` (n,) int64, manifest rows of the target."""
        loader = self.task.streams[0].loader
        assert loader is not None
        inputs = loader.batches(self.order.evaluation(rows))
        found = torch.zeros(len(rows), self.model.classes)
        answers = Answers(len(rows), self.model.classes)
        answers.take(slice(None), self._gathered(found, inputs, lambda logits: logits.float()))
        return answers

    def _begun(self) -> Progress:
        for stream in self.task.streams:
            if stream.backbone is not None:
                stream.backbone.reset(self.model.seed)
        if self._ema is not None:
            self._average = Average(self.network, self._ema)
        return Progress(best_state=self._state())

    def _resumed(self, saved: dict[str, Any]) -> Progress:
        self.network.load_state_dict(saved["network"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self._ema is not None:
            self._average = Average(self.network, self._ema)
            self._average.load(saved["average"])
        return Progress(**saved["progress"])

    def _saved(self, progress: Progress) -> dict[str, Any]:
        average = {} if self._average is None else {"average": self._average.values}
        return {
            "network": self._state(),
            "optimizer": self.optimizer.state_dict(),
            "progress": vars(progress),
            **average,
        }

    def _train(self, first: int, progress: Progress) -> Iterator[dict[str, float]]:
        """Steps from `first` on; yields after every evaluation, with the state as it is then."""
        loader = self.task.streams[0].loader
        assert loader is not None
        inputs = loader.batches(self.order.target(first))
        tuned = [
            None if s.loader is None or i == 0 else s.loader.batches(self.order.auxiliary(i, first))
            for i, s in enumerate(self.task.streams)
        ]
        self._set_frozen(self.task.unfreeze_at is None or first < self.task.unfreeze_at, evaluated=first > 0)
        seen = torch.zeros(len(self.task.streams), 3, device=self.device)
        for step in range(first, self.schedule.steps):
            if step == self.task.unfreeze_at and step > first:
                self._set_frozen(False, evaluated=True)
            seen += self._step(step, [inputs, *tuned[1:]])
            if self._average is not None:
                self._average.update(step)
            if not self.schedule.evaluates(step):
                continue
            with self._shown():
                point = {"step": step + 1, "val_acc": self._validate(inputs), **self._remarks(seen)}
                progress.add(step + 1, point, self._state, self.schedule)
            if self._stays:
                self.network.eval()
            seen.zero_()
            yield point
            if progress.ended:
                return

    def _kept(self, features: Tensor | Rows) -> Rows:
        rows = as_rows(features)
        return rows.to(self.device) if isinstance(rows, Held) else rows

    def _step(self, step: int, sources: Sequence[Iterator[Any] | None]) -> Tensor:
        batches = []
        drawn = self.order.step(step)
        for i, (source, samples, own) in enumerate(zip(sources, self.model.streams, drawn, strict=True)):
            if own is None:
                continue  # a step without auxiliaries
            features = self.features[i]
            if source is not None:
                inputs: Any = moved(next(source), self.device)
            else:
                assert features is not None
                index = own.to(self.device) if isinstance(features, Held) else own
                inputs = features.take(index).values.to(self.device)
            weight = (1.0 if i == 0 else self.model.alpha) / self.order.plan.batch[i]
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

    def _predict(self, rows: np.ndarray, inputs: Iterator[Any]) -> np.ndarray:
        found = torch.zeros(len(rows), dtype=torch.int32)
        return self._gathered(found, inputs, lambda logits: logits.argmax(1).int()).numpy()

    def _gathered(self, found: Tensor, inputs: Iterator[Any], of: Callable[[Tensor], Tensor]) -> Tensor:
        """`found` (n rows, …) of zeros, filled with what is made of the logits of all processes' rows."""
        modes = {module: module.training for module in self.network.modules()}
        self.network.eval()
        count = len(self.order.evaluation(np.arange(len(found))))
        with torch.no_grad(), self._autocast():
            parts = [of(self.network.logits(0, moved(next(inputs), self.device))).cpu() for _ in range(count)]
        for module, training in modes.items():
            module.training = training
        if parts:
            found[self.ranks.rank :: self.ranks.world] = torch.cat(parts)
        return self.ranks.summed(found)

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

    def _set_frozen(self, frozen: bool, *, evaluated: bool) -> None:
        for stream in self.task.streams:
            if stream.backbone is not None:
                stream.backbone.set_frozen(frozen)
        if self._stays and evaluated:
            self.network.eval()
        self._parallel = self.ranks.parallel(self.network, partly=self.order.plan.period > 1)

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

    def _shown(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext() if self._average is None else self._average.shown()

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=getattr(torch, self.precision))

    def _state(self) -> State:
        return {k: v.detach().cpu().clone() for k, v in self.network.state_dict().items()}


def detached(fitted: Fitted) -> Fitted:
    """The same with weights that are plain tensors on the CPU."""
    w = fitted.weights
    projections = [None if p is None else p.detach().cpu() for p in w.projections]
    trunk = None if w.trunk is None else (w.trunk[0].detach().cpu(), w.trunk[1].detach().cpu())
    fitted.made = HeadWeights(projections, w.head.detach().cpu(), w.scales.detach().cpu(), trunk)
    return fitted
