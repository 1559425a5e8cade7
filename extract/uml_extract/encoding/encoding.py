"""Encoding samples for whoever waits for them, without a store: what `uml predict` does.

Shapes: n samples of a part, D features, T tokens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Literal

import numpy as np

from uml_cache import Progress
from uml_extract.encoding.batching import batches, encode_batch
from uml_extract.readers import read_for
from uml_extract.readers.prefetch import Prepared, Reading, readers_for
from uml_extract.spec import Encoded, Encoder, SampleError, fitted

if TYPE_CHECKING:
    from uml_manifests import Manifest

_BATCHES_AHEAD = 3


@dataclass(frozen=True, eq=False)
class EncodedPart:
    """The samples of some rows: `rows` (n,) that could be read, in batches as they were encoded; of the
    others the reason why not."""

    rows: np.ndarray
    batches: tuple[Encoded, ...]
    failed: dict[int, str]


def encode_rows(
    manifest: Manifest,
    encoder: Encoder,
    parts: Sequence[range],
    *,
    tokens: bool = False,
    batch_size: int | Literal["auto"] = "auto",
    decode_workers: int | Literal["auto"] = "auto",
    progress: Progress | None = None,
) -> Generator[EncodedPart, None, None]:
    """Encode the rows of each part, and give it as soon as it is done. Later parts are read meanwhile.

    Args:
        tokens: encode tokens beside the pooled features.
        batch_size: samples in one forward pass; `auto` is the encoder's own.
        decode_workers: processes that decode pictures and sounds; `auto`: one for each core, 0: threads.
    """
    encoder = fitted(encoder, manifest)
    size = encoder.batch_size if batch_size == "auto" else batch_size
    ahead = 0 if manifest.modality == "text" else _BATCHES_AHEAD * size
    total = sum(map(len, parts))
    readers = readers_for(manifest, decode_workers, 1)

    def prepare(row: int) -> np.ndarray:
        return encoder.prepare(read_for(encoder, manifest, row))

    reading = Reading(prepare, ahead, readers, total)
    samples = reading.read(chain.from_iterable(parts))
    with contextlib.closing(reading), contextlib.closing(samples):
        for part in parts:
            failed: dict[int, str] = {}
            rows: list[int] = []
            encoded: list[Encoded] = []
            readable = _readable(islice(samples, len(part)), failed)
            for batch in batches(readable, size, ragged=encoder.ragged):
                rows += [row for row, _ in batch]
                encoded.append(encode_batch(encoder, [prepared for _, prepared in batch], tokens=tokens))
                if progress is not None:
                    progress.update(len(batch))
            if progress is not None:
                progress.update(len(failed))
            yield EncodedPart(np.array(rows, dtype=np.int64), tuple(encoded), failed)


def _readable(
    samples: Iterator[tuple[int, Prepared]], failed: dict[int, str]
) -> Iterator[tuple[int, np.ndarray]]:
    for row, prepared in samples:
        if isinstance(prepared, SampleError):
            failed[row] = str(prepared)
        else:
            yield row, prepared
