"""Stores on object storage: in memory, and on moto's S3 server on loopback with two workers and a restart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from s3_server import S3Server, s3_server
from uml_cache import (
    InputError,
    WorkError,
    create_or_resume,
    find_stores,
    open_features,
    remote,
    store_path,
    verify,
)
from uml_cache.cli import main
from uml_cache.remote import RemotePath, as_path
from uml_cache.store import journal


def _fill(made: Any, path: str, tasks: list[int] | None = None) -> Any:
    """The same content as `made`'s, written at `path`."""
    store = create_or_resume(path, made.plan)
    for task in store.pending() if tasks is None else tasks:
        store.write_task(*made.arguments(task))
    return store


def _same(first: Any, second: Any) -> None:
    assert torch.equal(first.pooled, second.pooled)
    every = np.arange(len(first))
    assert torch.equal(first.tokens.packed(every)[0], second.tokens.packed(every)[0])
    assert (first.id, first.classes, first.groups) == (second.id, second.classes, second.groups)
    for name in ("label", "split", "status"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_paths() -> None:
    assert as_path("file:///a/b%20c") == Path("/a/b c")
    assert as_path("a/b") == Path("a/b")
    assert str(as_path(Path("s3://bucket/a"))) == "s3://bucket/a"
    place: Any = store_path("s3://bucket/feats/", "d", "text", "cupl", "hf:a/b")
    assert isinstance(place, RemotePath)
    assert str(place) == "s3://bucket/feats/d/text.cupl/hf_a_b.zarr"
    assert (place.name, place.stem, str(place.parent)) == (
        "hf_a_b.zarr",
        "hf_a_b",
        "s3://bucket/feats/d/text.cupl",
    )


def test_what_is_wrong_with_a_place_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(
        InputError, match=r"az://box: the storage account is unknown; set AZURE_STORAGE_ACCOUNT_NAME"
    ):
        as_path("az://box/feats").exists()
    with pytest.raises(InputError, match=r"ftp://box: cannot hold stores .*; expected a folder, s3://"):
        as_path("ftp://box/feats").exists()
    for url in ("gs://bucket/feats", "az://box/feats", "abfs://box/feats"):
        assert str(store_path(url, "d", "image", None, "pixels")) == f"{url}/d/image/pixels.zarr"

    class _NoCredentials:
        def __getattr__(self, name: str) -> Any:
            raise OSError("Generic GCS error: GET http://169.254.169.254/computeMetadata/v1/token")

    monkeypatch.setattr(remote, "_objects", lambda root: _NoCredentials())
    monkeypatch.setattr("obstore.head", lambda store, key: store.head)
    with pytest.raises(WorkError, match="gs://b: there are no credentials for it; set GOOGLE_APPLICATION"):
        as_path("gs://b/feats").exists()


def test_a_file_url_is_a_folder(sealed: Any) -> None:
    features = open_features(f"file://{sealed.path}")
    assert features.access == "mapped"
    _same(features, open_features(sealed.path))


def test_create_resume_verify_read(sealed: Any) -> None:
    url = "memory://one/feats/pets/image/net.zarr"
    store = _fill(sealed, url, [1, 0])
    assert (store.done(), store.pending(), store.sealed) == ({0, 1}, [2, 3, 4], False)
    with pytest.raises(InputError, match="is not finished"):
        open_features(url)
    assert not verify(url).ok
    store = _fill(sealed, url)
    assert store.sealed
    report = verify(url)
    assert (report.ok, report.checked) == (True, verify(sealed.path).checked)
    features = open_features(url)
    assert features.access == "zarr"
    _same(features, open_features(sealed.path))
    assert [str(info.path) for info in find_stores("memory://one/feats")] == [url]
    assert find_stores(url)[0].description()["arrays"]["pooled"]["bytes"] > 300 * 32 * 2
    with pytest.raises(InputError, match="cannot be mapped"):
        open_features(url, access="mapped")


def test_other_settings_and_damage(sealed: Any, maker: Any) -> None:
    url = "memory://two/net.zarr"
    store = _fill(sealed, url)
    other = maker(batch_size=17)
    with pytest.raises(InputError, match="batch_size: 16, now 17"):
        create_or_resume(url, other.plan)
    shard: Any = as_path(url) / "pooled" / "c" / "3" / "0"
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.unlink()
    assert shard.create(bytes(content))
    assert [(bad["array"], bad["shard"]) for bad in verify(url).bad] == [("pooled", "c/3/0")]
    shard.unlink()
    with pytest.raises(WorkError, match="is missing: the store is damaged"):
        open_features(url)
    assert store.pending() == [3]
    _fill(sealed, url)
    assert verify(url).ok
    record: Any = as_path(url) / "journal" / "2.json"
    record.unlink()
    record.create(b"{")
    assert store.pending() == [2]
    _fill(sealed, url)
    assert verify(url).ok


def test_a_worker_that_died_in_mid_task_and_one_that_sees_other_samples(sealed: Any) -> None:
    url = "memory://three/net.zarr"
    store = _fill(sealed, url, [0])
    record: Any = as_path(url) / "journal" / "0.json"
    whole = record.read_bytes()
    record.unlink()  # as if the worker had died between its shards and its record
    begun: Any = as_path(url) / "journal" / "0.begun"
    assert not begun.exists()
    begun.create(journal.record_bytes({"task": 0, "sources": None}))
    task, pooled, tokens, status, reasons, seconds = sealed.arguments(0)
    other = status.copy()
    other[1] = 1
    with pytest.raises(WorkError, match="read other samples; delete the object"):
        store.write_task(task, pooled, tokens, other, {}, seconds)
    store.write_task(task, pooled + np.float32(0.01), tokens, status, reasons, seconds)  # a GPU's last digits
    assert (
        json.loads(record.read_bytes())["files"] == json.loads(whole)["files"]
    )  # the first one's shards hold
    _fill(sealed, url)
    assert verify(url).ok
    _same(open_features(url), open_features(sealed.path))


@pytest.mark.parametrize("left", [None, {"task": 0, "sources": "of the files as they were"}])
def test_shards_that_were_made_of_other_files_are_not_taken_over(sealed: Any, left: Any) -> None:
    url = f"memory://left-{left is None}/net.zarr"
    store = _fill(sealed, url, [0])
    record: Any = as_path(url) / "journal" / "0.json"
    record.unlink()
    if left is not None:
        (record.parent / "0.begun").create(journal.record_bytes(left))
    task, pooled, *rest = sealed.arguments(0)
    store.write_task(task, pooled + 1, *rest, sources="of the files as they are")
    _fill(sealed, url)
    assert verify(url).ok
    found, was = open_features(url).pooled, open_features(sealed.path).pooled
    valid = sealed.status[: len(pooled)] == 0
    assert (found[: len(pooled)] != was[: len(pooled)]).any(dim=1).numpy()[valid].all()


@pytest.mark.parametrize("name", ["label/c/0", "id/c/0", "split/zarr.json", "zarr.json", "tokens/start/c/0"])
def test_objects_of_planning_are_made_again(sealed: Any, name: str) -> None:
    url = f"memory://planned-{name.replace('/', '-')}/net.zarr"
    _fill(sealed, url)
    lost: Any = as_path(url) / name
    data = lost.read_bytes()
    for state in (None, data[:-1] + bytes([data[-1] ^ 1])):
        lost.unlink() if state is None else lost.replace(state)
        assert not verify(url).ok
        create_or_resume(url, sealed.plan)
        assert verify(url).ok
        _same(open_features(url), open_features(sealed.path))


def test_a_damaged_object_is_found_before_it_is_used(sealed: Any) -> None:
    url = "memory://damaged/net.zarr"
    _fill(sealed, url)
    shard: Any = as_path(url) / "pooled" / "c" / "1" / "0"
    data = shard.read_bytes()
    shard.replace(data[:5] + bytes([data[5] ^ 1]) + data[6:])
    with pytest.raises(WorkError, match="pooled/c/1/0: the content does not match"):
        _ = open_features(url).pooled


@pytest.mark.parametrize("name", ["pooled/c/1/0", "status/c/2"])
@pytest.mark.parametrize("seen_by", ["opening", "verify"])
def test_damage_that_was_seen_is_mended_by_the_same_command(sealed: Any, name: str, seen_by: str) -> None:
    url = f"memory://mended/{seen_by}/{name}/net.zarr"
    _fill(sealed, url)
    shard: Any = as_path(url) / name
    data = shard.read_bytes()
    shard.replace(data[:5] + bytes([data[5] ^ 1]) + data[6:])
    if seen_by == "verify":
        assert not verify(url).ok
    else:
        with pytest.raises(WorkError, match="run the same `uml extract` or `uml cache import` command"):
            _ = open_features(url).pooled
    again = create_or_resume(url, sealed.plan)
    damaged = again.damaged(sorted(again.done()))
    assert damaged == [1 if name.startswith("pooled") else 2]
    again.unseal(damaged)
    _fill(sealed, url)
    assert verify(url).ok
    _same(open_features(url), open_features(sealed.path))
    assert again.damaged(sorted(again.done())) == []


def test_a_task_can_be_done_again(sealed: Any) -> None:
    url = "memory://again/net.zarr"
    store = _fill(sealed, url)
    assert [(row.row, row.task) for row in store.failed()] == [(5, 0), (290, 4)]
    store.unseal([0])
    assert store.pending() == [0]
    task, pooled, tokens, status, _, seconds = sealed.arguments(0)
    store.write_task(task, pooled, tokens, np.zeros_like(status), {}, seconds)
    assert verify(url).ok
    assert [row.row for row in store.failed()] == [290]


def test_workers_at_once(sealed: Any) -> None:
    url = "memory://four/net.zarr"
    failures: list[BaseException] = []

    def work(order: list[int]) -> None:
        try:
            _fill(sealed, url, order)
        except BaseException as error:
            failures.append(error)

    workers = [
        threading.Thread(target=work, args=(list(order),)) for order in (range(5), range(4, -1, -1), range(5))
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures
    assert verify(url).ok
    _same(open_features(url), open_features(sealed.path))


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    with s3_server(monkeypatch, bucket="cache") as server:
        yield server


_WORKER = """
import sys, time
sys.path[:0] = {paths!r}
from pathlib import Path
import conftest
from uml_cache import create_or_resume
made = conftest.make(Path({local!r}), failed=(5, 290))
store = create_or_resume({url!r}, made.plan)
print("planned", flush=True)
while pending := store.pending():
    task = pending[{pick} % len(pending)]
    store.write_task(*made.arguments(task))
    print(task, flush=True)
    time.sleep({pause})
"""


def _worker(tmp_path: Path, url: str, pick: int, pause: float) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    code = _WORKER.format(
        paths=[str(root), str(Path(__file__).parent)], local=str(tmp_path / f"local{pick}.zarr"),
        url=url, pick=pick, pause=pause,
    )  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.filterwarnings("ignore")  # moto's and boto's own
def test_s3_two_workers_and_a_restart(s3: S3Server, sealed: Any, tmp_path: Path) -> None:
    url = "s3://cache/feats/pets/image/net.zarr"
    workers = [_worker(tmp_path, url, pick, 0.3) for pick in (0, -1)]
    assert workers[0].stdout is not None
    assert workers[0].stdout.readline() == "planned\n"
    workers[0].stdout.readline()
    s3.stop()  # in mid-write; the workers' requests fail and are tried again
    time.sleep(1.5)
    s3.start()
    for worker in workers:
        out, err = worker.communicate(timeout=120)
        assert worker.returncode == 0, (out, err)
    report = verify(url)
    assert (report.ok, report.bad) == (True, [])
    _same(open_features(url), open_features(sealed.path))


@pytest.mark.filterwarnings("ignore")
def test_s3_creating_waits_for_a_server_that_comes_back(s3: S3Server) -> None:
    place = RemotePath("s3://cache", "feats/one.bin")
    place.exists()  # connected
    s3.stop()
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(place.create, b"one")
        time.sleep(0.5)
        assert not made.done()
        s3.start()
        assert made.result(timeout=60)
    assert place.read_bytes() == b"one"
    assert not place.create(b"two")


@pytest.mark.filterwarnings("ignore")
def test_s3_extraction_by_two_processes(
    s3: S3Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = tmp_path / "t.txt"
    texts.write_text("".join(f"line {row}\n" for row in range(300)))
    command = [
        "extract",
        "--encoder",
        "hashed-ngrams",
        "--data",
        str(texts),
        "--workers",
        "2",
        "--json",
        "--out",
    ]
    stores = []
    for place in ("s3://cache/feats", str(tmp_path / "feats")):
        with pytest.raises(SystemExit) as leaving:
            main([*command, place])
        captured = capsys.readouterr()
        assert not leaving.value.code, captured.err
        stores.append(json.loads(captured.out)["store"])
    assert stores[0] == "s3://cache/feats/t/text/hashed-ngrams.zarr"
    assert verify(stores[0]).ok
    assert torch.equal(open_features(stores[0]).pooled, open_features(stores[1]).pooled)


@pytest.mark.filterwarnings("ignore")
def test_s3_killed_worker_resume_and_commands(
    s3: S3Server, sealed: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "s3://cache/feats/pets/image/net.zarr"
    worker = _worker(tmp_path, url, 0, 60)
    assert worker.stdout is not None
    while worker.stdout.readline() not in ("0\n", ""):
        pass
    worker.kill()
    worker.communicate()
    assert create_or_resume(url, sealed.plan).pending() == [1, 2, 3, 4]
    _fill(sealed, url)
    _same(open_features(url), open_features(sealed.path))
    for arguments in (["ls", "s3://cache/feats"], ["info", url], ["verify", url]):
        with pytest.raises(SystemExit) as leaving:
            main(["cache", *arguments])
        assert not leaving.value.code
        assert url in capsys.readouterr().out
    with pytest.raises(SystemExit) as leaving:
        main(["cache", "verify", "s3://absent/x.zarr"])
    captured = capsys.readouterr()
    assert leaving.value.code in (1, 2)
    assert len(captured.err.splitlines()) == 1
    assert os.environ["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1")
