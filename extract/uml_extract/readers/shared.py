"""One sample for several encoders: read and decoded once, and prepared by each in its own way.

What each gets is what it would have got alone, to the last bit: large JPEGs are decoded at a part of their
size where an encoder says so (`read_image`), hence once for all encoders that see the same size; sounds are
decoded as far as the encoder that listens longest, and resampled for each.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from uml_extract.readers.rows import read_for, read_jointly
from uml_extract.spec import NO_MEMORY, Encoder, SampleError

if TYPE_CHECKING:
    from uml_manifests import Manifest

Key = tuple[int, tuple[int, ...]]
"""A row, and which encoders want it."""

_ALIGNED = 64  # bytes between the arrays of a packed sample: what processors load at once
_LENGTH = 8  # bytes that say how long the description is


def prepare_for(encoders: Sequence[Encoder], manifest: Manifest, row: int) -> np.ndarray:
    """The prepared samples of one row for several encoders, packed as (bytes,) uint8 for `unpacked`."""
    return _packed([_attempt(encoder, sample) for encoder, sample in _samples(encoders, manifest, row)])


def _samples(encoders: Sequence[Encoder], manifest: Manifest, row: int) -> Iterator[tuple[Encoder, Any]]:
    try:
        read = read_jointly(encoders, manifest, row)
    except (SampleError, MemoryError):
        # One encoder may look at less of the sample, and find it sound: each by itself, as it would alone.
        for encoder in encoders:
            try:
                yield encoder, read_for(encoder, manifest, row)
            except SampleError as error:
                yield encoder, error
            except MemoryError:
                yield encoder, SampleError(NO_MEMORY)
    else:
        yield from zip(encoders, read, strict=True)


def _attempt(encoder: Encoder, sample: Any) -> np.ndarray | SampleError:
    if isinstance(sample, SampleError):
        return sample
    try:
        return encoder.prepare(sample)
    except SampleError as error:
        return error
    except MemoryError:
        return SampleError(NO_MEMORY)


def _packed(prepared: Sequence[np.ndarray | SampleError]) -> np.ndarray:
    """The arrays one after the other behind a description of each: samples travel as one array."""
    words: list[Any] = []
    size = 0
    for one in prepared:
        if isinstance(one, SampleError):
            words.append(str(one))
        elif one.dtype.hasobject:  # rows of texts, which are prepared in this process
            words.append(one)
        else:
            words.append((one.dtype.str, one.shape, size))
            size += -(-one.nbytes // _ALIGNED) * _ALIGNED
    told = pickle.dumps(words)
    begin = -(-(_LENGTH + len(told)) // _ALIGNED) * _ALIGNED
    whole = np.empty(begin + size, np.uint8)
    whole[:_LENGTH] = np.frombuffer(len(told).to_bytes(_LENGTH, "little"), np.uint8)
    whole[_LENGTH : _LENGTH + len(told)] = np.frombuffer(told, np.uint8)
    for one, word in zip(prepared, words, strict=True):
        if isinstance(word, tuple):
            assert isinstance(one, np.ndarray)
            at = begin + word[2]
            whole[at : at + one.nbytes].view(one.dtype).reshape(one.shape)[...] = one
    return whole


def unpacked(
    wanted: Sequence[int], prepared: np.ndarray | SampleError
) -> Iterator[tuple[int, np.ndarray | SampleError]]:
    """Each encoder that wanted a sample, and what it gets: an array, or why there is none.

    `prepared` is what `prepare_for` packed, (bytes,) uint8, or with one encoder its sample, of any shape.
    """
    if isinstance(prepared, SampleError) or len(wanted) == 1:
        for at in wanted:
            yield at, prepared
        return
    length = int.from_bytes(prepared[:_LENGTH].tobytes(), "little")
    words = pickle.loads(prepared[_LENGTH : _LENGTH + length].tobytes())  # of this process or its child
    begin = -(-(_LENGTH + length) // _ALIGNED) * _ALIGNED
    for at, word in zip(wanted, words, strict=True):
        if isinstance(word, str):
            yield at, SampleError(word)
        elif isinstance(word, np.ndarray):
            yield at, word
        else:
            kind, shape, offset = np.dtype(word[0]), word[1], begin + word[2]
            count = int(np.prod(shape, dtype=np.int64))
            yield at, prepared[offset : offset + count * kind.itemsize].view(kind).reshape(shape)
