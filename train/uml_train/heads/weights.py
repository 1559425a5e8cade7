"""The weights of one head: projections, shared head and logit scales.

Shapes: D features of a modality, W shared width, C classes, n rows.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from uml_train.data.rows import Packed, Rows, as_rows
from uml_train.heads.transformer import Block, embed, initial_blocks


def seeded(*key: object) -> np.random.Generator:
    """A counter-based generator (Philox) that depends on `key` alone, whatever was drawn elsewhere."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


@dataclass(eq=False)
class HeadWeights:
    """Parameters of one model; entry 0 of each list is the target modality.

    Args:
        projections: per modality (W, D) float32, or None where it goes straight to the head.
        head: (C, W) float32.
        scales: (number of modalities,) float32, what the logits of each are multiplied by.
        trunk: None, or (up (H, W), down (W, H)): z + relu(z · upᵀ) · downᵀ between projection and head.
        blocks: those of the transformer trunk; samples are then sequences, whose tokens' mean the head gets.
        bias: (C,) float64 that the target's logits have besides, or None.
    """

    projections: list[Tensor | None]
    head: Tensor
    scales: Tensor
    trunk: tuple[Tensor, Tensor] | None = None
    blocks: tuple[Block, ...] = ()
    bias: Tensor | None = None

    def logits(self, features: Tensor | Packed, modality: int = 0) -> Tensor:
        """Logits (n, C) of one modality's features (n, D): scale · head · trunk · projection · x + bias.

        With the transformer trunk samples may be sequences, else they are one vector each.
        """
        logits = self.scales[modality] * (self.space(features, modality) @ self.head.T)
        return logits if self.bias is None or modality else logits + self.bias.to(logits)

    def space(self, features: Tensor | Packed, modality: int = 0) -> Tensor:
        """What the head gets of one modality's features (n, D), its place in the shared space: (n, W)."""
        projection = self.projections[modality]
        if self.blocks:
            samples = Packed(features) if isinstance(features, Tensor) else features
            return embed(self.blocks, projection, samples)
        if isinstance(features, Packed):
            features = features.values
        z = features if projection is None else features @ projection.T
        if self.trunk is not None:
            up, down = self.trunk
            z = z + (z @ up.T).relu() @ down.T
        return z

    def effective(self, modality: int = 0) -> Tensor:
        """The linear map (C, D) that the model applies to one modality: scale · head · projection.

        Raises `ValueError` with a trunk, which is not linear.
        """
        if self.trunk is not None or self.blocks:
            raise ValueError("a head with a trunk is no linear map")
        projection = self.projections[modality]
        product = self.head if projection is None else self.head @ projection
        return self.scales[modality] * product

    def clone(self) -> HeadWeights:
        """A copy that shares no memory."""
        copies = [
            None if p is None else p.clone(memory_format=torch.contiguous_format) for p in self.projections
        ]
        trunk = None if self.trunk is None else (self.trunk[0].clone(), self.trunk[1].clone())
        blocks = tuple(Block(*(part.clone() for part in block.parts)) for block in self.blocks)
        bias = None if self.bias is None else self.bias.clone()
        return HeadWeights(copies, self.head.clone(), self.scales.clone(), trunk, blocks, bias)

    def flatten(self, *, scales: bool) -> Tensor:
        """All parameters as one vector (P,); the scales only where they are learnt.

        Projections lie as D × W: small batches multiply faster that way round.
        """
        parts = [p.T.reshape(-1) for p in self.projections if p is not None] + [self.head.reshape(-1)]
        parts += [part.reshape(-1) for part in self.trunk or ()]
        parts += [part.reshape(-1) for block in self.blocks for part in block.parts]
        return torch.cat([*parts, self.scales] if scales else parts)

    def view_of(self, flat: Tensor, *, scales: bool) -> HeadWeights:
        """The same structure as views into a vector that `flatten` laid out.

        A stack of such vectors (M, P) gives a stack of weights, each with M in front.
        """
        at = 0

        def take(shape: Sequence[int]) -> Tensor:
            nonlocal at
            size = math.prod(shape)
            at += size
            return flat[..., at - size : at].view(*flat.shape[:-1], *shape)

        projections = [None if p is None else take((p.shape[1], p.shape[0])).mT for p in self.projections]
        head = take(self.head.shape)
        trunk = None if self.trunk is None else (take(self.trunk[0].shape), take(self.trunk[1].shape))
        blocks = tuple(Block(*(take(part.shape) for part in block.parts)) for block in self.blocks)
        return HeadWeights(
            projections, head, take(self.scales.shape) if scales else self.scales, trunk, blocks
        )


