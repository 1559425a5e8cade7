"""The transformer trunk: blocks that every modality's sequences go through (the shared h of paper 3.2).

Shapes: T tokens of n samples, L tokens of the longest sample, W shared width, A attention width (h heads of
d = A / h), H hidden width. Tensors are float32 without autocast.

A block is z + attention(norm(z)), then z + down · gelu(up · norm(z)). The last matrix of either branch starts
at zero, so that the trunk begins as the identity and the mean over a sample's tokens is what the linear trunk
would have seen; head rows from class means keep their meaning. There are no positions: frozen encoders have
put theirs into the tokens. Tokens are packed, padded for the attention product only, and masked there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from uml_train.data.rows import Packed, segment_means

LAYERS = 2
HEADS = 4
_ATTENTION = 256  # at most so wide, so that a wide shared space does not square the trunk


@dataclass(eq=False)
class Block:
    """Weights of one block, float32; linear maps have no bias.

    Args:
        norm1: (2, W) gain and offset before the attention; norm2: likewise before the hidden layer.
        qkv: (3 · A, W), queries, keys, values.
        mix: (W, A).
        up: (H, W); down: (W, H).
    """

    norm1: Tensor
    qkv: Tensor
    mix: Tensor
    norm2: Tensor
    up: Tensor
    down: Tensor

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """The weights in the order of the fields: (2, W), (3 · A, W), (W, A), (2, W), (H, W), (W, H)."""
        return (self.norm1, self.qkv, self.mix, self.norm2, self.up, self.down)

    @property
    def work(self) -> int:
        """Multiplications of one token, but for the attention itself."""
        return sum(part.numel() for part in (self.qkv, self.mix, self.up, self.down))


def attention_width(width: int) -> int:
    """A, a multiple of the heads, for a shared space of `width`."""
    return HEADS * math.ceil(min(width, _ATTENTION) / HEADS)


def block_shapes(width: int, hidden: int) -> list[tuple[int, int]]:
    """Shapes of a block's weights, in the order of its fields."""
    inner = attention_width(width)
    return [(2, width), (3 * inner, width), (width, inner), (2, width), (hidden, width), (width, hidden)]


def initial_blocks(width: int, hidden: int, generators: Sequence[np.random.Generator]) -> tuple[Block, ...]:
    """Blocks that begin as the identity; the other matrices are uniform in ±1/√W, one generator a block."""
    blocks = []
    for generator in generators:
        norm, qkv, mix, _, up, down = block_shapes(width, hidden)
        gain = torch.stack([torch.ones(norm[1]), torch.zeros(norm[1])])
        bound = 1.0 / math.sqrt(width)
        q, u = (torch.from_numpy(generator.uniform(-bound, bound, s).astype(np.float32)) for s in (qkv, up))
        blocks.append(Block(gain, q, torch.zeros(mix), gain.clone(), u, torch.zeros(down)))
    return tuple(blocks)


def run_blocks(blocks: Sequence[Block], z: Tensor, offsets: Tensor | None, *, causal: bool = False) -> Tensor:
    """Tokens (T, W) of packed samples through the blocks.

    Args:
        offsets: (n + 1,) int64 between the samples; None where each is one token.
        causal: whether a token sees only itself and what is before it.
    """
    width = z.shape[1]
    padding = None if offsets is None else Padding(offsets)
    for block in blocks:
        normed = functional.layer_norm(z, (width,), block.norm1[0], block.norm1[1])
        q, k, v = (normed @ block.qkv.T).chunk(3, dim=1)
        # A token that sees itself alone has all its attention there.
        seen = v if padding is None else attend(q, k, v, padding, heads=HEADS, causal=causal)
        z = z + seen @ block.mix.T
        normed = functional.layer_norm(z, (width,), block.norm2[0], block.norm2[1])
        z = z + functional.gelu(normed @ block.up.T) @ block.down.T
    return z


class Padding:
    """Where packed tokens lie among padded ones.

    `place` (T,) int64 is the position in n · L of each token, `mask` (n, 1, 1, L) says which are tokens.
    """

    def __init__(self, offsets: Tensor) -> None:
        lengths = offsets.diff()
        self.samples, self.longest = len(lengths), max(1, int(lengths.max()))
        first = torch.arange(self.samples, device=offsets.device) * self.longest
        within = torch.arange(int(offsets[-1]), device=offsets.device)
        self.place = within + torch.repeat_interleave(first - offsets[:-1], lengths)
        self.ragged = bool((lengths != self.longest).any())
        mask = torch.arange(self.longest, device=offsets.device) < lengths.clamp_min(1)[:, None]
        self.mask = mask[:, None, None, :]

    def pad(self, values: Tensor) -> Tensor:
        """(T, A) → (n, L, A), zeros where there is no token."""
        if self.ragged:
            empty = values.new_zeros(self.samples * self.longest, values.shape[1])
            values = empty.index_copy(0, self.place, values)
        return values.view(self.samples, self.longest, -1)

    def unpad(self, values: Tensor) -> Tensor:
        """(n, L, A) → (T, A)."""
        flat = values.reshape(self.samples * self.longest, -1)
        return flat.index_select(0, self.place) if self.ragged else flat


def attend(q: Tensor, k: Tensor, v: Tensor, padding: Padding, *, heads: int, causal: bool = False) -> Tensor:
    """Attention within each sample: q, k, v (T, A) → (T, A). What is padded is seen by no token."""
    q, k, v = (padding.pad(x).unflatten(2, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    mask = padding.mask if padding.ragged else None
    if causal:
        earlier = torch.ones(padding.longest, padding.longest, dtype=torch.bool, device=q.device).tril()
        mask = earlier if mask is None else mask & earlier
    seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return padding.unpad(seen.transpose(1, 2).flatten(2))


def embed(
    blocks: Sequence[Block], projection: Tensor | None, samples: Packed, bias: Tensor | None = None
) -> Tensor:
    """(n, W): projection (W, D), blocks, and the mean over each sample's tokens."""
    values = samples.values
    z = values if projection is None else values @ projection.T
    z = run_blocks(blocks, z if bias is None else z + bias, samples.offsets)
    return z if samples.offsets is None else segment_means(z, samples.offsets)
