"""Heads that people take away: one safetensors file, read back in three lines.

Shapes: n rows, D features of the target, W shared width, C classes.

What training needs (projections of every modality, shared head, logit scales, normalisations) stays in the
file as it was trained. Beside it lies the target's path folded into as few matrices as it has: normalisation
by mean and scale goes into the first matrix and its bias, so whoever reads `weight` and `bias` classifies raw
features of the encoder with `x @ weight.T + bias`. Unit length is no matrix: it is recorded and applied, and
so are the mean and the scale that come before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from uml_cache import InputError
from uml_train.data.normalize import Normalizer
from uml_train.data.rows import Packed
from uml_train.heads.transformer import Block, embed
from uml_train.heads.weights import HeadWeights
from uml_train.record.tensors import read_tensor_file, tensor_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

_KEY = "uml"  # of the metadata in a head's file
Array = TypeVar("Array", Tensor, np.ndarray)


@dataclass(frozen=True, eq=False, kw_only=True)
class Head:
    """A classifier of one encoder's raw pooled features.

    logits = x · weightᵀ + bias; where `unit` is set x is (features − mean) / scale at unit length. With the
    trunk `mlp` it is z = x · weightᵀ + bias, then z + relu(z · upᵀ) · downᵀ, then the product with `output`ᵀ.
    With the trunk `transformer` x are the tokens of a sample, z goes through `blocks`, and `output` is
    applied to the mean over the tokens.

    Args:
        weight: (C, D) float32; (W, D) with a trunk.
        bias: (C,) float64 (float32 in files of version 0.1); (W,) with a trunk.
        trunk: None, or (up (H, W), down (W, H), output (C, W)).
        blocks: of the transformer trunk; `output` (C, W) belongs to them.
        unit: whether features are divided by their length first.
        mean, scale: (D,) float32, what comes before unit length: (features − mean) / scale; None: nothing.
        classes: C names.
        about: how it was trained: target, encoder, method, normalisation, and what else the run recorded.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.floating]
    trunk: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]] | None
    unit: bool
    classes: tuple[str, ...]
    about: dict[str, Any]
    blocks: tuple[Block, ...] = ()
    output: NDArray[np.float32] | None = None
    mean: NDArray[np.float32] | None = None
    scale: NDArray[np.float32] | None = None

    @property
    def features(self) -> int:
        """D, the number of features that it takes."""
        return int(self.weight.shape[1])

    def logits(self, features: Array, offsets: Any = None) -> Array:
        """Logits (n, C) of features (n, D), of the kind (numpy or torch), precision and device given.

        With the transformer trunk features are tokens: (n, T, D), or packed (T, D) with `offsets` (n + 1,)
        int64 between the samples, as `open_features(…).tokens.packed(rows)` gives them.

        Raises:
            InputError: features of another width, of other dimensions, or that are not finite.
        """
        self._check(tuple(features.shape), offsets is not None)
        if isinstance(features, Tensor):
            ends = None if offsets is None else torch.as_tensor(offsets, device=features.device)
            return _finite(_path(self, features, ends, lambda a: torch.as_tensor(a).to(features)))
        x = np.asarray(features)
        x = x if x.dtype in (np.float32, np.float64) else x.astype(np.float32)
        x = np.require(x, requirements="W")  # a data frame's is read-only, of which torch warns
        ends = None if offsets is None else torch.as_tensor(offsets)
        double = _path(self, torch.from_numpy(x).double(), ends, lambda a: torch.as_tensor(a).double())
        return _finite(double).numpy().astype(x.dtype)

    def _check(self, shape: tuple[int, ...], packed: bool) -> None:
        encoder, width = self.about.get("encoder", "its encoder"), self.features
        if not self.blocks:
            if len(shape) != 2 or shape[1] != width or packed:
                raise InputError(
                    f"features are {shape}; this head takes (n, {width}), the pooled features of {encoder}"
                )
        elif shape[-1:] != (width,) or len(shape) != (2 if packed else 3):
            raise InputError(
                f"features are {shape}; this head takes the tokens of {encoder}: (n, T, {width}), or "
                f"(T, {width}) with offsets (n + 1,) between the samples"
            )

    def predict(self, features: Array, offsets: Any = None) -> Array:
        """Class indices (n,) int64 into `classes`."""
        return self.logits(features, offsets).argmax(1)

    def predict_proba(self, features: Array, offsets: Any = None) -> Array:
        """Probabilities (n, C), the softmax of the logits."""
        logits = self.logits(features, offsets)
        if isinstance(logits, Tensor):
            return logits.softmax(1)
        powers = np.exp(logits - logits.max(1, keepdims=True))
        return powers / powers.sum(1, keepdims=True)

    def to_onnx(self, path: Path | str) -> Path:
        """Write the head as an ONNX model `features` (n, D) → `logits` (n, C). Needs `uml-cache[onnx]`.

        Raises `InputError` with the transformer trunk.
        """
        from uml_train.heads.onnx_export import write_onnx

        return write_onnx(self, Path(path))


def _finite(logits: Tensor) -> Tensor:
    """The logits (n, C), unless some are none: the largest of them would be the first class."""
    good = logits.isfinite().all(1)
    if not bool(good.all()):
        row = int(good.to(torch.uint8).argmin())
        raise InputError(
            f"features of row {row} are not finite, or too large to compute with ({int((~good).sum()):,} of "
            f"{len(good):,} rows are such); leave these rows out"
        )
    return logits


