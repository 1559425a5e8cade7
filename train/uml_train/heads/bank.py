"""`HeadBank`: many small models that share their weights between modalities, trained in one go.

Shapes: B rows in a batch, D features of a modality, W shared width, C classes, P parameters of one model.

One model (paper 3.2, Alg. 2) is a bias-free projection W × D for every modality that has one, a head C × W
that all modalities share, and one logit scale per modality. A step takes one batch from every modality, sums
the cross-entropies (auxiliaries weighted by alpha) and makes one AdamW update; validation selects the step.

The sum is that of the paper's Alg. 2; its text speaks of alternating. The projection is the reference code's:
the paper has one shared head, and does not say what makes encoders of different width fit it.

On a CPU the bank runs its models one after the other rather than as one batched product: all of a model
(weights, gradient, both moments, its few rows) then stays in the processor's cache for thousands of steps,
where a batched step over 72 models streams some 200 MB through memory. Gradients are written out by hand,
because autograd's bookkeeping costs several times the arithmetic at these sizes. As every model is trained
by itself, what else is in the bank cannot touch its bits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch

from uml_train.data.batches import BatchOrder
from uml_train.heads.models import Fitted, HeadModel
from uml_train.heads.one_model import Trainer
from uml_train.heads.sequence_model import SequenceTrainer
from uml_train.heads.stacked import fit_stacked
from uml_train.protocols.grid import Schedule


class HeadBank:
    """Trains models independently of each other.

    On a CPU each model equals the same model trained alone, bit for bit. Stacked (the default on CUDA) models
    of one shape and batch size run as one batched product, and a model equals itself alone within rounding.
    Those with the transformer trunk train one after the other on either device.

    Args:
        models: any mix of shots, seeds, methods and hyperparameters.
        schedule: of all models, or one for each.
        device: where they train.
        stacked: whether models of one shape run together; by default on CUDA only.
        precision: of the stacked products: `float32`, `bfloat16` or `float16`; weights, moments and losses
            are float32 always.
        memory: bytes that a stack may take; by default most of what is free on a CUDA device, else 1 GiB. A
            larger bank is trained in several stacks.
    """

    def __init__(
        self,
        models: Sequence[HeadModel],
        schedule: Schedule | Sequence[Schedule],
        *,
        device: str = "cpu",
        stacked: bool | None = None,
        precision: str = "float32",
        memory: int | None = None,
    ) -> None:
        self.models = list(models)
        self.schedules = [schedule] * len(self.models) if isinstance(schedule, Schedule) else list(schedule)
        if len(self.schedules) != len(self.models):
            raise ValueError(f"{len(self.schedules)} schedules for {len(self.models)} models")
        self.device = device
        self.stacked = device != "cpu" if stacked is None else stacked
        if device != "cpu" and not self.stacked:
            raise ValueError(f"one model at a time is for the CPU; on {device} the bank is stacked")
        self.precision = precision
        self.memory = memory

    def fit(self, on_done: Callable[[int, Fitted], None] | None = None) -> list[Fitted]:
        """Train every model; `on_done(index, fitted)` is called as each one finishes."""
        found: dict[int, Fitted] = {}
        for index, fitted in self.finished():
            found[index] = fitted
            if on_done is not None:
                on_done(index, fitted)
        return [found[index] for index in range(len(self.models))]

    def finished(self) -> Iterator[tuple[int, Fitted]]:
        """Train every model and give each with its index as it finishes.

        Runs on one thread on a CPU: the products are far too small to be worth two.
        """
        orders = BatchOrder()
        together = [i for i, model in enumerate(self.models) if self.stacked and not model.layers]
        stacked = fit_stacked(
            [self.models[i] for i in together],
            [self.schedules[i] for i in together],
            orders,
            device=torch.device(self.device),
            precision=self.precision,
            memory=self.memory,
        )
        for at, fitted in stacked:
            yield together[at], fitted
        for index in sorted(set(range(len(self.models))) - set(together)):
            model, schedule = self.models[index], self.schedules[index]
            with one_thread():
                if model.layers:
                    fitted = SequenceTrainer(
                        model, schedule, orders, device=torch.device(self.device), precision=self.precision
                    ).fit()
                else:
                    fitted = Trainer(model, schedule, orders).fit()
            yield index, fitted


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread; a sum is then made in the same order in every process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
