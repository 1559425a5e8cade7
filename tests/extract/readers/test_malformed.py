"""1,000 malformed samples and files: no traceback, no hang, and every sound row stays where it belongs."""

from __future__ import annotations

import io
import json
import shutil
import signal
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from uml_cache import InputError, WorkError, open_features, store_info, verify
from uml_extract import extract, load_encoder, read_sample
from uml_manifests import NO_SPLIT, Manifest, load_manifest, resolve_data, write_manifest

SECONDS = 10  # for one file; a hang would take for ever


@contextmanager
def _limit() -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError("one malformed file took too long")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def mutated(data: bytes, generator: np.random.Generator) -> bytes:
    """Cut off, overwritten in places, with a piece left out, doubled, or zeroed."""
    kind = generator.integers(6)
    at, end = sorted(generator.integers(0, len(data) + 1, 2).tolist())
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + data[end:]
    if kind == 2:
        return data[:end] + data[at:]
    if kind == 3:
        return data[:at] + bytes(end - at) + data[end:]
    changed = bytearray(data)
    early = kind == 4  # headers are where parsers trip
    for place in generator.integers(0, min(64, len(data)) if early else len(data), 1 + generator.integers(4)):
        changed[place] = generator.integers(256)
    return bytes(changed)


def _picture(kind: str) -> bytes:
    y, x = np.mgrid[:24, :32]
    values = np.stack([x * 7, y * 9, x + y], axis=2).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, kind)
    return stream.getvalue()


def _sound(kind: str) -> bytes:
    values = 0.3 * np.sin(np.arange(1600) / 9).astype(np.float32)
    stream = io.BytesIO()
    if kind == "FLAC":
        soundfile.write(stream, values, 16_000, format="FLAC")
        return stream.getvalue()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((values * 32767).astype("<i2").tobytes())
    return stream.getvalue()


@pytest.mark.parametrize(
    ("modality", "kind", "count", "encoder"),
    [
        ("image", "PNG", 200, "pixels"),
        ("image", "JPEG", 200, "pixels"),
        ("audio", "WAV", 150, "log-mel"),
        ("audio", "FLAC", 100, "log-mel"),
    ],
)
def test_malformed_samples_are_flagged_and_leave_the_others_alone(
    modality: str, kind: str, count: int, encoder: str, tmp_path: Path
) -> None:
    generator = np.random.Generator(np.random.Philox(len(kind) + ord(kind[0])))
    sound = _picture(kind) if modality == "image" else _sound(kind)
    sources = [f"{row}.{kind.lower()}" for row in range(count + count // 4)]
    bad = np.arange(len(sources)) % 5 != 2
    for row, name in enumerate(sources):
        (tmp_path / name).write_bytes(mutated(sound, generator) if bad[row] else sound)
    assert bad.sum() == count
    manifest = Manifest(
        name="toy",
        modality=modality,
        classes=("all",),
        root=tmp_path,
        ids=[str(row) for row in range(len(sources))],
        sources=sources,
        labels=np.zeros(len(sources), np.int32),
        splits=np.full(len(sources), NO_SPLIT, np.uint8),
    )
    with _limit():
        done = extract(manifest, encoder, out=tmp_path / "feats", tokens=True, max_errors=count)
    features = open_features(done.store)
    assert features.valid[~bad].all()
    assert done.failed >= count // 4
    assert {sample.row for sample in store_info(done.store).failed()} == set(np.flatnonzero(~features.valid))
    loaded = load_encoder(encoder)
    first = int(np.flatnonzero(~bad)[0])
    sample = read_sample(manifest, first, rate=loaded.input_rate, seconds=loaded.input_seconds)
    alone = loaded.encode([loaded.prepare(sample)], tokens=True)
    good = features.pooled[np.flatnonzero(~bad)].float().numpy()
    np.testing.assert_allclose(good, np.repeat(alone.pooled, len(good), 0), atol=2e-2, rtol=2e-3)
    assert not features.pooled[np.flatnonzero(~features.valid)].any()
    assert np.isfinite(features.pooled.float().numpy()).all()


def _refused(work: Callable[[], object]) -> bool:
    """Whether `work` was refused by a one-line error for people; any other error comes through."""
    try:
        with _limit():
            work()
    except (InputError, WorkError):
        return True
    return False


def test_malformed_tables_and_manifests(texts: Manifest, tmp_path: Path) -> None:
    generator = np.random.Generator(np.random.Philox(11))
    folder = write_manifest(texts, tmp_path / "manifest")
    csv = tmp_path / "table.csv"
    rows = [f'n{row},"text {row}, with a comma",{"odd" if row % 2 else "even"},train' for row in range(9)]
    table = "\n".join(["id,text,label,split", *rows, ""]).encode()
    refused = 0
    for _ in range(100):
        csv.write_bytes(mutated(table, generator))
        refused += _refused(lambda: resolve_data(csv, modality="text"))
    for name in ("dataset.toml", "samples.csv"):
        whole = (folder / name).read_bytes()
        for _ in range(50):
            (folder / name).write_bytes(mutated(whole, generator))
            refused += _refused(lambda: load_manifest(folder))
        (folder / name).write_bytes(whole)
    assert refused > 60
    assert load_manifest(folder).digest == texts.digest


def test_malformed_descriptions(tmp_path: Path, texts: Manifest) -> None:
    from uml_manifests import description_manifest

    generator = np.random.Generator(np.random.Philox(12))
    file = tmp_path / "descriptions.json"
    whole = json.dumps({"even": ["a text", "another"], "odd": ["ein Satz, größer"]}).encode()
    refused = 0
    for _ in range(75):
        file.write_bytes(mutated(whole, generator))
        refused += _refused(lambda: description_manifest(texts, file))
    assert refused > 30


def _same_record(damaged: bytes, whole: bytes) -> bool:
    """A journal record stays sound when nothing but its white space changed."""
    try:
        return "sha256" in json.loads(whole) and json.loads(damaged) == json.loads(whole)
    except ValueError:
        return False


def test_damaged_metadata_and_journals_are_never_read_as_sound(pictures: Manifest, tmp_path: Path) -> None:
    generator = np.random.Generator(np.random.Philox(13))
    store = extract(pictures, "pixels", out=tmp_path / "a", tokens=True).store
    whole = open_features(store)
    pooled, classes, ids = whole.pooled.clone(), whole.classes, whole.id
    tokens = whole.tokens.packed(np.arange(len(whole)))[0].clone()
    files = [*sorted(store.rglob("zarr.json")), *sorted(store.glob("journal/*.json"))]
    copy = tmp_path / "b" / store.relative_to(tmp_path / "a")
    refused = 0
    for at in range(75):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(store, copy)
        path = copy / files[at % len(files)].relative_to(store)
        damaged = mutated(path.read_bytes(), generator)
        changed = damaged != path.read_bytes() and not _same_record(damaged, path.read_bytes())
        path.write_bytes(damaged)

        def read() -> None:
            features = open_features(copy)
            assert features.classes == classes
            assert features.id == ids
            assert (features.pooled == pooled).all()
            assert (features.tokens.packed(np.arange(len(features)))[0] == tokens).all()

        refused += _refused(read)
        assert _refused(lambda: store_info(copy)) in (True, False)
        if not _refused(lambda: verify(copy)):
            assert verify(copy).ok is not changed
        if not _refused(lambda: extract(pictures, "pixels", out=tmp_path / "b", tokens=True)):
            read()
            assert verify(copy).ok
    assert refused > 60