def _path(head: Head, x: Tensor, offsets: Tensor | None, to: Any) -> Tensor:
    if head.blocks and offsets is None:
        offsets = torch.arange(len(x) + 1, device=x.device) * x.shape[1]
        x = x.flatten(0, 1)
    if head.mean is not None:
        x = x - to(head.mean)
    if head.scale is not None:
        x = x / to(head.scale)
    if head.unit:
        x = torch.nn.functional.normalize(x, dim=1)
    if head.blocks:
        blocks = [Block(*map(to, block.parts)) for block in head.blocks]
        means = embed(blocks, to(head.weight), Packed(x, offsets), to(head.bias))
        logits: Tensor = means @ to(head.output).T
        return logits
    # In double precision: where features share a large offset, the bias takes away most of the product.
    weight, bias = (torch.as_tensor(a, device=x.device).double() for a in (head.weight, head.bias))
    z: Tensor = (x.double() @ weight.T + bias).to(x.dtype)
    if head.trunk is None:
        return z
    up, down, output = map(to, head.trunk)
    result: Tensor = (z + (z @ up.T).relu() @ down.T) @ output.T
    return result


def folded(weights: HeadWeights, normalize: Normalizer) -> dict[str, Tensor]:
    """The target's path with its normalisation folded in: `weight` (C, D) and `bias` (C,) float32.

    With a trunk they are (W, D) and (W,), and `output` (C, W) stands behind it.
    """
    scale = weights.scales[0].double()
    projection = weights.projections[0]
    head = weights.head.double()
    if weights.trunk is None and not weights.blocks:
        first = scale * (head if projection is None else head @ projection.double())
        rest: dict[str, Tensor] = {}
    else:
        width = head.shape[1]
        first = torch.eye(width, dtype=torch.float64) if projection is None else projection.double()
        rest = {"output": (scale * head).float()}
    bias = torch.zeros(len(first), dtype=torch.float64) if weights.bias is None else weights.bias.clone()
    return {**_folded(first, bias, normalize), **rest}


def _folded(weight: Tensor, bias: Tensor, normalize: Normalizer) -> dict[str, Tensor]:
    """A linear map of normalised features as one of raw ones; of what comes before unit length, beside it.

    The bias stays float64: it carries what all features share, times the weights.
    """
    before: dict[str, Tensor] = {}
    if normalize.unit:
        parts = {"mean": normalize.mean, "scale": normalize.scale}
        before = {name: part.clone() for name, part in parts.items() if part is not None}
    else:
        if normalize.scale is not None:
            weight = weight / normalize.scale.double()
        if normalize.mean is not None:
            bias = bias - weight @ normalize.mean.double()
    return {"weight": weight.float(), "bias": bias, **before}


def linear_head_file(weight: Tensor, bias: Tensor, normalize: Normalizer, about: Mapping[str, Any]) -> bytes:
    """The bytes of a head file for a classifier (C, D), (C,) of normalised features.

    Both have any floating type; the file holds float32 weights and a float64 bias.
    `about` is as in `head_file`.
    """
    tensors = _folded(weight.double(), bias.double(), normalize)
    return tensor_file(tensors, _KEY, {"streams": [], "unit": normalize.unit, **about})


def head_file(
    weights: HeadWeights,
    streams: Sequence[str],
    normalizers: Mapping[str, Normalizer],
    about: Mapping[str, Any],
) -> bytes:
    """The bytes of a head file; equal heads give equal bytes.

    Args:
        streams: names of the modalities in the order of `weights`, the target first.
        about: must hold `classes`.
    """
    tensors = {"head": weights.head, "scales": weights.scales}
    for name, projection in zip(streams, weights.projections, strict=True):
        if projection is not None:
            tensors[f"projection.{name}"] = projection
    for name, normalizer in normalizers.items():
        if normalizer.mean is not None:
            tensors[f"normalize.mean.{name}"] = normalizer.mean
        if normalizer.scale is not None:
            tensors[f"normalize.scale.{name}"] = normalizer.scale
    if weights.bias is not None:
        tensors["logits.bias"] = weights.bias
    if weights.trunk is not None:
        tensors["trunk.up"], tensors["trunk.down"] = weights.trunk
    for i, block in enumerate(weights.blocks):
        tensors |= {f"block.{i}.{part.name}": getattr(block, part.name) for part in fields(Block)}
    tensors |= folded(weights, normalizers[streams[0]])
    config = {"streams": list(streams), "unit": normalizers[streams[0]].unit, **about}
    return tensor_file(tensors, _KEY, config)


def load_head(path: Path | str) -> Head:
    """Open a head of a run (`RUN/heads/*.safetensors`).

    Raises:
        InputError: no such file, not a head, or one that is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is no file; the heads of a run are in its folder `heads`")
    arrays, config = read_tensor_file(path, _KEY, "head of `uml train`")
    try:
        trunk = (arrays["trunk.up"], arrays["trunk.down"], arrays["output"]) if "trunk.up" in arrays else None
        blocks: list[Block] = []
        while f"block.{len(blocks)}.qkv" in arrays:
            at = f"block.{len(blocks)}"
            blocks.append(Block(*(torch.from_numpy(arrays[f"{at}.{part.name}"]) for part in fields(Block))))
        return Head(
            weight=arrays["weight"],
            bias=arrays["bias"],
            trunk=trunk,
            unit=bool(config.pop("unit")),
            classes=tuple(config.pop("classes")),
            about=config,
            blocks=tuple(blocks),
            output=arrays["output"] if blocks else None,
            mean=arrays.get("mean"),
            scale=arrays.get("scale"),
        )
    except KeyError as error:
        raise InputError(f"{path} is no head of `uml train` (it lacks {error})") from None
