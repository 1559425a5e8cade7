"""Extraction: rows where they belong, failures flagged, resumed stores equal to uninterrupted ones."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from uml_cache import InputError, WorkError, open_features
from uml_extract import Encoded, Encoder, SampleError, extract, load_encoder, read_sample
from uml_extract.encoding.batching import encode_batch, probe_batch_size
from uml_extract.readers.prefetch import read_ahead
from uml_manifests import Manifest

MODALITIES = {
    "image": ("pictures", "pixels"),
    "text": ("texts", "hashed-ngrams"),
    "audio": ("sounds", "log-mel"),
}


def _stored_bytes(store: Path) -> dict[str, bytes]:
    """Every file but the journal, which holds times."""
    files = (path for path in store.rglob("*") if path.is_file() and path.parent.name != "journal")
    return {str(path.relative_to(store)): path.read_bytes() for path in files}


def _encode_all(encoder: Encoder, manifest: Manifest) -> Encoded:
    rate, seconds = encoder.input_rate, encoder.input_seconds
    rows = range(len(manifest))
    samples = [encoder.prepare(read_sample(manifest, row, rate=rate, seconds=seconds)) for row in rows]
    return encoder.encode(samples, tokens=True)


@pytest.mark.parametrize("modality", MODALITIES)
def test_row_i_is_sample_i(modality: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    fixture, name = MODALITIES[modality]
    manifest: Manifest = request.getfixturevalue(fixture)
    done = extract(manifest, name, out=tmp_path, tokens=True, dtype="float32", batch_size=7)
    assert (done.rows, done.failed, done.resumed_tasks) == (len(manifest), 0, 0)
    assert done.store == tmp_path / "toy" / modality / f"{name}@float32-tokens.zarr"
    features = open_features(done.store)
    expected = _encode_all(load_encoder(name), manifest)
    np.testing.assert_allclose(features.pooled, expected.pooled, atol=2e-6)
    values, offsets = features.tokens.packed(np.arange(len(manifest)))
    assert expected.lengths is not None
    np.testing.assert_array_equal(np.diff(offsets), expected.lengths)
    np.testing.assert_allclose(values, expected.tokens, atol=2e-6)
    assert list(features.id) == manifest.ids
    np.testing.assert_array_equal(features.label, manifest.labels)
    again = extract(manifest, name, out=tmp_path, tokens=True, dtype="float32")
    assert again.resumed_tasks == again.tasks == done.tasks
    assert again.rows_per_second == 0


def test_ragged_texts_are_sorted_and_put_back(tmp_path: Path, texts: Manifest, text_checkpoint: Any) -> None:
    encoder = load_encoder(str(text_checkpoint("gpt2")), device="cpu")
    features = open_features(
        extract(texts, encoder, out=tmp_path, tokens=True, dtype="float32", batch_size=8).store
    )
    for row in (0, 63, 64, 149):
        alone = encoder.encode([encoder.prepare(texts.sources[row])], tokens=True)
        np.testing.assert_allclose(features.pooled[row], alone.pooled[0], rtol=1e-4, atol=1e-5)
        values, _ = features.tokens.packed(np.array([row]))
        np.testing.assert_allclose(values, alone.tokens, rtol=1e-4, atol=1e-5)


def test_timm_store_names_its_variant(tmp_path: Path, pictures: Manifest, vision_checkpoint: Path) -> None:
    done = extract(pictures, str(vision_checkpoint), out=tmp_path, layer=1, pooling="mean", device="cpu")
    assert done.store.name == "tiny-vit@layer1-mean.zarr"
    features = open_features(done.store)
    assert features.encoder["layer"] == 1
    assert features.encoder["weights_digest"]
    assert features.dim == 24


def test_an_unreadable_sample_keeps_its_row(tmp_path: Path, pictures: Manifest) -> None:
    sources = list(pictures.sources)
    sources[70] = "absent.png"
    broken = replace(pictures, sources=sources)
    done = extract(broken, "pixels", out=tmp_path / "broken", tokens=True, dtype="float32", max_errors=1)
    whole = extract(pictures, "pixels", out=tmp_path / "whole", tokens=True, dtype="float32")
    assert done.failed == 1
    found, expected = open_features(done.store), open_features(whole.store)
    assert np.flatnonzero(found.status).tolist() == [70]
    assert not found.valid[70]
    assert not found.pooled[70].any()
    readable = np.flatnonzero(found.valid)
    np.testing.assert_array_equal(found.pooled[readable], expected.pooled[readable])
    values, offsets = found.tokens.packed(np.array([69, 70, 71]))
    assert np.diff(offsets).tolist() == [16, 16, 16]
    assert not values[16:32].any()
    np.testing.assert_array_equal(values[32:], expected.tokens.packed(np.array([71]))[0])
    record = json.loads((done.store / "journal" / "1.json").read_text())
    (failure,) = record["failed"]
    assert (failure["row"], failure["id"]) == (70, "s0070")
    assert "no such file" in failure["reason"]
    again = extract(broken, "pixels", out=tmp_path / "broken", tokens=True, dtype="float32", max_errors=1)
    assert again.failed == 1


def test_too_many_unreadable_samples_stop_the_work_and_keep_what_is_done(
    tmp_path: Path, pictures: Manifest
) -> None:
    sources = list(pictures.sources)
    for row in (3, 70, 80, 90):
        sources[row] = f"absent{row}.png"
    broken = replace(pictures, sources=sources)
    with pytest.raises(
        WorkError, match=r"2 unreadable .* allows 1 of 150; the first: s0003: .*s0070: no such"
    ) as error:
        extract(broken, "pixels", out=tmp_path / "a")  # 1 % of 150 is 1
    assert "\n" not in str(error.value)
    store = tmp_path / "a" / "toy" / "image" / "pixels.zarr"
    assert (store / "journal" / "0.json").exists()
    assert not (store / "journal" / "1.json").exists()
    with pytest.raises(WorkError, match="1 unreadable samples so far, --max-errors allows 0"):
        extract(broken, "pixels", out=tmp_path / "a", max_errors=0)
    done = extract(broken, "pixels", out=tmp_path / "a", max_errors=0.03)
    assert (done.failed, done.resumed_tasks) == (4, 1)
    straight = extract(broken, "pixels", out=tmp_path / "b", max_errors=4)
    assert _stored_bytes(done.store) == _stored_bytes(straight.store)


class _Interrupting:
    """An encoder that is interrupted after some batches, as by Ctrl-C."""

    def __init__(self, encoder: Encoder, batches: int) -> None:
        self.encoder, self.batches = encoder, batches

    def __getattr__(self, name: str) -> Any:
        return getattr(self.encoder, name)

    def encode(self, batch: Any, *, tokens: bool = False) -> Encoded:
        self.batches -= 1
        if self.batches < 0:
            raise KeyboardInterrupt
        return self.encoder.encode(batch, tokens=tokens)


@pytest.mark.parametrize("modality", MODALITIES)
def test_an_interrupted_store_goes_on_to_the_same_bytes(
    modality: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    fixture, name = MODALITIES[modality]
    manifest: Manifest = request.getfixturevalue(fixture)
    encoder: Any = _Interrupting(load_encoder(name), 5)
    with pytest.raises(KeyboardInterrupt):
        extract(manifest, encoder, out=tmp_path / "a", tokens=True, batch_size=20)
    assert threading.active_count() == 1 or not any(
        "reader" in thread.name for thread in threading.enumerate()
    )
    resumed = extract(manifest, name, out=tmp_path / "a", tokens=True)  # auto takes the store's batch size
    assert resumed.resumed_tasks == 1
    straight = extract(manifest, name, out=tmp_path / "b", tokens=True, batch_size=20)
    assert _stored_bytes(resumed.store) == _stored_bytes(straight.store)


def test_other_settings_are_refused(tmp_path: Path, texts: Manifest) -> None:
    extract(texts, "hashed-ngrams", out=tmp_path, batch_size=8)
    with pytest.raises(InputError, match="batch_size: 8, now 9"):
        extract(texts, "hashed-ngrams", out=tmp_path, batch_size=9)
    other = replace(texts, ids=[f"other {id}" for id in texts.ids])
    with pytest.raises(InputError, match="other data have this name"):
        extract(other, "hashed-ngrams", out=tmp_path)


def test_wrong_arguments(tmp_path: Path, texts: Manifest) -> None:
    with pytest.raises(InputError, match="encoder pixels takes image, data set 'toy' holds text"):
        extract(texts, "pixels", out=tmp_path)
    with pytest.raises(InputError, match="batch size is 0"):
        extract(texts, "hashed-ngrams", out=tmp_path, batch_size=0)
    with pytest.raises(InputError, match="unknown executor"):
        extract(texts, "hashed-ngrams", out=tmp_path, executor="cloud")
    with pytest.raises(InputError, match="slurm submits the command"):
        extract(texts, "hashed-ngrams", out=tmp_path, executor="slurm")
    with pytest.raises(InputError, match="did you mean hashed-ngrams"):
        extract(texts, "hashed-ngram", out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_sound_that_changed_since_planning_is_flagged(tmp_path: Path, sounds: Manifest) -> None:
    root = tmp_path / "data"
    root.mkdir()
    for row in range(3):
        soundfile.write(root / sounds.sources[row], np.zeros(8_000, np.float32), 16_000)
    manifest = replace(
        sounds,
        root=root,
        ids=sounds.ids[:3],
        sources=sounds.sources[:3],
        labels=sounds.labels[:3],
        splits=sounds.splits[:3],
    )

    class _Changing(_Interrupting):
        def token_counts(self, manifest: Manifest) -> np.ndarray:
            counts = self.encoder.token_counts(manifest)
            soundfile.write(root / manifest.sources[1], np.zeros(4_000, np.float32), 16_000)
            return counts

    encoder: Any = _Changing(load_encoder("log-mel"), 99)
    done = extract(manifest, encoder, out=tmp_path / "feats", tokens=True, max_errors=1)
    features = open_features(done.store)
    assert features.status.tolist() == [0, 1, 0]
    assert not features.pooled[1].any()


def test_read_ahead_keeps_order_and_bounds_what_waits() -> None:
    lock, started = threading.Lock(), [0]

    def prepare(row: int) -> np.ndarray:
        with lock:
            started[0] += 1
        if row % 5 == 3:
            raise SampleError(f"bad {row}")
        return np.array([row])

    taken = 0
    for row, sample in read_ahead(iter(range(40)), prepare, 6):
        assert row == taken
        assert isinstance(sample, SampleError) if row % 5 == 3 else sample[0] == row
        taken += 1
        assert started[0] <= taken + 6
    assert taken == 40
    with pytest.raises(ZeroDivisionError):  # a bug is no unreadable sample
        list(read_ahead(iter([0]), lambda row: np.array([1 // row]), 2))


class _Small:
    """An encoder whose device holds three samples."""

    device = "toy"

    def encode(self, batch: list[np.ndarray], *, tokens: bool = False) -> Encoded:
        import torch

        if len(batch) > 3:
            raise torch.OutOfMemoryError("too much")
        values = np.stack(batch)
        return Encoded(values, values, np.ones(len(batch), np.int32)) if tokens else Encoded(values)


def test_batches_are_halved_when_memory_runs_out() -> None:
    encoder: Any = _Small()
    batch = [np.full(2, row, np.float32) for row in range(11)]
    encoded = encode_batch(encoder, batch, tokens=True)
    np.testing.assert_array_equal(encoded.pooled, np.stack(batch))
    np.testing.assert_array_equal(encoded.tokens, np.stack(batch))
    assert encode_batch(encoder, batch, tokens=False).tokens is None
    assert probe_batch_size(encoder, batch[0], tokens=True) == 2
