"""The encoder `mean-color`: the mean colour of each field of a grid over the picture.

Shapes: B pictures of a batch, G = 3 fields a side, D = 3 · G · G = 27 features; tokens are the G · G fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from uml_cache import InputError
from uml_extract import Encoded, EncoderOptions, EncoderSpec, Registered
from uml_manifests import Manifest

GRID = 3

SPEC = EncoderSpec(
    name="mean-color",
    modality="image",
    library="numpy",
    model="mean-color-1",  # another number whenever the features change
    width=3 * GRID * GRID,
    token_width=3,
    pooling="concatenation",
    transform={"resize": GRID, "interpolation": "box"},
    licence="Apache-2.0",
    parameters=0,
)


class MeanColor:
    """Mean colours, red, green and blue in [0, 1]; it computes in float32 on the CPU."""

    spec = SPEC
    variant: tuple[str, ...] = ()
    batch_size = 64
    compute_dtype = "float32"
    device = "cpu"
    ragged = False
    input_rate = 0
    input_seconds = 0.0

    def prepare(self, sample: Any) -> np.ndarray:
        """(G · G, 3) float32 from a PIL image in RGB. Pillow's box filter gives each field its mean."""
        from PIL import Image

        small = sample.resize((GRID, GRID), Image.Resampling.BOX)
        return np.asarray(small, dtype=np.float32).reshape(GRID * GRID, 3) / 255

    def token_counts(self, manifest: Manifest) -> np.ndarray:
        """(N,) int32: every picture has G · G tokens."""
        return np.full(len(manifest), GRID * GRID, dtype=np.int32)

    def encode(self, batch: Sequence[np.ndarray], *, tokens: bool = False) -> Encoded:
        """`pooled` (B, D) float32; with `tokens` also (B · G · G, 3) float32 and lengths (B,) int32."""
        fields = np.stack(batch)
        pooled = fields.reshape(len(batch), -1)
        if not tokens:
            return Encoded(pooled)
        lengths = np.full(len(batch), GRID * GRID, dtype=np.int32)
        return Encoded(pooled, fields.reshape(-1, 3), lengths)


def load_mean_color(spec: EncoderSpec, rest: str, options: EncoderOptions) -> MeanColor:
    """The encoder; `rest` is what stands behind a prefix such as `timm:` and is empty here.

    Raises:
        InputError: weights or a pooling are asked for, which it does not have.
    """
    if options.weights is not None or options.pooling is not None:
        raise InputError("encoder mean-color has no --weights and no --pooling; leave them out")
    return MeanColor()


ENCODERS = {SPEC.name: Registered(SPEC, load_mean_color, "the mean colour of nine fields of a picture")}
