"""The encoder `identity`: features that exist already, stored as they are.

Shapes: B samples, D features, t tokens of one sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from uml_cache.errors import InputError
from uml_extract.encoders.plain import PlainEncoder, refuse_options
from uml_extract.members import row_shape
from uml_extract.spec import Encoded, EncoderOptions, EncoderSpec, SampleError

if TYPE_CHECKING:
    from uml_manifests import Manifest


class Identity(PlainEncoder):
    """A row (D,) is its own feature; a row (t, D) is t tokens, pooled by their mean. Made by `for_data`."""

    batch_size = 1024

    def for_data(self, manifest: Manifest) -> Identity:
        """The encoder for one data set's width; `InputError` if its arrays have no usable shape, or two."""
        seen = {source.rpartition("::")[0]: row for row, source in enumerate(manifest.sources)}
        shapes = {row_shape(manifest.path(row)) for row in seen.values()}
        if len(shapes) > 1 or any(len(shape) not in (1, 2) or 0 in shape for shape in shapes):
            shown = ", ".join(map(str, sorted(shapes)))
            raise InputError(
                f"data set {manifest.name!r}: encoder identity takes rows of one shape, (width,) or "
                f"(tokens, width); these are {shown}"
            )
        shape = next(iter(shapes))
        token_width = shape[-1] if len(shape) == 2 else None
        made = Identity(replace(self.spec, width=shape[-1], token_width=token_width))
        made._shape = shape
        return made

    _shape: tuple[int, ...] = ()

    def prepare(self, sample: Any) -> np.ndarray:
        if sample.shape != self._shape:
            raise SampleError(f"has shape {sample.shape} where {self._shape} is expected")
        return sample

    def token_counts(self, manifest: Manifest) -> np.ndarray:
        if len(self._shape) != 2:
            raise InputError(f"data set {manifest.name!r}: its rows are vectors, they have no tokens")
        return np.full(len(manifest), self._shape[0], np.int32)

    def encode(self, batch: Sequence[np.ndarray], *, tokens: bool = False) -> Encoded:
        values = np.stack(batch)
        if values.ndim == 2:
            return Encoded(values)
        pooled = values.mean(axis=1)
        if not tokens:
            return Encoded(pooled)
        lengths = np.full(len(batch), values.shape[1], np.int32)
        return Encoded(pooled, values.reshape(-1, values.shape[2]), lengths)


IDENTITY_SPEC = EncoderSpec(
    name="identity",
    modality="array",
    library="numpy",
    model="identity",
    pooling="mean",
    licence="Apache-2.0",
    parameters=0,
)


def load_identity(spec: EncoderSpec, rest: str, options: EncoderOptions) -> Identity:
    """The `identity` encoder; it has no options."""
    refuse_options(spec, options)
    return Identity(spec)
