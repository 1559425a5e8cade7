"""`SharedTransformer`: one causal trunk for sequences of every modality (paper Alg. 1, Sections 4.1, B.4.1).

Shapes: T packed tokens of n sequences, D features of a modality, V ids of a vocabulary, W width, H heads,
d = W / H, F units of a feed-forward layer, C classes. Tensors are float32 without autocast, ids int64.

    x (T, D) → linear of the modality → 1×1 projection (shared, no bias) (+ positions) → blocks → (T, W)
    (T, W) → linear of the modality → the next token (T, D)

Of a modality whose tokens are ids (T,) a table (V, W) stands for the first map, and the last one gives the
logits (T, V) of the next id.

A block is that of `nn.TransformerEncoderLayer` (ReLU): its numbers are the same for the same weights. Every
parameter is drawn by a generator keyed with the seed and the parameter's name: the same network with another
modality beside it begins with the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from uml_cache import InputError, unknown
from uml_train.heads.weights import seeded
from uml_train.pretrain.network.dropout import NO_DROPOUT, Dropout, FeedForward
from uml_train.pretrain.network.packing import Layout, TokenBatch

POSITIONS = ("none", "learned", "sinusoidal")
NORMS = ("post", "pre")
_WAVE = 10_000.0


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """The shape of a `SharedTransformer`.

    Args:
        width: W, a multiple of `heads`.
        layers, heads: of the trunk.
        feedforward: F.
        dropout: on attention weights, on both branches of a block and between the feed-forward's layers.
        norm: `post` as in the reference, or `pre` (with a norm at the end of the trunk).
        positions: `none`, `learned` or `sinusoidal`, added before the first block.
        longest: tokens of the longest sequence, needed for learned positions.

    Raises:
        InputError: a value out of range.
    """

    width: int = 40
    layers: int = 5
    heads: int = 5
    feedforward: int = 2048
    dropout: float = 0.1
    norm: str = "post"
    positions: str = "none"
    longest: int = 0

    def __post_init__(self) -> None:
        for name in ("width", "layers", "heads", "feedforward"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.width % self.heads:
            raise InputError(f"width {self.width} is no multiple of {self.heads} heads; change one of them")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout is {self.dropout:g}; it must be at least 0 and below 1")
        if self.norm not in NORMS:
            raise unknown("norm", self.norm, NORMS)
        if self.positions not in POSITIONS:
            raise unknown("positions", self.positions, POSITIONS)


class _Block(nn.Module):
    """Attention and feed-forward with residuals, normalised after (`post`) or before (`pre`) each."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads, self.post = config.heads, config.norm == "post"
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.mix = nn.Linear(config.width, config.width)
        self.up = nn.Linear(config.width, config.feedforward)
        self.down = nn.Linear(config.feedforward, config.width)
        self.norm1 = nn.LayerNorm(config.width)
        self.norm2 = nn.LayerNorm(config.width)

    def forward(self, x: Tensor, layout: Layout, drop: Dropout) -> Tensor:
        if self.post:
            x = self.norm1(x + drop(self._attend(x, layout, drop)))
            return self.norm2(x + drop(self._feed(x, drop)))
        x = x + drop(self._attend(self.norm1(x), layout, drop))
        return x + drop(self._feed(self.norm2(x), drop))

    def _attend(self, x: Tensor, layout: Layout, drop: Dropout) -> Tensor:
        qkv = self.qkv(x).index_select(0, layout.gather)
        parts, at = [], 0
        for count, longest in layout.blocks:
            block = qkv[at : at + count * longest].view(count, longest, 3, self.heads, -1)
            q, k, v = block.permute(2, 0, 3, 1, 4)
            attended = _causal_attention(q, k, v, drop)
            parts.append(attended.transpose(1, 2).reshape(count * longest, -1))
            at += count * longest
        return self.mix(torch.cat(parts).index_select(0, layout.scatter))

    def _feed(self, x: Tensor, drop: Dropout) -> Tensor:
        if x.device.type == "cpu" and (drop.source is not None or drop.level == 0):
            return FeedForward.apply(x, self.up.weight, self.up.bias, self.down.weight, self.down.bias, drop)  # type: ignore[no-any-return]
        return self.down(drop(self.up(x).relu()))


def _causal_attention(q: Tensor, k: Tensor, v: Tensor, drop: Dropout) -> Tensor:
    """q, k, v (n, H, L, d) → (n, H, L, d); a token sees itself and what is before it."""
    if drop.source is None or drop.level == 0:
        return functional.scaled_dot_product_attention(q, k, v, dropout_p=drop.p, is_causal=True)
    length = q.shape[2]
    hidden = torch.ones(length, length, dtype=torch.bool).triu_(1)
    weights = (q / math.sqrt(q.shape[3]) @ k.transpose(2, 3)).masked_fill(hidden, -torch.inf).softmax(3)
    return drop(weights) @ v


