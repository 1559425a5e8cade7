"""Batches that fit the device: one size found before extraction, halved should memory run out all the same.

Shapes: B samples of a batch.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import numpy as np

from uml_cache import WorkError
from uml_extract.spec import Encoded, Encoder

LARGEST = 256


def probe_batch_size(encoder: Encoder, sample: np.ndarray, tokens: bool) -> int:
    """The largest power of two up to 256 at which `sample`, repeated, fits the device's memory.

    Args:
        sample: what `encoder.prepare` gave, of any shape and dtype.
    """
    size = LARGEST
    while size > 1:
        try:
            encoder.encode([sample] * size, tokens=tokens)
            return size
        except Exception as error:
            if not _out_of_memory(error):
                raise
        size //= 2
    return size


def batches(
    samples: Iterator[tuple[int, np.ndarray]], size: int, *, ragged: bool
) -> Iterator[list[tuple[int, np.ndarray]]]:
    """Batches of pairs of a row and its prepared sample, of any shape and dtype; of like length where samples
    differ."""
    if ragged:
        readable = sorted(samples, key=lambda item: len(item[1]))  # stable, so always the same batches
        for at in range(0, len(readable), size):
            yield readable[at : at + size]
        return
    batch = []
    for item in samples:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def encode_batch(encoder: Encoder, batch: Sequence[np.ndarray], *, tokens: bool) -> Encoded:
    """`encoder.encode`, in halves where the device has no memory for the whole.

    Args:
        batch: B prepared samples, of any shape and dtype.

    Raises:
        WorkError: one sample is too much.
    """
    try:
        return encoder.encode(batch, tokens=tokens)
    except Exception as error:
        if not _out_of_memory(error):
            raise
        if len(batch) == 1:
            raise WorkError(
                f"{encoder.device} has too little memory for one sample of {encoder.spec.name}"
            ) from None
    half = len(batch) // 2
    first = encode_batch(encoder, batch[:half], tokens=tokens)
    second = encode_batch(encoder, batch[half:], tokens=tokens)
    pooled = np.concatenate([first.pooled, second.pooled])
    if first.tokens is None or second.tokens is None or first.lengths is None or second.lengths is None:
        return Encoded(pooled)
    return Encoded(
        pooled,
        np.concatenate([first.tokens, second.tokens]),
        np.concatenate([first.lengths, second.lengths]),
    )


def _out_of_memory(error: Exception) -> bool:
    torch = sys.modules.get("torch")  # whoever ran out of its memory has imported it
    if torch is None or not isinstance(error, torch.OutOfMemoryError):
        return False
    torch.cuda.empty_cache()
    return True
