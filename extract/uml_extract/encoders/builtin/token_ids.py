"""Texts as discrete tokens: ids of words or of a checkpoint's pieces, for `uml train --objective ssl`.

Shapes: B texts, T tokens of all of them.

An id is no feature: such a store has no pooled vectors, and its tokens (T, 1) are stored as int32. A network
that learns from it looks every id up in a table of its own and predicts the next one by cross-entropy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uml_extract.encoders.builtin.plain import PlainEncoder, refuse_options
from uml_extract.encoders.builtin.words import words
from uml_extract.encoders.hub import hub_model
from uml_extract.spec import Encoded, Encoder, EncoderOptions, EncoderSpec, Registered, SampleError

if TYPE_CHECKING:
    from uml_extract.encoders.tokens import Tokens
    from uml_manifests import Manifest

PLACES = 4096  # of `word-ids`; among a thousand different words some 220 share an id with another
_PREFIX = "token-ids"


class _Ids(PlainEncoder, ABC):
    """What both kinds share; subclasses add `ids`."""

    batch_size = 1024

    @abstractmethod
    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text."""

    def prepare(self, sample: Any) -> np.ndarray:
        ids = self.ids([sample])[0]
        if not ids:
            raise SampleError("the text holds no token")
        return np.array(ids, dtype=np.int32)

    def token_counts(self, manifest: Manifest) -> np.ndarray:
        counts = np.empty(len(manifest), dtype=np.int32)
        for at in range(0, len(manifest), self.batch_size):
            part = manifest.sources[at : at + self.batch_size]
            counts[at : at + self.batch_size] = [len(ids) for ids in self.ids(part)]
        return counts

    def encode(self, batch: Sequence[np.ndarray], *, tokens: bool = False) -> Encoded:
        lengths = np.array([len(ids) for ids in batch], dtype=np.int32)
        nothing = np.zeros((len(batch), 0), dtype=np.float32)
        return Encoded(nothing, np.concatenate(batch)[:, None], lengths)


class WordIds(_Ids):
    """Words and signs of a text in lower case, each hashed (BLAKE2b) to one of 4,096 ids."""

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The place of each word of each text in the hashed vocabulary."""
        return [[_place(word) for word in words(text)] for text in texts]


class TokenizerIds(_Ids):
    """A checkpoint's own tokens, special ones included; of the checkpoint its tokenizer alone is used."""

    def __init__(self, spec: EncoderSpec, tokens: Tokens) -> None:
        super().__init__(spec)
        self._tokens = tokens

    def cut(self, texts: Sequence[str]) -> int:
        """How many texts are longer than the tokenizer's longest input."""
        return self._tokens.cut(texts)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokenizer's ids of each text."""
        return self._tokens.ids(texts)


def _place(word: str) -> int:
    return int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little") % PLACES


def _load_words(spec: EncoderSpec, rest: str, options: EncoderOptions) -> Encoder:
    refuse_options(spec, options)
    return WordIds(spec)


def _load_tokenizer(spec: EncoderSpec, rest: str, options: EncoderOptions) -> Encoder:
    refuse_options(spec, options)
    if Path(rest).is_absolute():
        folder, revision = Path(rest), None
    else:
        found = hub_model(spec.name, spec.model, weights=False)
        folder, revision = found.folder, found.revision
    from uml_extract.encoders.pretrained import read_config
    from uml_extract.encoders.tokens import load_tokens

    tokens = load_tokens(spec.name, folder, read_config(spec.name, folder))
    # A folder's name alone would be that of the encoder in it.
    name = spec.name if spec.name.startswith(_PREFIX) else f"{_PREFIX}:{spec.name}"
    loaded = replace(
        spec, name=name, revision=revision, vocabulary=tokens.vocabulary, transform=tokens.description
    )
    return TokenizerIds(loaded, tokens)


_WORDS = EncoderSpec(
    name="word-ids",
    modality="text",
    library="numpy",
    model="word-ids-1",
    token_width=1,
    vocabulary=PLACES,
    pooling="none",
    transform={"lower": True, "unicode": "NFKC", "hash": "blake2b"},
    licence="Apache-2.0",
    parameters=0,
)
_TOKENIZER = EncoderSpec(
    name=f"{_PREFIX}:ID",
    modality="text",
    library="transformers",
    model="",
    token_width=1,
    pooling="none",
    parameters=0,
)
WORD_IDS = Registered(_WORDS, _load_words, "ids of words, hashed: discrete tokens for --objective ssl")
TOKENIZER_IDS = Registered(_TOKENIZER, _load_tokenizer, "ids by a checkpoint's tokenizer (transformers)")