class SharedTransformer(nn.Module):
    """One trunk, and a linear map in and out for every modality.

    Args:
        config: its shape.
        dims: D of every modality by name; for one of ids V.
        seed: decides every weight.
        classes: C of the supervised part, a linear map of a sequence's mean; 0: none.
        discrete: the modalities whose tokens are ids.
    """

    def __init__(
        self,
        config: TransformerConfig,
        dims: Mapping[str, int],
        seed: int = 0,
        classes: int = 0,
        discrete: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.config = config
        self.dims = dict(dims)
        self.discrete = sorted(discrete)
        with torch.device("meta"):
            # Names may hold dots (`text.cupl`), which names of modules may not.
            self.into = nn.ModuleDict(
                {
                    _key(m): (nn.Embedding if m in discrete else nn.Linear)(d, config.width)
                    for m, d in dims.items()
                }
            )
            self.out = nn.ModuleDict({_key(m): nn.Linear(config.width, d) for m, d in dims.items()})
            self.project = nn.Linear(config.width, config.width, bias=False)
            self.blocks = nn.ModuleList(_Block(config) for _ in range(config.layers))
            self.last = nn.LayerNorm(config.width) if config.norm == "pre" else nn.Identity()
            self.places = (
                nn.Embedding(config.longest, config.width) if config.positions == "learned" else None
            )
            self.classify = nn.Linear(config.width, classes) if classes else nn.Identity()
        self.to_empty(device="cpu")
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                module = self.get_submodule(name.rpartition(".")[0])
                parameter.copy_(_initial(name, parameter.shape, module, seed))

    def forward(self, batch: TokenBatch, modality: str, drop: Dropout = NO_DROPOUT) -> Tensor:
        """The trunk's outputs (T, W) for packed tokens (T, D), or ids (T,)."""
        x = self.project(self.into[_key(modality)](batch.values))
        if self.config.positions != "none":
            x = x + self._positions(batch.layout)
        for block in self.blocks:
            x = block(x, batch.layout, drop)
        return self.last(x)

    def _positions(self, layout: Layout) -> Tensor:
        longest = int(layout.lengths.max())
        if self.places is None:
            return _sinusoids(longest, self.config.width).to(layout.device)[layout.places]
        if longest > self.config.longest:
            raise InputError(
                f"a sequence has {longest} tokens; this network learnt positions of {self.config.longest}"
            )
        return self.places(layout.places)

    def prediction_loss(self, hidden: Tensor, batch: TokenBatch, modality: str) -> Tensor:
        """Sum over the predicted tokens of the mean squared error of the next one (paper 3.2, Alg. 1).

        `hidden` (T, W) are the outputs for the batch's tokens; the sum is a scalar tensor (). Of ids it is
        the cross-entropy, in nats. Divide by `batch.targets` for the loss of a batch. A sequence of one
        token is reconstructed.
        """
        from_, to = batch.layout.predicted
        predicted = self.out[_key(modality)](hidden.index_select(0, from_)).float()
        wanted = batch.values.index_select(0, to)
        if modality in self.discrete:
            return functional.cross_entropy(predicted, wanted, reduction="sum")
        error = predicted - wanted
        return error.square().mean(1).sum()

    def embed(self, batch: TokenBatch, modality: str) -> Tensor:
        """(n, W) float32: the mean over each sequence of the trunk's outputs, no dropout."""
        with torch.no_grad():
            return batch.layout.mean(self(batch, modality).float())


def _key(modality: str) -> str:
    return modality.replace(".", "·")


def _initial(name: str, shape: torch.Size, module: nn.Module, seed: int) -> Tensor:
    """The first value of a parameter: the distributions of torch's own layers."""
    kind = name.rpartition(".")[2]
    if isinstance(module, nn.LayerNorm):
        return torch.ones(shape) if kind == "weight" else torch.zeros(shape)
    generator = seeded(seed, "transformer", name)
    if isinstance(module, nn.Embedding):
        scale = 0.02 if name.startswith("places") else 1.0
        return torch.from_numpy(scale * generator.standard_normal(shape, dtype=np.float32))
    if name.endswith(("qkv.bias", "mix.bias")):
        return torch.zeros(shape)
    assert isinstance(module, nn.Linear)
    bound = 1.0 / math.sqrt(module.in_features)
    if name.endswith("qkv.weight"):
        bound = math.sqrt(6.0 / (shape[0] + shape[1]))
    return torch.from_numpy(generator.uniform(-bound, bound, shape).astype(np.float32))


def _sinusoids(longest: int, width: int) -> Tensor:
    """(longest, W): sines in the first half of the features, cosines in the second."""
    half = -(-width // 2)
    rate = _WAVE ** (-torch.arange(half) / max(1, half - 1))
    angle = torch.arange(longest).unsqueeze(1) * rate
    return torch.cat([angle.sin(), angle.cos()], 1)[:, :width]
