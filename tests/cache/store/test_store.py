"""Writing stores: planning, tasks, journal, resume, locks."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from uml_cache import InputError, WorkError, create_or_resume, open_features, recorded_plan, store_path
from uml_cache.files import disk
from uml_cache.store import journal
from uml_cache.store.feature_store import FeatureStore

Maker = Callable[..., Any]


def contents(path: Path) -> dict[str, bytes]:
    """Every file but the lock and the records, whose seconds differ."""
    files = (file for file in path.rglob("*") if file.is_file() and file.name != "lock")
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in files
        if not (file.parent.name == "journal" and file.stem.isdigit())
    }


def test_a_new_store_is_planned_and_empty(maker: Maker) -> None:
    made = maker()
    assert made.store.tasks == 5
    assert made.store.rows_of(4) == range(256, 300)
    assert made.store.pending() == [0, 1, 2, 3, 4]
    assert not made.store.sealed
    group = zarr.open_group(made.path, mode="r")
    assert {name for name, _ in group.members()} == {
        "pooled", "tokens", "label", "split", "id", "group", "status", "journal"
    }  # fmt: skip
    assert group.attrs["format_version"] == 1
    assert group.attrs["classes"] == ["cat", "dog", "Hündin"]
    assert group.attrs["versions"] == {"torch": "2"}
    assert group.metadata.consolidated_metadata is None


def test_resume_gives_the_same_bytes(maker: Maker) -> None:
    straight = maker("a.zarr").fill()
    halting = maker("b.zarr").fill([3, 0])
    store = create_or_resume(halting.path, halting.plan)
    assert store.done() == {0, 3}
    halting.store = store
    halting.fill()
    assert store.sealed
    assert contents(straight.path) == contents(halting.path)


def test_a_task_written_again_is_the_same(maker: Maker) -> None:
    made = maker().fill()
    before = contents(made.path)
    made.fill([2])
    assert made.store.sealed
    assert contents(made.path) == before


def test_records_list_files_and_failures(maker: Maker) -> None:
    made = maker(failed=(70,)).fill()
    record = json.loads((made.path / "journal" / "1.json").read_text())
    assert record["rows"] == 64
    assert record["seconds"] == 0.5
    assert record["failed"] == [{"row": 70, "id": "Bild/70ß", "reason": "cannot read"}]
    assert [entry["path"] for entry in record["files"]] == [
        "pooled/c/1/0",
        "tokens/values/c/1/0",
        "status/c/1",
    ]
    for entry in record["files"]:
        data = (made.path / entry["path"]).read_bytes()
        assert entry["sha256"] == hashlib.sha256(data).hexdigest()
        assert entry["bytes"] == len(data)


def test_failed_rows_are_zeros_whatever_came(maker: Maker) -> None:
    made = maker(token_dim=None, failed=(3,))
    made.pooled[3] = np.nan
    made.fill()
    group = zarr.open_group(made.path, mode="r")
    assert not group["pooled"][3].any()
    assert group["status"][:].nonzero()[0].tolist() == [3]


@pytest.mark.parametrize("crash_at", [0, 1, 2, 3])
def test_a_crash_inside_a_task_leaves_it_pending(
    maker: Maker, monkeypatch: pytest.MonkeyPatch, crash_at: int
) -> None:
    made = maker().fill([0])
    replaced = []
    replace = os.replace

    def failing(source: Any, target: Any) -> None:
        if len(replaced) == crash_at:
            raise KeyboardInterrupt
        replaced.append(target)
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing)
        with pytest.raises(KeyboardInterrupt):
            made.fill([1])
    assert made.store.pending() == [1, 2, 3, 4]
    made.fill()
    assert made.store.sealed
    assert contents(made.path) == contents(maker("other.zarr").fill().path)


def test_leftovers_are_ignored_and_cleared_by_who_locks(maker: Maker) -> None:
    made = maker().fill()
    leftover = made.path / "pooled" / "c" / "1" / f"0.{'a' * 32}.tmp"
    leftover.write_bytes(b"half a shard")
    assert create_or_resume(made.path, made.plan).sealed
    assert leftover.exists()  # a run without the lock must not touch what may be in use
    with made.store.lock():
        assert not leftover.exists()


def test_a_lost_shard_makes_its_task_pending(maker: Maker) -> None:
    made = maker().fill()
    (made.path / "pooled/c/2/0").unlink()
    assert made.store.pending() == [2]
    (made.path / "journal" / "4.json").write_text("{")
    assert made.store.pending() == [2, 4]


def test_lost_planning_files_come_back(maker: Maker) -> None:
    made = maker().fill()
    before = contents(made.path)
    (made.path / "label/c/0").unlink()
    (made.path / "zarr.json").write_text("{}")
    assert create_or_resume(made.path, made.plan).sealed
    assert contents(made.path) == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"dtype": "float32"}, 'dtype: "float16", now "float32"'),
        (
            {"encoder": {"name": "hf:org/net", "pooling": "mean"}},
            'encoder.pooling: "cls", now "mean"',
        ),
        (
            {"encoder": {"name": "hf:org/net", "transform": {"size": 98}}},
            "encoder.transform.size: 224, now",
        ),
        ({"manifest_digest": "n" * 64}, "manifest_digest: "),
        ({"compute_dtype": "bfloat16"}, "compute_dtype: "),
        ({"batch_size": 8}, "batch_size: 16, now 8"),
        ({"token_dim": None}, "token_dim: 32, now null"),
    ],
)
def test_another_fingerprint_is_refused(maker: Maker, change: dict[str, Any], named: str) -> None:
    maker().fill([0])
    with pytest.raises(InputError) as refusal:
        maker(**change)
    assert named in str(refusal.value)
    assert "--out" in str(refusal.value)


def test_versions_and_device_are_not_compared(maker: Maker) -> None:
    maker().fill([0])
    made = maker(versions={"torch": "3"}, device="cuda")
    assert made.store.done() == {0}
    assert recorded_plan(made.path)["batch_size"] == 16


def test_a_path_that_holds_something_else(tmp_path: Path, maker: Maker) -> None:
    (tmp_path / "store.zarr").mkdir()
    with pytest.raises(InputError, match="is no feature store"):
        maker()
    (tmp_path / "file.zarr").write_text("")
    with pytest.raises(InputError, match="is no feature store"):
        maker("file.zarr")
    assert recorded_plan(tmp_path / "nothing.zarr") is None


def test_planning_that_fails_leaves_nothing(
    tmp_path: Path, maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(journal, "write_record", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            maker()
    assert list(tmp_path.iterdir()) == []


def test_abandoned_drafts_are_cleared(tmp_path: Path, maker: Maker) -> None:
    abandoned = tmp_path / f".uml-{'0' * 32}.tmp"
    (abandoned / "other.zarr").mkdir(parents=True)
    with disk.scratch_folder(tmp_path) as busy:
        disk._tidied.clear()
        maker()
        assert sorted(path.name for path in tmp_path.iterdir()) == [busy.name, "store.zarr"]


def test_a_store_that_is_read_is_not_written_anew(maker: Maker) -> None:
    made = maker().fill()
    features = open_features(made.path)
    with pytest.raises(InputError, match="is being read"):
        made.store.unseal([1])
    assert made.store.sealed
    features.close()
    made.store.unseal([1])
    assert made.store.pending() == [1]


def test_runs_that_plan_at_once_end_up_with_one_store(maker: Maker) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: maker(), range(4)))
    assert {one.store.fingerprint for one in made} == {made[0].store.fingerprint}
    assert [path.name for path in made[0].path.parent.iterdir()] == ["store.zarr"]
    assert made[0].fill().store.sealed


def test_one_writer_at_a_time(maker: Maker) -> None:
    made = maker()
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom uml_cache.store.locks import writer_lock\n"
        f"with writer_lock(Path({str(made.path)!r})):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=rf"another run \(process {other.pid}\)"), made.store.lock():
            pass
        other.kill()
        other.wait()
    for _ in range(100):  # the kernel drops the lock with the process
        try:
            with made.store.lock():
                return
        except InputError:
            time.sleep(0.02)
    pytest.fail("the lock outlived its process")


@pytest.mark.parametrize(
    ("value", "words"),
    [(np.nan, "not finite"), (np.inf, "not finite"), (7e4, "7e\\+04 is too large for float16")],
)
@pytest.mark.parametrize("part", ["pooled", "tokens"])
def test_values_that_cannot_be_stored(maker: Maker, part: str, value: float, words: str) -> None:
    made = maker()
    counts = made.plan.token_counts
    row = int(np.flatnonzero(counts)[9])
    if part == "pooled":
        made.pooled[row, 3] = value
    else:
        made.tokens[counts[:row].sum(), 3] = value
    with pytest.raises(WorkError, match=words) as stop:
        made.fill([0])
    assert f"Bild/{row}ß" in str(stop.value)
    assert "--dtype float32" in str(stop.value)
    assert made.store.pending() == [0, 1, 2, 3, 4]


def test_float32_stores_large_values(maker: Maker) -> None:
    made = maker(dtype="float32", token_dim=None)
    made.pooled[0, 0] = 7e4
    made.fill()
    assert zarr.open_group(made.path, mode="r")["pooled"][0, 0] == np.float32(7e4)


def test_wrong_shapes_are_told(maker: Maker) -> None:
    made = maker()
    task, pooled, tokens, status, reasons, seconds = made.arguments(0)
    store: FeatureStore = made.store
    with pytest.raises(ValueError, match=r"pooled needs shape \(64, 32\), got shape \(63, 32\)"):
        store.write_task(task, pooled[:-1], tokens, status, reasons, seconds)
    with pytest.raises(ValueError, match="tokens/values needs shape"):
        store.write_task(task, pooled, None, status, reasons, seconds)
    with pytest.raises(ValueError, match="the plan has no pooled"):
        maker("t.zarr", dim=None).store.write_task(task, pooled, tokens, status, reasons, seconds)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dtype": "int8"}, "unknown storage dtype 'int8'"),
        ({"dim": None, "token_dim": None}, "pooled features, tokens or both"),
        ({"classes": ["cat"]}, "labels go from"),
        ({"ids": ["same"] * 300}, "more than once"),
        ({"splits": np.full(300, 7, np.uint8)}, "splits are 0, 1, 2"),
    ],
)
def test_plans_that_make_no_sense(maker: Maker, change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        maker(**change)


def test_store_path() -> None:
    path = store_path("feats", "oxford/pets", "text", "cupl", "timm:vit/s", "tokens")
    assert path == Path("feats/oxford_pets/text.cupl/timm_vit_s@tokens.zarr")
    assert store_path("f", "d", "image", None, "hog") == Path("f/d/image/hog.zarr")
    with pytest.raises(InputError, match="cannot name a folder"):
        store_path("f", "..", "image", None, "hog")


def test_planning_is_fast(maker: Maker) -> None:
    made = maker(rows=200_000, dim=1, token_dim=None, groups=None)
    began = time.process_time()
    create_or_resume(made.path.with_name("again.zarr"), made.plan)
    assert time.process_time() - began < 2