def initial_weights(
    streams: Sequence[tuple[str, int, bool, float]],
    *,
    classes: int,
    width: int,
    seed: int,
    head: Tensor | None = None,
    hidden: int = 0,
    layers: int = 0,
) -> HeadWeights:
    """Weights before training, the same for every method with the same seed and shapes.

    Linear layers start as torch's do, uniform in ±1/√fan_in, from a generator keyed by (seed, layer). A
    trunk starts as the identity (its second layer is zero), so that it begins where the linear one does.

    Args:
        streams: per modality (name, D, projected, logit scale).
        head: (C, W) rows of any floating type to start the head from instead.
        hidden: H, the width of the trunk's hidden layer; 0 for no trunk.
        layers: blocks of the transformer trunk, of hidden width H; 0 for the trunk `mlp`.

    Raises:
        ValueError: a modality without projection is not W wide, or `head` has another shape.
    """
    projections: list[Tensor | None] = []
    for name, dim, projected, _ in streams:
        if not projected and dim != width:
            raise ValueError(f"{name} has {dim} features and no projection; the shared width is {width}")
        projections.append(_linear(width, dim, seeded(seed, "projection", name)) if projected else None)
    if head is None:
        head = _linear(classes, width, seeded(seed, "head"))
    elif tuple(head.shape) != (classes, width):
        raise ValueError(f"initial head is {tuple(head.shape)}; expected {(classes, width)}")
    trunk: tuple[Tensor, Tensor] | None = None
    blocks: tuple[Block, ...] = ()
    if layers:
        blocks = initial_blocks(width, hidden, [seeded(seed, "block", i) for i in range(layers)])
    elif hidden:
        trunk = (_linear(hidden, width, seeded(seed, "trunk")), torch.zeros(width, hidden))
    scales = torch.tensor([s[3] for s in streams])
    return HeadWeights(projections, head.to(torch.float32).clone(), scales, trunk, blocks)


def _linear(rows: int, fan_in: int, generator: np.random.Generator) -> Tensor:
    bound = 1.0 / math.sqrt(fan_in)
    return torch.from_numpy(generator.uniform(-bound, bound, (rows, fan_in)).astype(np.float32))


def class_means(features: Tensor | Rows, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Each class's mean (C, W) float64, zeros where it has no rows, and its number of rows (C,) int64.

    Args:
        features: (n, W) float32; a sequence counts as its mean.
        labels: (n,) int64.
    """
    samples = as_rows(features)
    sums = torch.zeros(classes, samples.dim, dtype=torch.float64)  # many rows may share a large offset
    for part, block in samples.blocks():
        sums.index_add_(0, labels[part], block.means().double())
    counts = torch.bincount(labels, minlength=classes)
    return sums / counts.clamp_min(1).unsqueeze(1), counts


def class_mean_rows(
    features: Tensor | Rows, labels: Tensor, classes: int, seed: int
) -> tuple[Tensor, list[int]]:
    """Head rows from an auxiliary: each class's mean embedding (paper 4.2, E.1: "init"), L2-normalised.

    The length is the reference code's; the paper speaks of the average alone.

    Args:
        features: (n, W) float32 embeddings of the first auxiliary; the embedding of a sequence is its mean.
        labels: (n,) int64.

    Returns:
        (C, W) float32 unit rows, and the classes that had no embedding: theirs are random unit rows.
    """
    rows = class_means(features, labels, classes)[0].float()
    missing = [int(c) for c in torch.nonzero(rows.norm(dim=1) == 0).flatten()]
    for c in missing:
        draw = seeded(seed, "missing class", c).standard_normal(rows.shape[1])
        rows[c] = torch.from_numpy(draw.astype(np.float32))
    return torch.nn.functional.normalize(rows, dim=1), missing
