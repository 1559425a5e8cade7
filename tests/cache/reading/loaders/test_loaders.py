"""Loaders: the same batches whichever is taken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uml_cache import InputError, open_features
from uml_cache.reading import Batch, DeviceLoader, HostLoader, Sampler, StreamLoader, make_loader
from uml_cache.reading.loaders import choose


def copied(batches: Any) -> list[Batch]:
    """Batches with memory of their own."""
    return [
        Batch(
            batch.rows.copy(),
            batch.values.cpu().clone(),
            batch.labels.cpu().clone(),
            None if batch.offsets is None else batch.offsets.cpu().clone(),
        )
        for batch in batches
    ]


def expected(made: Any, rows: np.ndarray, part: str) -> np.ndarray:
    pooled, tokens = made.pooled.astype(np.float16), made.tokens.astype(np.float16)
    ends = np.concatenate([[0], np.cumsum(made.plan.token_counts)])
    pooled[made.status != 0] = 0
    for row in np.flatnonzero(made.status):
        tokens[ends[row] : ends[row + 1]] = 0
    if part == "pooled":
        return pooled[rows]
    return np.concatenate([tokens[ends[row] : ends[row + 1]] for row in rows])


def check(made: Any, sampler: Sampler, batches: list[Batch], part: str, epoch: int) -> None:
    assert len(batches) == len(sampler)
    for rows, batch in zip(sampler.batches(epoch), batches, strict=True):
        assert np.array_equal(batch.rows, rows)
        assert np.array_equal(batch.values.numpy(), expected(made, rows, part))
        assert np.array_equal(batch.labels.numpy(), made.plan.labels[rows])
        if part == "pooled":
            assert batch.offsets is None
        else:
            assert np.array_equal(np.diff(batch.offsets.numpy()), made.plan.token_counts[rows])


@given(
    rows=st.lists(st.integers(0, 299), min_size=1, max_size=60).map(np.array),
    batch=st.integers(1, 20),
    order=st.sampled_from(["shuffled", "sequential", "balanced", "windowed"]),
    access=st.sampled_from(["auto", "memory", "zarr"]),
    part=st.sampled_from(["pooled", "tokens"]),
    window=st.integers(1, 5000),
)
@settings(deadline=None, max_examples=40, derandomize=True)
def test_all_loaders_give_the_same_batches(
    sealed: Any, rows: np.ndarray, batch: int, order: str, access: str, part: str, window: int
) -> None:
    features = open_features(sealed.path, access=access)
    sampler = Sampler(
        rows=rows,
        batch_size=batch,
        seed=5,
        order=order,
        labels=features.label,
        block_rows=64,
        window_blocks=2,
    )
    for loader in (
        DeviceLoader(features, sampler, part=part),
        HostLoader(features, sampler, part=part),
        StreamLoader(features, sampler, part=part, window_bytes=window),
    ):
        check(sealed, sampler, copied(loader.epoch(1)), part, 1)


@pytest.mark.parametrize("kind", ["device", "host", "stream"])
@pytest.mark.parametrize("part", ["pooled", "tokens"])
def test_values_in_another_dtype(sealed: Any, kind: str, part: str) -> None:
    features = open_features(sealed.path)
    sampler = Sampler(rows=features.rows(), batch_size=64)
    loader = make_loader(features, sampler, part=part, kind=kind, dtype=torch.float32)
    for batch in loader.epoch(0):
        assert batch.values.dtype == torch.float32
        assert np.array_equal(batch.values.numpy(), expected(sealed, batch.rows, part).astype(np.float32))


@pytest.mark.parametrize("kind", ["device", "host", "stream"])
def test_memory_is_used_again(sealed: Any, kind: str) -> None:
    features = open_features(sealed.path)
    loader = make_loader(features, Sampler(rows=features.rows(), batch_size=32), kind=kind)
    places = {batch.values.data_ptr() for epoch in range(2) for batch in loader.epoch(epoch)}
    assert len(places) == (2 if kind == "stream" else 1)  # a stream has one buffer an epoch


def test_the_callers_threads_come_back(sealed: Any) -> None:
    features = open_features(sealed.path)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        loader = HostLoader(features, Sampler(rows=features.rows(), batch_size=32), threads=1)
        for _ in loader.epoch(0):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_an_epoch_may_be_left_early(sealed: Any) -> None:
    features = open_features(sealed.path, access="zarr")
    loader = StreamLoader(features, Sampler(rows=features.rows(), batch_size=8), window_bytes=1)
    first = next(iter(loader.epoch(0)))
    assert len(first.values) == 8


def test_the_loader_is_chosen_by_size(sealed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    features = open_features(sealed.path)
    sampler = Sampler(rows=features.rows(), batch_size=8)
    assert isinstance(make_loader(features, sampler), HostLoader)
    monkeypatch.setattr(choose, "memory_bytes", lambda: 100 * 100)
    assert isinstance(make_loader(features, sampler), StreamLoader)
    assert isinstance(make_loader(features, Sampler(rows=np.arange(3), batch_size=8)), HostLoader)


def test_wrong_names(sealed: Any) -> None:
    features = open_features(sealed.path)
    sampler = Sampler(rows=features.rows(), batch_size=8)
    with pytest.raises(InputError, match="unknown loader 'hosts'; did you mean host"):
        make_loader(features, sampler, kind="hosts")
    with pytest.raises(InputError, match="unknown part 'token'; did you mean tokens"):
        make_loader(features, sampler, part="token")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", ["device", "host", "stream"])
@pytest.mark.parametrize("part", ["pooled", "tokens"])
def test_batches_on_cuda(sealed: Any, kind: str, part: str) -> None:
    features = open_features(sealed.path)
    sampler = Sampler(rows=features.rows(), batch_size=16)
    loader = make_loader(features, sampler, part=part, device="cuda", kind=kind)
    for epoch in range(3):
        check(sealed, sampler, copied(loader.epoch(epoch)), part, epoch)
