"""The encoder `identity`: features that exist already, stored as they are.

Shapes: B samples, D features, t tokens of one sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from uml_cache import InputError
from uml_extract.encoders.builtin.plain import PlainEncoder, refuse_options
from uml_extract.readers.members import array_dtype, row_length, row_shape
from uml_extract.spec import Encoded, EncoderOptions, EncoderSpec, SampleError

if TYPE_CHECKING:
    from uml_manifests import Manifest


class Identity(PlainEncoder):
    """A row (D,) is its own feature; a row (t, D) is t tokens, pooled by their mean. Made by `for_data`.

    In files that say so (`uml_extract.readers.members`) t differs from row to row.
    """

    batch_size = 1024

    def for_data(self, manifest: Manifest) -> Identity:
        """The encoder for one data set's width; `InputError` if its arrays have no usable shape, or two."""
        seen = {source.rpartition("::")[0]: row for row, source in enumerate(manifest.sources)}
        try:
            shapes = {row_shape(manifest.path(row)) for row in seen.values()}
            kinds = {array_dtype(manifest.path(row)) for row in seen.values()}
        except (OSError, KeyError, ValueError) as error:
            said = " ".join(str(error).split())
            raise InputError(f"data set {manifest.name!r}: its arrays cannot be read ({said})") from None
        if len(shapes) > 1 or any(len(shape) not in (1, 2) or 0 in shape for shape in shapes):
            shown = ", ".join(sorted(map(str, shapes)))
            raise InputError(
                f"data set {manifest.name!r}: encoder identity takes rows of one shape, (width,) or "
                f"(tokens, width); these are {shown}"
            )
        shape = next(iter(shapes))
        width = int(shape[-1] or 0)
        made = Identity(replace(self.spec, width=width, token_width=width if len(shape) == 2 else None))
        made._shape = shape
        made.own_dtype = "float16" if kinds == {np.dtype(np.float16)} else "float32"
        return made

    _shape: tuple[int | None, ...] = ()
    own_dtype = "float32"  # of the arrays: what they are stored as, unless someone asks for less

    def prepare(self, sample: Any) -> np.ndarray:
        """The row (D,) or (t, D) as it is, of any dtype. `SampleError`: not the data set's shape."""
        if sample.shape[-1:] != self._shape[-1:] or (None not in self._shape and sample.shape != self._shape):
            raise SampleError(f"has shape {sample.shape} where {self._shape} is expected")
        if not len(sample):
            raise SampleError("has no steps")
        return sample

    def token_counts(self, manifest: Manifest) -> np.ndarray:
        """(N,) int32 steps of each row.

        Raises:
            InputError: the rows are vectors.
        """
        if len(self._shape) != 2:
            raise InputError(f"data set {manifest.name!r}: its rows are vectors, they have no tokens")
        return np.array([row_length(manifest.path(row)) for row in range(len(manifest))], np.int32)

    def encode(self, batch: Sequence[np.ndarray], *, tokens: bool = False) -> Encoded:
        """Rows as features (B, D) float32; of rows (t, D) the mean, and with `tokens` the steps."""
        if batch[0].ndim == 1:
            return Encoded(np.stack(batch))
        pooled = np.stack([sample.mean(axis=0) for sample in batch])
        if not tokens:
            return Encoded(pooled)
        lengths = np.array([len(sample) for sample in batch], np.int32)
        return Encoded(pooled, np.concatenate(batch), lengths)


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
