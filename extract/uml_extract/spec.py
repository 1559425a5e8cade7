"""What an encoder is: a frozen spec that says everything about its numbers, and three methods.

Shapes: B samples of a batch, T tokens of a batch (all samples, packed one after the other), D features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from uml_manifests import Manifest

POOLINGS = ("cls", "mean", "last")
TRANSFORMS = ("own", "paper")
LAST_LAYER = -1
NO_MEMORY = "needs more memory than this machine has; its header may be damaged"


class SampleError(Exception):
    """One sample cannot be read or encoded. Its row stays, flagged, and the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class EncoderSpec:
    """Everything that decides an encoder's output, and what a user should know before choosing it.

    Args:
        name: The name it is asked for by, and stored under.
        modality: `image`, `text` or `audio`.
        library: What computes it: `numpy`, `timm`, `transformers`, …
        model: The library's id of the model, or the folder's name.
        revision: Commit of the model's repository, where it is known.
        weights_digest: sha256 (hex) of the weights, None for an encoder that has none.
        width: D of the pooled features; None in a listing where only the weights tell.
        token_width: D of the token features, None where there are no tokens.
        vocabulary: The tokens are ids below this number (`token_width` 1, no pooled features); None: vectors.
        pooling: How tokens become one vector.
        layer: -1 is the last layer, normalised; otherwise the index of a block, counted from 0.
        transform: What happens to a sample before the model sees it, as JSON.
        licence, parameters: Of the weights.
        joint_space: Name of a space that several encoders map into (CLIP's towers); None for most.
    """

    name: str
    modality: str
    library: str
    model: str
    revision: str | None = None
    weights_digest: str | None = None
    width: int | None = None
    token_width: int | None = None
    vocabulary: int | None = None
    pooling: str = "mean"
    layer: int = LAST_LAYER
    transform: Mapping[str, Any] = field(default_factory=dict)
    licence: str | None = None
    parameters: int | None = None
    joint_space: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The spec as a JSON object; it is stored with the features and part of their fingerprint."""
        values = asdict(self)
        if self.vocabulary is None:
            del values["vocabulary"]
        return values


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What only a network that is to be trained may be asked for (`uml_extract.registry.trainable`).

    `img_size` and `patch_size` (pixels) rebuild a vision network for another size, None keeps its own;
    `untrained` takes no weights at all.
    """

    img_size: int | None = None
    patch_size: int | None = None
    untrained: bool = False


@dataclass(frozen=True, kw_only=True)
class EncoderOptions:
    """What a user may ask of an encoder. An encoder that cannot do it raises `InputError`.

    `pooling` None is the encoder's own choice; `weights` a safetensors, .pt or .pth file, or a folder.
    `dtype` is what will be stored: with float32, CUDA computes in float32 too, otherwise in half precision.
    `tuning` is set where the encoder is to be trained.
    """

    weights: Path | None = None
    pooling: str | None = None
    layer: int = LAST_LAYER
    transform: str = "own"
    device: str = "auto"
    dtype: str = "float16"
    tuning: Tuning | None = None


@dataclass(frozen=True)
class Encoded:
    """Features of one batch: `pooled` (B, D) float32; `tokens` (T, D) float32 with `lengths` (B,) int32.

    Where tokens are ids, `tokens` is (T, 1) int32 and `pooled` (B, 0).
    """

    pooled: np.ndarray
    tokens: np.ndarray | None = None
    lengths: np.ndarray | None = None


class Encoder(Protocol):
    """A frozen encoder, loaded and ready.

    `variant` names the choices that differ from the encoder's own (`layer6`, `mean`). `batch_size` is
    sensible on a CPU; `device` names where it computes. `ragged` tells that samples differ in length, so that
    batches of like length save work. `input_rate` is the sampling rate an audio encoder wants, and
    `input_seconds` the longest sound it looks at (0 for other modalities).
    """

    spec: EncoderSpec
    variant: tuple[str, ...]
    batch_size: int
    compute_dtype: str
    device: str
    ragged: bool
    input_rate: int
    input_seconds: float

    def prepare(self, sample: Any) -> np.ndarray:
        """Turn what the reader gave (PIL image, string, `Sound`) into the model's input for one sample.

        The array may have any shape: a picture is (3, H, W) float32, a text (L,) int64, a sound (n,) float32
        or a spectrogram (T, F). Runs on the CPU, in several threads at once. Raises `SampleError`.
        """
        ...

    def token_counts(self, manifest: Manifest) -> np.ndarray:
        """(N,) int32: how many tokens each sample will give, found without encoding it (0: unreadable)."""
        ...

    def encode(self, batch: Sequence[np.ndarray], *, tokens: bool = False) -> Encoded:
        """Encode B prepared samples: pooled (B, D) float32 and, with `tokens`, tokens (T, D) and lengths
        (B,).

        A sample's features do not depend on the others in its batch.
        """
        ...


@runtime_checkable
class DataEncoder(Protocol):
    """An encoder whose widths are those of the data: `for_data` makes the one for a manifest."""

    def for_data(self, manifest: Manifest) -> Encoder:
        """The encoder for this data set; calling it again changes nothing."""
        ...


@runtime_checkable
class CutsTexts(Protocol):
    """An encoder that reads so many tokens of a text and no more."""

    def cut(self, texts: Sequence[str]) -> int:
        """How many of the texts are longer than that, so that their ends say nothing."""
        ...


def fitted(encoder: Encoder, manifest: Manifest) -> Encoder:
    """The encoder itself, or its form for this data set."""
    return encoder.for_data(manifest) if isinstance(encoder, DataEncoder) else encoder


@dataclass(frozen=True, kw_only=True)
class WeightsPackage:
    """A Python package that holds an encoder's weights.

    `distribution` is its name for pip, `module` the folder that it installs, `path` where the weights lie in
    that folder: a file of weights, or a folder with a model's config.json.
    """

    distribution: str
    module: str
    path: str


@dataclass(frozen=True)
class Registered:
    """An entry of the registry: what is known before loading, and how to load.

    In the registry an entry whose key ends in a colon (`timm:`) stands for every id with that prefix, and
    `load` is called with the part behind it. Where `package` is installed, its weights are the encoder's,
    unless others are given.
    """

    spec: EncoderSpec
    load: Callable[[EncoderSpec, str, EncoderOptions], Encoder]
    summary: str
    package: WeightsPackage | None = None
