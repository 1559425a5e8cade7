"""Encoders whose tokens are ids: what is stored, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from uml_cache import InputError, WorkError, open_features, verify
from uml_extract import extract, load_encoder
from uml_extract.encoders.builtin.token_ids import PLACES
from uml_manifests import Manifest


def test_words_become_ids_that_no_process_changes(texts: Manifest, tmp_path: Path) -> None:
    encoder = load_encoder("word-ids")
    one, other = (encoder.prepare(text).tolist() for text in ("A red dog!", "a dog: red"))
    assert one == [2112, 2317, 1081, 2623]
    assert (one[0], one[1], one[2]) == (other[0], other[3], other[1])
    done = extract(texts, "word-ids", out=tmp_path, tokens=True)
    assert verify(done.store).ok
    features = open_features(done.store)
    assert (features.vocabulary, features.info.dim, features.tokens.dtype) == (PLACES, None, torch.int32)
    for row in (0, 71, 149):
        values, _ = features.tokens.packed(np.array([row]))
        assert values[:, 0].tolist() == encoder.prepare(texts.sources[row]).tolist()
    with pytest.raises(InputError, match="add --tokens"):
        extract(texts, "word-ids", out=tmp_path)


def test_a_checkpoint_s_own_tokens(
    texts: Manifest, text_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    folder = text_checkpoint("bert")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    features = open_features(extract(texts, f"token-ids:{folder}", out=tmp_path, tokens=True).store)
    assert features.encoder_name == f"token-ids:{folder.name}"
    assert features.vocabulary == len(tokenizer)
    values, offsets = features.tokens.packed(np.arange(len(texts)))
    for row, text in enumerate(texts.sources):
        assert values[offsets[row] : offsets[row + 1], 0].tolist() == tokenizer(text)["input_ids"]


def test_a_text_without_words_is_flagged(texts: Manifest, tmp_path: Path) -> None:
    sources = ["a dog", "   ", "a cat"]
    manifest = replace(
        texts, ids=["a", "b", "c"], sources=sources, labels=texts.labels[:3], splits=texts.splits[:3]
    )
    done = extract(manifest, "word-ids", out=tmp_path, tokens=True, max_errors=1)
    features = open_features(done.store)
    assert features.valid.tolist() == [True, False, True]
    assert features.tokens.lengths.tolist() == [2, 0, 2]


def test_an_id_beyond_the_vocabulary_is_refused(texts: Manifest, tmp_path: Path) -> None:
    encoder = load_encoder("word-ids")
    encoder.spec = replace(encoder.spec, vocabulary=100)
    with pytest.raises(WorkError, match=r"sample 's0000': a token has the id \d+, which is not"):
        extract(texts, encoder, out=tmp_path, tokens=True)
