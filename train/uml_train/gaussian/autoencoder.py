"""The autoencoder with a shared middle (paper E.14), its gradient written out.

Shapes: B samples of a batch, O = 50 observed dimensions, I = 128, H hidden units, Z = 10.

    x (B, O) → linear (I) → shared: linear (H), ReLU, linear (Z)
             → shared: linear (H), ReLU, linear (I) → linear (O)

Between a modality's linear layer and the shared one beside it there is no nonlinearity, so that their product
(O, H) is formed once a step and applied to the batch: the same function and gradient at a third of the
arithmetic (at H = 10 a tenth). A network of this size fits a core's cache; it trains alone and whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from uml_train.data.batches import batch_rows
from uml_train.heads.weights import seeded

INNER, LATENT = 128, 10
_BETAS, _EPSILON = (0.9, 0.999), 1e-8
_CHUNK = 256  # steps whose batches are drawn together


@dataclass(frozen=True, kw_only=True)
class Training:
    """Adam at a constant rate `lr` > 0; every modality gives a batch of `batch_size` in each step.

    The paper's E.14 gives neither these values nor the hidden width; the axis of its figure ends soon after
    step 400.
    """

    hidden: int = 128
    steps: int = 10_000
    batch_size: int = 512
    lr: float = 1e-3


class Autoencoder:
    """One network over the modalities `names` of `observed` dimensions each; `seed` decides its start.

    `flat` holds every parameter, `gradient` what `descend` left there; both are (P,) float32.
    """

    def __init__(self, names: Sequence[str], observed: int, hidden: int, seed: int) -> None:
        layers = {"encode1": (INNER, hidden), "encode2": (hidden, LATENT)}
        layers |= {"decode1": (LATENT, hidden), "decode2": (hidden, INNER)}
        for name in names:
            layers |= {f"into.{name}": (observed, INNER), f"out.{name}": (INNER, observed)}
        sizes = [size for i, o in layers.values() for size in (i * o, o)]
        self.flat, self.gradient = torch.empty(sum(sizes)), torch.zeros(sum(sizes))
        self._values = _views(self.flat, sizes, layers)
        self._gradients = _views(self.gradient, sizes, layers)
        for name, (weight, bias) in self._values.items():
            bound = 1.0 / math.sqrt(weight.shape[0])  # as torch initialises a linear layer
            for part, kind in ((weight, "weight"), (bias, "bias")):
                drawn = seeded(seed, "autoencoder", name, kind).uniform(-bound, bound, tuple(part.shape))
                part.copy_(torch.from_numpy(drawn))

    def reconstruct(self, x: Tensor, modality: str) -> Tensor:
        """The reconstruction (B, O) of x (B, O)."""
        return self._forward(x, modality)[-1]

    def error(self, x: Tensor, modality: str) -> float:
        """Mean squared error of reconstructing x (B, O), per dimension."""
        return (self.reconstruct(x, modality) - x).square().mean().item()

    def descend(self, x: Tensor, modality: str) -> None:
        """Add the gradient of the mean squared error on x (B, O) to `gradient`."""
        values = self._values
        hidden1, latent, hidden2, last, output = self._forward(x, modality)
        of_output = output.sub_(x).mul_(2.0 / x.numel())
        of_last, of_last_bias = hidden2.T @ of_output, of_output.sum(0)
        of_hidden2 = torch.ops.aten.threshold_backward(of_output @ last.T, hidden2, 0.0)
        of_latent = of_hidden2 @ values["decode1"][0].T
        of_hidden1 = torch.ops.aten.threshold_backward(of_latent @ values["encode2"][0].T, hidden1, 0.0)
        of_first, of_first_bias = x.T @ of_hidden1, of_hidden1.sum(0)
        for name, inputs, of in (("decode1", latent, of_hidden2), ("encode2", hidden1, of_latent)):
            weight, bias = self._gradients[name]
            weight.addmm_(inputs.T, of)
            bias.add_(of.sum(0))
        self._through(f"into.{modality}", "encode1", of_first, of_first_bias)
        self._through("decode2", f"out.{modality}", of_last, of_last_bias)

    def fit(self, data: Mapping[str, Tensor], training: Training, seed: int) -> None:
        """Train on data (n, O) by modality; a step's loss is the sum over modalities."""
        optimizer = _Adam(self.flat, self.gradient, training.lr)
        for start in range(0, training.steps, _CHUNK):
            steps = min(_CHUNK, training.steps - start)
            rows = {
                name: batch_rows(
                    seed=seed,
                    name=name,
                    rows=len(values),
                    batch=min(training.batch_size, len(values)),
                    start=start,
                    steps=steps,
                )
                for name, values in data.items()
            }
            for step in range(steps):
                self.gradient.zero_()
                for name, values in data.items():
                    self.descend(values.index_select(0, rows[name][step]), name)
                optimizer.step()

    def _forward(self, x: Tensor, modality: str) -> tuple[Tensor, ...]:
        values = self._values
        (into, into_bias), (encode1, encode1_bias) = values[f"into.{modality}"], values["encode1"]
        (out, out_bias), (decode2, decode2_bias) = values[f"out.{modality}"], values["decode2"]
        first, last = into @ encode1, decode2 @ out
        hidden1 = torch.addmm(encode1_bias + into_bias @ encode1, x, first).relu_()
        latent = torch.addmm(values["encode2"][1], hidden1, values["encode2"][0])
        hidden2 = torch.addmm(values["decode1"][1], latent, values["decode1"][0]).relu_()
        output = torch.addmm(out_bias + decode2_bias @ out, hidden2, last)
        return hidden1, latent, hidden2, last, output

    def _through(self, near: str, far: str, of_product: Tensor, of_bias: Tensor) -> None:
        """From the gradient of a product of two layers, and of its bias, to those of the layers."""
        (near_weight, near_bias), (far_weight, _) = self._values[near], self._values[far]
        self._gradients[near][0].addmm_(of_product, far_weight.T)
        self._gradients[near][1].add_(far_weight @ of_bias)
        self._gradients[far][0].addmm_(near_weight.T, of_product).addr_(near_bias, of_bias)
        self._gradients[far][1].add_(of_bias)


class _Adam:
    """Adam on one vector, as torch's with its usual constants; a step costs a few passes over it."""

    def __init__(self, values: Tensor, gradient: Tensor, lr: float) -> None:
        self._values, self._gradient, self._lr = values, gradient, lr
        self._first, self._second = torch.zeros_like(values), torch.zeros_like(values)
        self._scale = torch.empty_like(values)
        self._steps = 0

    def step(self) -> None:
        self._steps += 1
        self._first.lerp_(self._gradient, 1 - _BETAS[0])
        self._second.mul_(_BETAS[1]).addcmul_(self._gradient, self._gradient, value=1 - _BETAS[1])
        torch.sqrt(self._second, out=self._scale)
        self._scale.div_(math.sqrt(1 - _BETAS[1] ** self._steps)).add_(_EPSILON)
        rate = self._lr / (1 - _BETAS[0] ** self._steps)
        self._values.addcdiv_(self._first, self._scale, value=-rate)


def _views(
    flat: Tensor, sizes: Sequence[int], layers: Mapping[str, tuple[int, int]]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Weight (inputs, outputs) and bias (outputs,) of every layer, as views."""
    parts = flat.split(list(sizes))
    return {
        name: (parts[2 * i].view(shape), parts[2 * i + 1]) for i, (name, shape) in enumerate(layers.items())
    }
