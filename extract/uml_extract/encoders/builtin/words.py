"""A text encoder without weights: `hashed-ngrams`, words and pieces of words hashed into 256 places.

Shapes: B texts, W words of a text, D = 256 features.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from uml_extract.encoders.builtin.plain import PlainEncoder, refuse_options
from uml_extract.spec import Encoded, EncoderOptions, EncoderSpec

if TYPE_CHECKING:
    from uml_manifests import Manifest

WIDTH = 256
NGRAMS = (3, 4, 5)
# A word is a run of letters and digits, or one other visible character (so that ":-)" is not nothing).
_WORD = re.compile(r"\w+|[^\w\s]")


def words(text: str) -> list[str]:
    """The words of a text in lower case, compatibility forms unified (NFKC)."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower())


class HashedNgrams(PlainEncoder):
    """Signed feature hashing of words, pairs of words and character n-grams; unit norm.

    A word's vector has two halves of equal weight: the word itself, and its 3- to 5-grams with the word's
    ends marked (so that `pup` and `puppy` meet). A text is the sum of its words and, at half weight, of its
    pairs of neighbours, normalised; its tokens are the normalised words. The hash is BLAKE2b: the same
    everywhere.
    """

    batch_size = 256

    def prepare(self, sample: Any) -> np.ndarray:
        """The words (n,) of a text: strings, dtype object."""
        return np.array(words(sample), dtype=object)

    def token_counts(self, manifest: Manifest) -> np.ndarray:
        """(N,) int32 words of each text."""
        return np.fromiter((len(words(text)) for text in manifest.sources), np.int32, len(manifest))

    def encode(self, batch: Sequence[np.ndarray], *, tokens: bool = False) -> Encoded:
        """Hashed n-grams (B, D) float32, and with `tokens` word by word."""
        lengths = np.array([len(text) for text in batch], dtype=np.int32)
        vectors = np.stack([_word_vector(word) for text in batch for word in text])
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        pooled = np.add.reduceat(vectors, starts, axis=0)
        for row, text in enumerate(batch):
            for left, right in pairwise(text):
                place, sign = _hash(f"{left} {right}")
                pooled[row, place] += 0.5 * sign
        pooled = _unit(pooled)
        return Encoded(pooled, _unit(vectors), lengths) if tokens else Encoded(pooled)


@lru_cache(maxsize=1 << 16)
def _hash(piece: str) -> tuple[int, int]:
    """A place below WIDTH and a sign, by a hash that no process, machine or version changes."""
    number = int.from_bytes(blake2b(piece.encode(), digest_size=8).digest(), "little")
    return number % WIDTH, 1 - 2 * (number >> 63)


@lru_cache(maxsize=1 << 14)
def _word_vector(word: str) -> np.ndarray:
    """(256,) float32."""
    pieces = np.zeros(WIDTH, dtype=np.float32)
    marked = f"<{word}>"
    for size in NGRAMS:
        for at in range(len(marked) - size + 1):
            place, sign = _hash(f"{size}:{marked[at : at + size]}")
            pieces[place] += sign
    vector = _unit(pieces[None])[0]
    place, sign = _hash(word)
    vector[place] += sign
    vector.setflags(write=False)
    return vector


def _unit(rows: np.ndarray) -> np.ndarray:
    # Hashes of opposite sign may cancel a short text to nothing; it then stays zero.
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-6))


NGRAMS_SPEC = EncoderSpec(
    name="hashed-ngrams",
    modality="text",
    library="numpy",
    model="hashed-ngrams-1",
    width=WIDTH,
    token_width=WIDTH,
    pooling="sum",
    transform={
        "lower": True,
        "unicode": "NFKC",
        "words": [1, 2],
        "characters": list(NGRAMS),
        "hash": "blake2b",
    },
    licence="Apache-2.0",
    parameters=0,
)


def load_hashed_ngrams(spec: EncoderSpec, rest: str, options: EncoderOptions) -> HashedNgrams:
    """The `hashed-ngrams` encoder; it has no options."""
    refuse_options(spec, options)
    return HashedNgrams(spec)
