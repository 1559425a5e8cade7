"""Reading stores: the same values by every access, and no zeros in place of what is missing."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr

from uml_cache import InputError, WorkError, find_stores, open_features
from uml_cache.reading import mapping as mapping_module

Maker = Callable[..., Any]
linux = pytest.mark.skipif(sys.platform != "linux", reason="mapping is for Linux")


def expected_pooled(made: Any) -> np.ndarray:
    values = made.pooled.astype(np.float16)
    values[made.status != 0] = 0
    return values


@pytest.mark.parametrize("access", ["auto", "memory", "zarr"])
def test_every_access_gives_the_same(sealed: Any, access: str) -> None:
    features = open_features(sealed.path, access=access)
    assert features.pooled.dtype == torch.float16
    assert np.array_equal(features.pooled.numpy(), expected_pooled(sealed))
    assert np.array_equal(features.label, sealed.plan.labels)
    assert np.array_equal(features.split, sealed.plan.splits)
    assert np.array_equal(features.status, sealed.status)
    assert features.id == sealed.plan.ids
    assert features.groups == sealed.plan.groups
    assert features.classes == ("cat", "dog", "Hündin")
    assert (features.dataset, features.modality, features.set) == ("pets", "image", None)
    assert (features.encoder_name, features.dim, len(features)) == ("hf:org/net", 32, 300)
    assert features.fingerprint == sealed.store.fingerprint
    rows = torch.tensor([299, 0, 0, 64, 63, 65, 130])
    out = torch.empty((len(rows), 32), dtype=torch.float16)
    features.source.read(rows, out)
    assert np.array_equal(out.numpy(), expected_pooled(sealed)[rows.numpy()])


def test_failed_rows_are_left_out_unless_asked_for(sealed: Any) -> None:
    features = open_features(sealed.path)
    assert set(range(300)) - set(features.rows().tolist()) == {5, 290}
    assert len(features.rows(failed=True)) == 300
    val = features.rows("val")
    assert np.array_equal(val, np.flatnonzero((sealed.plan.splits == 1) & (sealed.status == 0)))
    with pytest.raises(InputError, match=r"unknown split 'vall'; did you mean val\?"):
        features.rows("vall")


def maps_of(path: Path) -> int:
    return sum(str(path) in line for line in Path("/proc/self/maps").read_text().splitlines())


@linux
def test_mapped_memory_lives_and_dies_with_the_tensor(sealed: Any) -> None:
    gc.collect()
    before = maps_of(sealed.path)
    features = open_features(sealed.path, access="mapped", advice="random")
    assert (features.access, features.tokens.access) == ("mapped", "mapped")
    row = features.pooled[7]
    del features
    gc.collect()
    assert maps_of(sealed.path) > before
    assert np.array_equal(row.numpy(), expected_pooled(sealed)[7])
    del row
    gc.collect()
    assert maps_of(sealed.path) == before


@linux
def test_writing_to_the_tensor_never_reaches_the_file(sealed: Any) -> None:
    features = open_features(sealed.path, access="mapped")
    features.pooled.zero_()
    again = open_features(sealed.path, access="mapped")
    assert np.array_equal(again.pooled.numpy(), expected_pooled(sealed))


def test_shards_that_are_not_whole_pages_are_read(maker: Maker) -> None:
    made = maker(dim=3, token_dim=None).fill()
    features = open_features(made.path)
    assert features.access == "memory"
    assert np.array_equal(features.pooled.numpy(), expected_pooled(made))
    with pytest.raises(InputError, match="not whole pages"):
        open_features(made.path, access="mapped")


def test_other_systems_read_into_memory(sealed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapping_module.sys, "platform", "darwin")
    features = open_features(sealed.path)
    assert (features.access, features.tokens.access) == ("memory", "memory")
    assert np.array_equal(features.pooled.numpy(), expected_pooled(sealed))


def test_a_store_of_tokens_only(maker: Maker) -> None:
    made = maker(dim=None).fill()
    features = open_features(made.path)
    assert features.dim == 32
    values, offsets = features.tokens.packed(np.arange(300))
    assert np.array_equal(values.numpy(), made.tokens.astype(np.float16))
    assert offsets[-1] == made.plan.token_counts.sum()
    with pytest.raises(InputError, match="no pooled features"):
        _ = features.pooled


def test_packing_into_reused_memory(sealed: Any) -> None:
    tokens = open_features(sealed.path).tokens
    buffer = torch.empty((400, 32), dtype=torch.float16)
    values, offsets = tokens.packed(np.array([4, 9, 4]), out=buffer)
    assert values.data_ptr() == buffer.data_ptr()
    assert len(values) == offsets[-1] == 2 * tokens.lengths[4] + tokens.lengths[9]
    nothing, ends = tokens.packed(np.array([], np.int64))
    assert nothing.shape == (0, 32)
    assert ends.tolist() == [0]


@pytest.mark.parametrize("access", ["auto", "memory", "zarr"])
@pytest.mark.parametrize("file", ["pooled/c/2/0", "tokens/values/c/0/0", "status/c/4", "label/c/0"])
def test_a_missing_shard_is_named_and_never_zeros(maker: Maker, access: str, file: str) -> None:
    made = maker().fill()
    (made.path / file).unlink()
    with pytest.raises(WorkError, match=f"{file} is missing"):
        open_features(made.path, access=access)


def test_a_cut_shard_is_named(maker: Maker) -> None:
    made = maker().fill()
    shard = made.path / "pooled/c/1/0"
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(WorkError, match="pooled/c/1/0 has"):
        open_features(made.path)


def test_a_damaged_index_is_named(maker: Maker) -> None:
    made = maker().fill()
    shard = made.path / "pooled/c/1/0"
    content = bytearray(shard.read_bytes())
    content[-6] ^= 4
    shard.write_bytes(content)
    with pytest.raises(WorkError, match=r"pooled/c/1/0 is damaged"):
        open_features(made.path)


def test_unsealed_stores_say_how_to_finish(maker: Maker) -> None:
    made = maker().fill([0, 1])
    with pytest.raises(InputError, match=r"not finished \(2 of 5 tasks\): run the same `uml extract`"):
        open_features(made.path)


def test_paths_that_are_no_store(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no store at"):
        open_features(tmp_path / "none.zarr")
    with pytest.raises(InputError, match="is no feature store"):
        open_features(tmp_path)
    zarr.create_group(tmp_path / "empty.zarr")
    with pytest.raises(InputError, match="neither an array `pooled` nor tokens"):
        open_features(tmp_path / "empty.zarr")
    with pytest.raises(InputError, match="unknown access 'mmap'"):
        open_features(tmp_path, access="mmap")


@pytest.mark.parametrize("compressed", [True, False])
def test_foreign_stores_are_read_through_zarr(tmp_path: Path, compressed: bool) -> None:
    values = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    path = tmp_path / "birds" / "image" / "net.zarr"
    group = zarr.create_group(path)
    options = {} if compressed else {"compressors": None}
    group.create_array("pooled", data=values, chunks=(20, 6), **options)
    group.create_array("label", data=np.arange(50, dtype=np.int64) % 4, chunks=(50,))
    features = open_features(path)
    assert features.access == "zarr"
    assert np.array_equal(features.pooled.numpy(), values)
    assert features.label.dtype == np.int32
    assert features.classes == ("0", "1", "2", "3")
    assert (features.dataset, features.modality, features.encoder_name) == ("birds", "image", "net")
    assert features.valid.all()
    assert (features.split == 255).all()
    assert features.id[49] == "49"
    assert find_stores(tmp_path)[0].sealed


def test_foreign_shards_like_ours_are_mapped_only_if_flat(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(300, 64)).astype(np.float16)
    group = zarr.create_group(tmp_path / "net.zarr")
    array = group.create_array(
        "pooled", shape=values.shape, dtype="float16", chunks=(64, 64), shards=(128, 64), compressors=None
    )
    array[:] = values
    features = open_features(tmp_path / "net.zarr")
    assert np.array_equal(features.pooled.numpy(), values)
    array[0:64] = 0  # zarr drops the chunk that became all zeros: what follows moves up
    features = open_features(tmp_path / "net.zarr")
    assert features.access == "zarr"
    assert np.array_equal(features.pooled.numpy()[64:], values[64:])
    assert not features.pooled.numpy()[:64].any()


def test_a_store_without_its_journal_record(maker: Maker) -> None:
    made = maker().fill()
    (made.path / "journal/plan.json").unlink()
    with pytest.raises(WorkError, match=r"has no journal/plan\.json"):
        open_features(made.path)


def test_rows_that_do_not_match_are_an_error(maker: Maker) -> None:
    made = maker().fill()
    metadata = json.loads((made.path / "label/zarr.json").read_text())
    metadata["shape"] = [299]
    (made.path / "label/zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(WorkError, match="label has 299 rows where 300 are expected"):
        open_features(made.path)


def test_stores_are_found_below_a_folder(sealed: Any, tmp_path: Path) -> None:
    feats = sealed.path.parents[2]
    assert [info.path for info in find_stores(feats)] == [sealed.path]
    assert [info.path for info in find_stores(sealed.path)] == [sealed.path]
    assert find_stores(tmp_path) == []
    with pytest.raises(InputError, match="does not exist"):
        find_stores(tmp_path / "none")
