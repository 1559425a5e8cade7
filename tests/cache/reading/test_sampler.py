"""The sampler: which rows in which order."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uml_cache import InputError
from uml_cache.reading import Sampler

row_sets = st.sets(st.integers(0, 500), min_size=1, max_size=120).map(lambda rows: np.array(sorted(rows)))
orders = st.sampled_from(["shuffled", "sequential", "windowed"])
quick = settings(deadline=None, max_examples=60, derandomize=True)


@given(rows=row_sets, batch=st.integers(1, 50), order=orders, epoch=st.integers(0, 3))
@quick
def test_an_epoch_shows_every_row_once(rows: np.ndarray, batch: int, order: str, epoch: int) -> None:
    sampler = Sampler(rows=rows, batch_size=batch, order=order, block_rows=16, window_blocks=2)
    batches = list(sampler.batches(epoch))
    assert len(batches) == len(sampler)
    assert sorted(np.concatenate(batches).tolist()) == rows.tolist()
    assert all(len(some) == batch for some in batches[:-1])


@given(
    rows=row_sets,
    world=st.integers(1, 5),
    batch=st.integers(1, 20),
    order=st.sampled_from(["shuffled", "sequential", "windowed", "balanced"]),
    drop_last=st.booleans(),
)
@quick
def test_ranks_share_one_order(rows: np.ndarray, world: int, batch: int, order: str, drop_last: bool) -> None:
    options = {"rows": rows, "batch_size": batch, "order": order, "labels": np.arange(501) % 3}
    alone = Sampler(**options).epoch(4)
    ranks = [Sampler(**options, rank=rank, world=world, drop_last=drop_last) for rank in range(world)]
    parts = [sampler.epoch(4) for sampler in ranks]
    for sampler, part in zip(ranks, parts, strict=True):
        cuts = list(sampler.batches(4))
        assert len(cuts) == len(sampler)
        if not drop_last:
            assert sum(map(len, cuts)) == len(part)
        elif len(part) >= batch:
            assert all(len(cut) == batch for cut in cuts)
    for rank, part in enumerate(parts):
        assert part[: len(alone[rank::world])].tolist() == alone[rank::world].tolist()
    if order != "sequential":
        assert len({len(part) for part in parts}) == 1
    else:
        assert sorted(np.concatenate(parts).tolist()) == rows.tolist()


def test_the_order_depends_on_seed_modality_and_epoch_alone() -> None:
    def order(seed: int, modality: str, epoch: int) -> list[int]:
        return Sampler(rows=np.arange(50), batch_size=8, seed=seed, modality=modality).epoch(epoch).tolist()

    first = order(1, "image", 0)
    assert first == order(1, "image", 0)
    others = [order(2, "image", 0), order(1, "text", 0), order(1, "image", 1), order(0, "image", 1)]
    assert len({tuple(some) for some in [first, *others]}) == 5
    sampler = Sampler(rows=np.arange(50), batch_size=8, seed=1, modality="image")
    list(sampler.batches(7))
    assert sampler.epoch(0).tolist() == first


def test_the_order_is_pinned() -> None:
    sampler = Sampler(rows=np.arange(10), batch_size=4, seed=3, modality="audio")
    assert sampler.epoch(2).tolist() == [9, 2, 4, 3, 0, 5, 1, 6, 7, 8]


@given(rows=row_sets, classes=st.integers(1, 6), seed=st.integers(0, 9))
@quick
def test_balanced_rounds_hold_every_class_once(rows: np.ndarray, classes: int, seed: int) -> None:
    labels = np.minimum(np.arange(501) % 17, classes - 1)
    order = Sampler(rows=rows, batch_size=4, seed=seed, order="balanced", labels=labels).epoch(0)
    assert len(order) == len(rows)
    assert set(order.tolist()) <= set(rows.tolist())
    present = np.unique(labels[rows])
    for at in range(0, len(order) - len(present) + 1, len(present)):
        assert sorted(labels[order[at : at + len(present)]]) == present.tolist()
    for label in present:  # rows of a class are used up before one is used again
        used = Counter(order[labels[order] == label].tolist())
        assert max(used.values(), default=0) - min(used.values(), default=0) <= 1


def test_windows_are_whole_blocks_of_neighbours() -> None:
    sampler = Sampler(rows=np.arange(1000), batch_size=10, order="windowed", block_rows=50, window_blocks=4)
    order = sampler.epoch(0)
    windows = order.reshape(5, 200)
    for window in windows:
        assert len(np.unique(window // 50)) == 4
        assert (np.diff(window) != 1).mean() > 0.9
    assert not np.array_equal(np.sort(windows[0]), np.arange(200))


def test_a_set_smaller_than_a_batch_is_used_whole() -> None:
    sampler = Sampler(rows=np.array([4, 9]), batch_size=8, drop_last=True)
    assert [sorted(batch.tolist()) for batch in sampler.batches(0)] == [[4, 9]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rows": np.array([], int)}, "no rows"),
        ({"batch_size": 0}, "batch size of 0"),
        ({"order": "shufled"}, "did you mean shuffled"),
        ({"order": "balanced"}, "needs the labels"),
        ({"rank": 2, "world": 2}, "rank 2 does not exist among 2"),
        ({"seed": -1}, "a seed lies between"),
        ({"block_rows": 0}, "at least 1"),
    ],
)
def test_wrong_settings(change: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Sampler(**{"rows": np.arange(4), "batch_size": 2, **change})
